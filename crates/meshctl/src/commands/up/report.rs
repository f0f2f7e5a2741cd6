//! What `up` tells once the mesh runs: one table for people, or one JSON object on one line for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;
use weft_identity::{SpiffeId, TrustDomain};

use crate::output::Table;

use super::mesh_file::{MeshFile, TryLine};
use super::placeholders;
use super::plan::{ControlPlaneAddresses, Replica};

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
        mesh: &MeshFile,
        control_plane: &ControlPlaneAddresses,
        replicas: &[Replica],
        state: &super::state::State,
        may_call: impl Fn(&SpiffeId) -> Vec<String>,
        outcome: &Outcome,
    ) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for line in &mesh.try_lines {
            lines.push(try_line(line, replicas)?);
        }
        Ok(Self {
            trust_domain: mesh.trust_domain.clone(),
            control_plane: ControlPlane {
                api: control_plane.api,
                attestation: control_plane.attestation,
                admin: control_plane.admin,
                runtime: shown(&state.runtime.join(super::CONTROL_PLANE)),
            },
            context: shown(&state.folder),
            workloads: replicas
                .iter()
                .map(|replica| Workload::new(replica, &mesh.trust_domain, state, &may_call))
                .collect(),
            r#try: lines,
            revision: outcome.revision,
            sidecars: replicas.len(),
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
    fn new(
        replica: &Replica,
        trust_domain: &TrustDomain,
        state: &super::state::State,
        may_call: impl Fn(&SpiffeId) -> Vec<String>,
    ) -> Self {
        let spiffe_id = SpiffeId::for_workload(trust_domain, &replica.workload.name);
        Self {
            name: replica.workload.name.to_string(),
            instance: replica.instance.clone(),
            may_call: may_call(&spiffe_id),
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

fn try_line(line: &TryLine, replicas: &[Replica]) -> anyhow::Result<Try> {
    let Some(replica) = replicas
        .iter()
        .find(|replica| replica.workload.name == line.from)
    else {
        anyhow::bail!("no workload is named {}", line.from);
    };
    let url = placeholders::expand(&line.url, &replica.values)?;
    let command = if line.direct {
        format!("curl -sS -i {url}")
    } else {
        format!("curl -sS -i -x http://{} {url}", replica.values.proxy)
    };
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
