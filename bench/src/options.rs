//! What the user asks of a run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::peers::{self, Peer};
use crate::workloads::{self, Workload};

/// Measures Weft beside Envoy, HAProxy, nginx and no proxy at all.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One round of short cells: about 3 minutes, to see that all works; its figures are rough.
    #[arg(long)]
    quick: bool,
    /// How often each peer is measured; the peers take turns [default: 3, with --quick 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Peers, separated by commas: `envoy` means both of its modes, `envoy-h2` one.
    #[arg(long, value_name = "PEERS", value_delimiter = ',')]
    only: Vec<String>,
    /// Workloads, separated by commas.
    #[arg(long, value_name = "WORKLOADS", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Where weft-sidecar, weft-control-plane and meshctl lie [default: target/dist of the workspace]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Where the results are written [default: results beside this benchmark's sources]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leaves the folders of configurations and logs where they are and says where.
    #[arg(long)]
    keep: bool,
}

/// The same, checked and filled in.
#[derive(Debug)]
pub(crate) struct Plan {
    pub rounds: usize,
    pub peers: Vec<Peer>,
    pub workloads: Vec<Workload>,
    pub times: Times,
    pub binaries: PathBuf,
    pub out: PathBuf,
    pub keep: bool,
}

/// How long a cell runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub warm_up: Duration,
    pub measured: Duration,
    /// The downloads of `mixed` take a while to settle.
    pub mixed: Duration,
}

impl Options {
    /// Converts, or says what is wrong.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 3 });
        if rounds == 0 {
            bail!("--rounds must be at least 1");
        }
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let out = self.out.clone().unwrap_or_else(|| here.join("results"));
        // the programs are started in folders of their own, where a relative path would mean something else
        let binaries = match &self.binaries {
            Some(given) => given
                .canonicalize()
                .with_context(|| format!("--binaries: `{}` cannot be opened", given.display()))?,
            None => here.join("../target/dist"),
        };
        Ok(Plan {
            rounds,
            peers: selected("--only", &self.only, peers::ALL, |peer, name| {
                peer.name() == name || peer.program() == name
            })?,
            workloads: selected(
                "--workloads",
                &self.workloads,
                workloads::ALL,
                |load, name| load.name() == name,
            )?,
            times: if self.quick { QUICK } else { THOROUGH },
            binaries,
            out,
            keep: self.keep,
        })
    }
}

/// Those of `all` that any of the names means, in the order of `all`; no name means every one.
fn selected<T: Copy + Named>(
    option: &str,
    names: &[String],
    all: &[T],
    means: impl Fn(T, &str) -> bool,
) -> anyhow::Result<Vec<T>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|one| means(*one, name)))
    {
        let known: Vec<&str> = all.iter().map(Named::name).collect();
        bail!(
            "{option}: `{unknown}` is not known; there are {}",
            known.join(", ")
        );
    }
    Ok(all
        .iter()
        .copied()
        .filter(|one| names.is_empty() || names.iter().any(|name| means(*one, name)))
        .collect())
}

/// What has a name on the command line.
pub(crate) trait Named {
    fn name(&self) -> &'static str;
}

const QUICK: Times = Times {
    warm_up: Duration::from_millis(400),
    measured: Duration::from_millis(1200),
    mixed: Duration::from_millis(2500),
};
const THOROUGH: Times = Times {
    warm_up: Duration::from_secs(1),
    measured: Duration::from_secs(4),
    mixed: Duration::from_secs(8),
};
