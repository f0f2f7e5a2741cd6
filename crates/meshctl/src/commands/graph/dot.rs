//! The graph in Graphviz's language.

use std::fmt::Write as _;

use super::{Graph, Verdict};

pub(super) fn draw(graph: &Graph) -> String {
    let mut text = String::from(
        "digraph flows {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for name in &graph.nodes {
        let _ = writeln!(text, "  {};", quoted(name));
    }
    for edge in &graph.edges {
        let style = match edge.verdict {
            Verdict::Allowed | Verdict::Learned => "solid",
            Verdict::Denied => "dashed",
        };
        let label = format!("{} ({})", edge.label(), edge.verdict.as_str());
        let _ = writeln!(
            text,
            "  {} -> {} [label={}, color=\"{}\", style={style}];",
            quoted(graph.name(edge.from)),
            quoted(graph.name(edge.to)),
            quoted(&label),
            edge.verdict.colour(),
        );
    }
    text.push_str("}\n");
    text
}

/// In a quoted name only the quote must be escaped, and a backslash begins an escape of labels.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            other if other.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
