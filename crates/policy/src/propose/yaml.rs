//! A proposed rule as a document to apply, in the layout that people write by hand.
//!
//! Invariant: what came from peers stands in comments without control characters, so that no comment ends early.

use std::fmt::Write as _;

use super::Evidence;
use crate::grpc;
use crate::http::HttpCondition;
use crate::lists::Match;
use crate::rule::Rule;
use crate::suggest::{list, quoted, source_fields};

pub(super) fn document(rule: &Rule, evidence: &Evidence) -> String {
    // writing to a String cannot fail
    let mut yaml = comment(evidence);
    let _ = write!(
        yaml,
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {}, namespace: {}}}\nspec:\n",
        quoted(&rule.name.name),
        quoted(&rule.name.namespace)
    );
    let service = quoted(&rule.service.name);
    let ports = list(rule.ports.listed());
    let _ = writeln!(yaml, "  to: {{service: {service}, ports: {ports}}}");
    for (name, sources) in source_fields(&rule.from) {
        field(&mut yaml, "  ", name, &sources);
    }
    if let Match::OneOf(conditions) = &rule.http {
        yaml.push_str("  http:\n");
        for http in conditions {
            condition(&mut yaml, http);
        }
    }
    yaml
}

fn comment(evidence: &Evidence) -> String {
    let mut text = format!("# Seen {} times", evidence.count);
    if let (Some(first), Some(last)) = (evidence.first_seen, evidence.last_seen) {
        let _ = write!(text, ", first {first:.0}, last {last:.0}");
    }
    if evidence.paths > 0 {
        let _ = write!(text, ", {} different paths", evidence.paths);
    }
    text.push_str(":\n");
    for example in &evidence.examples {
        let shown: String = example.text.escape_debug().collect();
        let _ = writeln!(text, "#   {} × {shown}", example.count);
    }
    if evidence.more > 0 {
        let _ = writeln!(text, "#   and {} others", evidence.more);
    }
    text
}

fn condition(yaml: &mut String, condition: &HttpCondition) {
    let mut parts = String::new();
    let indent = "      ";
    match grpc::of_http(&condition.methods, &condition.paths) {
        Some(named) => field(&mut parts, indent, "grpc", named.as_slice()),
        None => {
            field(&mut parts, indent, "methods", condition.methods.listed());
            field(&mut parts, indent, "paths", condition.paths.listed());
        }
    }
    field(&mut parts, indent, "hosts", condition.hosts.listed());
    field(&mut parts, indent, "upgrades", condition.upgrades.listed());
    // the first part carries the dash of the list
    let parts = parts.strip_prefix(indent).unwrap_or(&parts);
    let _ = write!(yaml, "    - {parts}");
}

/// On one line as long as it is short.
fn field<T: ToString>(yaml: &mut String, indent: &str, name: &str, values: &[T]) {
    if values.is_empty() {
        return;
    }
    let line = format!("{indent}{name}: {}", list(values));
    if line.len() <= LINE {
        let _ = writeln!(yaml, "{line}");
        return;
    }
    let _ = writeln!(yaml, "{indent}{name}:");
    for value in values {
        let _ = writeln!(yaml, "{indent}  - {}", quoted(value));
    }
}

const LINE: usize = 100;
