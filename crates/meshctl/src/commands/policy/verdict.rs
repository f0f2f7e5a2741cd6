//! A verdict with its reasons, as `policy explain` and `why` print it.

use jiff::Timestamp;
use serde::Serialize;
use weft_wire::{read_optional_timestamp, read_reason, v1};

use crate::output::{Output, Paint, Table, or_dash, printable};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    allowed: bool,
    source: String,
    target: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// It is allowed by learn mode alone, until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    learn_until: Option<Timestamp>,
    nearest: Vec<Near>,
    #[serde(skip_serializing_if = "String::is_empty")]
    suggested_yaml: String,
    hints: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Near {
    rule: String,
    failed_condition: String,
    wanted: String,
    got: String,
}

impl Verdict {
    pub(crate) fn new(explanation: v1::Explanation) -> anyhow::Result<Self> {
        let learn_until = read_optional_timestamp(explanation.learn_until.as_ref())?;
        let reason = if explanation.allowed && learn_until.is_none() {
            None
        } else {
            Some(read_reason(explanation.reason)?.as_str())
        };
        let near = |near: v1::NearRule| Near {
            rule: near.name,
            failed_condition: near.failed_condition,
            wanted: near.wanted,
            got: near.got,
        };
        Ok(Self {
            allowed: explanation.allowed,
            source: explanation.source,
            target: explanation.target,
            rule: explanation.rule,
            reason,
            learn_until,
            nearest: explanation.nearest.into_iter().map(near).collect(),
            suggested_yaml: explanation.suggested_yaml,
            hints: explanation.hints,
        })
    }

    pub(crate) fn allowed(&self) -> bool {
        self.allowed
    }

    /// The verdict in a line, then what led to it.
    pub(crate) fn print(&self, out: Output) -> std::io::Result<()> {
        let (source, target) = (printable(&self.source), printable(&self.target));
        if let (true, Some(until)) = (self.allowed, self.learn_until) {
            let word = out.paint(Paint::Good, "allowed");
            out.line(format!(
                "{word}: {source} → {target} by learn mode until {until}; no rule allows it: {}",
                sentence(self.reason.unwrap_or_default())
            ))?;
            return self.print_reasons(out);
        }
        if self.allowed {
            let word = out.paint(Paint::Good, "allowed");
            out.line(format!(
                "{word}: {source} → {target} by {}",
                printable(&self.rule)
            ))?;
            return self.print_hints(out);
        }
        let word = out.paint(Paint::Bad, "refused");
        out.line(format!(
            "{word}: {source} → {target}: {}",
            sentence(self.reason.unwrap_or_default())
        ))?;
        self.print_reasons(out)
    }

    fn print_hints(&self, out: Output) -> std::io::Result<()> {
        for hint in &self.hints {
            out.line(format!("hint: {}", printable(hint)))?;
        }
        Ok(())
    }

    /// The nearest rules, the hints and the rule that would allow it.
    pub(crate) fn print_reasons(&self, out: Output) -> std::io::Result<()> {
        if !self.nearest.is_empty() {
            let mut table = Table::new(["NEAREST RULE", "FAILED", "WANTED", "GOT"]);
            for near in &self.nearest {
                table.row([
                    near.rule.clone(),
                    near.failed_condition.clone(),
                    near.wanted.clone(),
                    or_dash(&near.got),
                ]);
            }
            out.line("")?;
            out.table(&table)?;
        }
        self.print_hints(out)?;
        if !self.suggested_yaml.is_empty() {
            let word = match self.learn_until {
                Some(_) => "This rule would allow it when learn mode is over",
                None => "This would allow it",
            };
            out.line(format!("\n{word}:\n"))?;
            for line in self.suggested_yaml.trim_end().lines() {
                out.line(printable(line))?;
            }
        }
        Ok(())
    }
}

/// What a reason means, for people; the word itself stays, because logs and metrics carry it.
pub(crate) fn sentence(reason: &str) -> String {
    let meaning = match reason {
        "noRule" => "no Allow in force matches",
        "quarantined" => "one end is under Quarantine",
        "revoked" => "the identity or its certificate is revoked",
        "pathNotCanonical" => {
            "the path is not in canonical form, and a rule of this port has path conditions"
        }
        "malformed" => "the message is malformed or ambiguous",
        "unknownTarget" => "no such service or port is served there",
        "misdirected" => "`Host`, or the server name of TLS, is another service's",
        "wrongProtocol" => "another protocol than the port is declared for",
        "upgradeNotAllowed" => "an upgrade or CONNECT that no rule names",
        "policyUnreadable" => "the sidecar could not read the policy of this service",
        "stale" => "the sidecar has no view, or one older than maxStale",
        "unauthenticated" => "the handshake failed: no certificate, or one that does not verify",
        "forbiddenAddress" => "the host leads to an address that it may not lead to",
        _ => return reason.to_owned(),
    };
    format!("{meaning} ({reason})")
}
