//! The graph in Mermaid's language.

use std::fmt::Write as _;

use super::{Graph, Verdict};

pub(super) fn draw(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, name) in graph.nodes.iter().enumerate() {
        let _ = writeln!(text, "  n{number}[{}]", quoted(name));
    }
    for edge in &graph.edges {
        let arrow = match edge.verdict {
            Verdict::Allowed | Verdict::Learned => "-->",
            Verdict::Denied => "-.->",
        };
        let label = format!("{} ({})", edge.label(), edge.verdict.as_str());
        let _ = writeln!(
            text,
            "  n{} {arrow}|{}| n{}",
            edge.from,
            quoted(&label),
            edge.to
        );
    }
    for (number, edge) in graph.edges.iter().enumerate() {
        let _ = writeln!(
            text,
            "  linkStyle {number} stroke:{}",
            edge.verdict.colour()
        );
    }
    text
}

/// A quoted label: what is no letter or digit of a name is written as its number, so that nothing in it is taken for Mermaid or HTML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '#' | ';' | '<' | '>' | '&' | '`' | '\\' => {
                let _ = write!(quoted, "#{};", u32::from(character));
            }
            other if other.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
