//! The graph as lines: each caller, and under it whom it called.

use std::fmt::Write as _;

use super::Graph;
use crate::output::printable;

pub(super) fn draw(graph: &Graph) -> String {
    let mut text = String::new();
    let mut last = None;
    for edge in &graph.edges {
        if last != Some(edge.from) {
            let _ = writeln!(text, "{}", printable(graph.name(edge.from)));
            last = Some(edge.from);
        }
        for (port, count) in &edge.counts {
            let target = format!("{}:{port}", graph.name(edge.to));
            let verdict = edge.verdict.as_str();
            let _ = writeln!(text, "  → {:<32} {verdict:<8} {count}", printable(&target));
        }
    }
    text
}
