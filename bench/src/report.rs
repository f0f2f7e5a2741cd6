//! What a run found: kept cell by cell, told while it runs, published as Markdown and JSON.

use std::path::Path;

use anyhow::Context as _;

use crate::measured::{Figure, Metric};
use crate::peers::Peer;
use crate::workloads::Workload;

mod conditions;
mod json;
mod markdown;
mod statistics;

pub(crate) use conditions::Conditions;

/// Everything that a run found.
#[derive(Debug)]
pub(crate) struct Results {
    pub conditions: Conditions,
    rounds: Vec<(Workload, Peer, Cell)>,
}

/// One workload of one peer in one round.
#[derive(Debug)]
pub(crate) enum Cell {
    /// The first failure, if any request failed.
    Measured {
        figures: Vec<Figure>,
        failure: Option<String>,
    },
    /// This peer cannot have it.
    Absent(String),
    Failed(String),
}

impl Cell {
    /// What is wrong with it.
    pub(crate) fn trouble(&self) -> Option<String> {
        match self {
            Self::Measured { failure, .. } => failure
                .as_ref()
                .map(|failure| format!("a request failed: {failure}")),
            Self::Absent(_) => None,
            Self::Failed(why) => Some(format!("failed: {why}")),
        }
    }

    fn value(&self, metric: Metric) -> Option<f64> {
        match self {
            Self::Measured { figures, .. } => figures
                .iter()
                .find(|figure| figure.metric == metric)
                .map(|figure| figure.value),
            Self::Absent(_) | Self::Failed(_) => None,
        }
    }
}

impl Results {
    pub(crate) fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            rounds: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, workload: Workload, peer: Peer, cell: Cell) {
        self.rounds.push((workload, peer, cell));
    }

    /// Whether no cell failed and no request did.
    pub(crate) fn is_clean(&self) -> bool {
        self.rounds
            .iter()
            .all(|(_, _, cell)| cell.trouble().is_none())
    }

    /// The workloads that were run, in their order.
    fn workloads(&self) -> Vec<Workload> {
        let ran = |workload: &&Workload| self.rounds.iter().any(|(ran, _, _)| ran == *workload);
        crate::workloads::ALL.iter().filter(ran).copied().collect()
    }

    /// The peers that were measured, in their order.
    fn peers(&self) -> Vec<Peer> {
        let ran = |peer: &&Peer| self.rounds.iter().any(|(_, ran, _)| ran == *peer);
        crate::peers::ALL.iter().filter(ran).copied().collect()
    }

    /// The rounds of one cell.
    fn cells(&self, workload: Workload, peer: Peer) -> impl Iterator<Item = &Cell> {
        self.rounds
            .iter()
            .filter(move |(w, p, _)| *w == workload && *p == peer)
            .map(|(_, _, cell)| cell)
    }

    /// The metrics of one workload, in the order in which they were measured.
    fn metrics(&self, workload: Workload) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for peer in self.peers().into_iter().rev() {
            for cell in self.cells(workload, peer) {
                if let Cell::Measured { figures, .. } = cell {
                    for figure in figures {
                        if !metrics.contains(&figure.metric) {
                            metrics.push(figure.metric);
                        }
                    }
                }
            }
        }
        metrics
    }

    /// One value a round.
    fn values(&self, workload: Workload, peer: Peer, metric: Metric) -> Vec<f64> {
        self.cells(workload, peer)
            .filter_map(|cell| cell.value(metric))
            .collect()
    }

    /// Weft's values and the peer's, of the rounds that have both.
    fn pairs(&self, workload: Workload, peer: Peer, metric: Metric) -> Vec<(f64, f64)> {
        let ours = self.cells(workload, Peer::Weft);
        ours.zip(self.cells(workload, peer))
            .filter_map(|(ours, theirs)| Some((ours.value(metric)?, theirs.value(metric)?)))
            .collect()
    }
}

/// Prints the table and writes both files into `folder`.
#[expect(clippy::print_stdout, reason = "the table is the output")]
pub(crate) fn publish(results: &Results, folder: &Path) -> anyhow::Result<()> {
    let text = markdown::render(results);
    println!("{text}");
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(&json::render(results))?;
    let name = &results.conditions.name;
    for (extension, content) in [("md", &text), ("json", &json)] {
        let path = folder.join(format!("{name}.{extension}"));
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
        progress(&format!("written: {}", path.display()));
    }
    Ok(())
}

/// A line on how far the run is.
#[expect(clippy::print_stderr, reason = "standard output holds the table alone")]
pub(crate) fn progress(line: &str) {
    eprintln!("bench: {line}");
}

/// A line on what went wrong.
pub(crate) fn complain(line: &str) {
    progress(&format!("! {line}"));
}
