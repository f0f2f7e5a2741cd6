//! `meshctl graph`: who calls whom, as a picture of what was judged.

mod dot;
mod layout;
mod mermaid;
mod svg;
mod text;

use std::collections::BTreeMap;

use weft_policy::{Flow, Judged};

use crate::failure::Answer;
use crate::flows::{FlowsAsked, caller, read, warn};
use crate::session::Session;

/// Draws flows as a graph of workloads and services.
#[derive(Debug, clap::Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    asked: FlowsAsked,
    /// How to draw it.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    format: GraphFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum GraphFormat {
    #[default]
    Text,
    /// For Graphviz.
    Dot,
    /// For documents that draw Mermaid.
    Mermaid,
    /// A picture.
    Svg,
}

/// A workload and the service of the same name are one node.
#[derive(Debug, Default, PartialEq, Eq)]
struct Graph {
    nodes: Vec<String>,
    edges: Vec<Edge>,
}

/// What went from one node to another, judged alike.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: usize,
    to: usize,
    verdict: Verdict,
    /// By port.
    counts: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allowed,
    Learned,
    Denied,
}

pub(crate) async fn run(args: GraphArgs, session: &Session) -> anyhow::Result<Answer> {
    let context = session.context().await?;
    let client = crate::client::Client::connect(&context).await?;
    let traffic = read(&client, &args.asked).await?;
    let graph = Graph::of(&traffic.flows, context.bundle.trust_domain.as_str());
    session.out.raw(match args.format {
        GraphFormat::Text => text::draw(&graph),
        GraphFormat::Dot => dot::draw(&graph),
        GraphFormat::Mermaid => mermaid::draw(&graph),
        GraphFormat::Svg => svg::draw(&graph),
    })?;
    warn(&traffic, &session.out);
    Ok(Answer::Yes)
}

impl Graph {
    /// Names and edges in order, so that equal flows are drawn equally.
    fn of(flows: &[Flow], own: &str) -> Self {
        let mut found: BTreeMap<(String, String, Verdict), BTreeMap<String, u64>> = BTreeMap::new();
        for flow in flows {
            let source = caller(&flow.key.source, own);
            let target = &flow.key.target;
            let edge = (
                source,
                target.service.to_string(),
                Verdict::of(&flow.key.judged),
            );
            let count = found
                .entry(edge)
                .or_default()
                .entry(target.port.to_string())
                .or_default();
            *count = count.saturating_add(flow.count);
        }
        let mut nodes: Vec<String> = found
            .keys()
            .flat_map(|(from, to, _)| [from.clone(), to.clone()])
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let place = |name: &String| nodes.binary_search(name).unwrap_or_default();
        let edges = found.iter().map(|((from, to, verdict), counts)| Edge {
            from: place(from),
            to: place(to),
            verdict: *verdict,
            counts: counts.clone(),
        });
        Self {
            edges: edges.collect(),
            nodes,
        }
    }

    fn name(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("", String::as_str)
    }
}

impl Edge {
    fn count(&self) -> u64 {
        self.counts
            .values()
            .fold(0, |sum, count| u64::saturating_add(sum, *count))
    }

    /// `http 120, grpc 3`.
    fn label(&self) -> String {
        let counts = self.counts.iter();
        let texts: Vec<String> = counts
            .map(|(port, count)| format!("{port} {count}"))
            .collect();
        texts.join(", ")
    }
}

impl Verdict {
    fn of(judged: &Judged) -> Self {
        match judged {
            Judged::Allowed(_) => Self::Allowed,
            Judged::Learned(_) => Self::Learned,
            Judged::Denied(_) => Self::Denied,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Learned => "learned",
            Self::Denied => "denied",
        }
    }

    /// Distinct also for those who see no red and green; what is denied is dashed besides.
    fn colour(self) -> &'static str {
        match self {
            Self::Allowed => "#1b6ca8",
            Self::Learned => "#b07a00",
            Self::Denied => "#c0392b",
        }
    }
}

#[cfg(test)]
mod tests;
