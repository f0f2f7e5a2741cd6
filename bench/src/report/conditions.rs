//! Under which conditions a run was made: without them its figures mean nothing.

use serde::Serialize;

use crate::network::Network;
use crate::options::Plan;
use crate::peers::Cpus;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conditions {
    /// Names the files of the results: when the run began.
    #[serde(rename = "began")]
    pub name: String,
    pub rounds: usize,
    pub seconds_per_cell: f64,
    pub machine: String,
    pub kernel: String,
    pub network: String,
    pub load_before: String,
    pub load_after: String,
    pub versions: Vec<String>,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

impl Conditions {
    pub(crate) fn now(plan: &Plan, network: &Network, cpus: Cpus, versions: Vec<String>) -> Self {
        let load = load();
        let mut warnings = Vec::new();
        if let Some(why) = &network.loopback {
            warnings.push(format!(
                "no network namespaces ({why}): everything runs on loopback, with the host's congestion control ({})",
                word("/proc/sys/net/ipv4/tcp_congestion_control")
            ));
        }
        if cpus.proxies.is_none() {
            warnings.push("one CPU: proxies, load and backend share it".to_owned());
        }
        let busy = load.split(' ').next().and_then(|load| load.parse().ok());
        if busy.is_some_and(|load: f64| load > IDLE_LOAD) {
            warnings.push(format!(
                "the machine was busy when the run began (load {load}): compare nothing"
            ));
        }
        Self {
            name: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H%M%SZ")
                .to_string(),
            rounds: plan.rounds,
            seconds_per_cell: plan.times.measured.as_secs_f64(),
            machine: machine(),
            kernel: word("/proc/sys/kernel/osrelease"),
            network: match network.loopback {
                None => "two network namespaces joined by veth, cubic".to_owned(),
                Some(_) => "loopback".to_owned(),
            },
            load_after: load.clone(),
            load_before: load,
            versions,
            warnings,
        }
    }

    /// Looks at the machine again.
    pub(crate) fn finish(&mut self) {
        self.load_after = load();
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown CPU", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} x {model}")
}

fn load() -> String {
    let text = word("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn word(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// More than this, and somebody else is at work.
const IDLE_LOAD: f64 = 0.7;
