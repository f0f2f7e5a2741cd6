//! What `up` tells once the mesh runs: one table for people, or one JSON object on one line for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;
use weft_identity::{SpiffeId, TrustDomain};

use crate::output::Table;

use super::mesh_file::TryLine;
use super::placeholders;
use super::plan::{Launch, Replica};
use super::start::Running;
use super::suggestions;

/// Everything that is told; its JSON form is the answer of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    trust_domain: TrustDomain,
    control_plane: ControlPlane,
    /// The folder to give to `--context`.
    context: String,
    workloads: Vec<Workload>,
    r#try: Vec<Try>,
    /// The revision that every sidecar has acknowledged.
    revision: u64,
    sidecars: usize,
    elapsed_ms: u128,
    isolation: &'static str,
}

#[derive(Debug, Serialize)]
struct ControlPlane {
    /// When this was printed.
    pid: Option<u32>,
    api: SocketAddr,
    attestation: SocketAddr,
    admin: SocketAddr,
    runtime: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Workload {
    name: String,
    instance: String,
    /// The program's and the sidecar's, when this was printed.
    pid: Option<u32>,
    sidecar_pid: Option<u32>,
    spiffe_id: SpiffeId,
    /// Where the program listens, by port name.
    ports: BTreeMap<String, SocketAddr>,
    inbound: SocketAddr,
    proxy: SocketAddr,
    admin: SocketAddr,
    upstreams: BTreeMap<String, SocketAddr>,
    /// Service ports that the allow-list opens for it.
    may_call: Vec<String>,
    runtime: String,
    log: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Try {
    command: String,
    expect_status: u16,
}

/// What is known only after the start.
pub(super) struct Outcome {
    pub(super) revision: u64,
    pub(super) elapsed: std::time::Duration,
}

impl Report {
    pub(super) fn new(
        launch: Launch<'_>,
        running: &Running,
        outcome: &Outcome,
    ) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for line in try_lines(launch).iter() {
            lines.push(try_line(line, launch.replicas)?);
        }
        let workload = |replica| Workload::new(replica, launch, running);
        Ok(Self {
            trust_domain: launch.mesh.trust_domain.clone(),
            control_plane: ControlPlane {
                pid: running.control_plane_pid(),
                api: launch.addresses.api,
                attestation: launch.addresses.attestation,
                admin: launch.addresses.admin,
                runtime: shown(&launch.state.runtime.join(super::CONTROL_PLANE)),
            },
            context: shown(&launch.state.folder),
            workloads: launch.replicas.iter().map(workload).collect(),
            r#try: lines,
            revision: outcome.revision,
            sidecars: launch.replicas.len(),
            elapsed_ms: outcome.elapsed.as_millis(),
            isolation: ISOLATION,
        })
    }

    /// The table, the lines to paste, and what the mesh does not do.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new([
            "WORKLOAD",
            "SPIFFE ID",
            "LISTENS",
            "INBOUND (mTLS)",
            "HTTP PROXY",
            "MAY CALL",
        ]);
        for workload in &self.workloads {
            let listens: Vec<String> = workload
                .ports
                .iter()
                .map(|(name, at)| format!("{name} {at}"))
                .collect();
            table.row([
                workload.instance.clone(),
                workload.spiffe_id.to_string(),
                or_nothing(listens.join(", ")),
                workload.inbound.to_string(),
                workload.proxy.to_string(),
                or_nothing(workload.may_call.join(", ")),
            ]);
        }
        let mut text = table.render();
        let _ = writeln!(
            text,
            "\n{} sidecars enforce revision {} ({} ms after the start). Ctrl-C stops the mesh.",
            self.sidecars, self.revision, self.elapsed_ms
        );
        for line in &self.r#try {
            let _ = writeln!(text, "  {}   # {}", line.command, line.expect_status);
        }
        let _ = writeln!(
            text,
            "Why was a call refused? meshctl why DECISION-ID (context: {})",
            self.context
        );
        let _ = writeln!(text, "{ISOLATION}");
        text
    }
}

impl Workload {
    fn new(replica: &Replica, launch: Launch<'_>, running: &Running) -> Self {
        let (trust_domain, state) = (&launch.mesh.trust_domain, launch.state);
        let spiffe_id = SpiffeId::for_workload(trust_domain, &replica.workload.name);
        let (pid, sidecar_pid) = running.pids(&replica.instance);
        Self {
            name: replica.workload.name.to_string(),
            instance: replica.instance.clone(),
            pid,
            sidecar_pid,
            may_call: launch.resources.may_call(&spiffe_id, trust_domain),
            spiffe_id,
            ports: replica
                .values
                .ports
                .iter()
                .map(|(name, &at)| (name.to_string(), at))
                .collect(),
            inbound: replica.inbound,
            proxy: replica.values.proxy,
            admin: replica.admin,
            upstreams: replica
                .values
                .upstreams
                .iter()
                .map(|(to, &at)| (to.to_string(), at))
                .collect(),
            runtime: shown(&state.runtime.join(&replica.instance)),
            log: shown(&state.log_file(&super::sidecar_name(&replica.instance))),
        }
    }
}

/// The file's own lines; without any, lines that show the allow-list at work.
fn try_lines(launch: Launch<'_>) -> Cow<'_, [TryLine]> {
    let Launch {
        mesh, resources, ..
    } = launch;
    if !mesh.try_lines.is_empty() {
        return Cow::Borrowed(&mesh.try_lines);
    }
    let world = resources.world(&mesh.trust_domain);
    Cow::Owned(suggestions::lines(&world, mesh, &resources.services))
}

fn try_line(line: &TryLine, replicas: &[Replica]) -> anyhow::Result<Try> {
    let Some(replica) = replicas
        .iter()
        .find(|replica| replica.workload.name == line.from)
    else {
        anyhow::bail!("no workload is named {}", line.from);
    };
    let url = placeholders::expand(&line.url, &replica.values)?;
    let mut command = String::from("curl -sS -i");
    if line.method != "GET" {
        let _ = write!(command, " -X {}", line.method);
    }
    if !line.direct {
        let _ = write!(command, " -x http://{}", replica.values.proxy);
    }
    let _ = write!(command, " {url}");
    Ok(Try {
        command,
        expect_status: line.expect_status,
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn or_nothing(text: String) -> String {
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        text
    }
}

const ISOLATION: &str = "Workloads under one user on one host are not isolated from each other: any of them can read the others' keys.";
