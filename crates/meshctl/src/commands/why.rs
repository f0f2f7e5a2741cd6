//! `meshctl why ID`: what a decision id stands for, and which rule is missing.

use serde::Serialize;
use weft_wire::{read_reason, v1};

use crate::client::refused;
use crate::commands::policy::verdict::{Verdict, sentence};
use crate::failure::Answer;
use crate::moments::{exact, moment, shown};
use crate::output::{Format, FormatArg, Output, or_dash, printable};
use crate::session::Session;

/// Explain a refusal by its decision id.
#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    /// The id that the refused client was given.
    #[arg(value_name = "DECISION-ID")]
    id: String,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Why {
    id: String,
    side: &'static str,
    source: String,
    target: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    method: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// The revision that the sidecar enforced.
    revision: u64,
    count: u64,
    first_seen: Option<String>,
    last_seen: Option<String>,
    #[serde(skip)]
    seen: String,
    reported_by: String,
    /// The same question, judged now.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Verdict>,
    judged_at: u64,
}

pub(crate) async fn run(args: WhyArgs, session: &Session) -> anyhow::Result<Answer> {
    let request = v1::WhyRequest {
        id: args.id.trim().to_ascii_uppercase(),
    };
    let client = session.connect().await?;
    let answer = client
        .decisions()
        .why(request)
        .await
        .map_err(refused)?
        .into_inner();
    let why = Why::new(answer)?;
    match args.format.format {
        Format::Json => session.out.json(&why)?,
        Format::Yaml => session.out.yaml(&why)?,
        Format::Table => why.print(false, session.out)?,
        Format::Wide => why.print(true, session.out)?,
    }
    Ok(Answer::Yes)
}

impl Why {
    fn new(answer: v1::WhyResponse) -> anyhow::Result<Self> {
        let decision = answer.decision.unwrap_or_default();
        let (first, last) = (moment(decision.first_seen), moment(decision.last_seen));
        let port = if decision.port.is_empty() {
            String::new()
        } else {
            format!(":{}", decision.port)
        };
        Ok(Self {
            side: side_word(decision.side()),
            reason: read_reason(decision.reason)?.as_str(),
            target: format!("{}{port}", decision.service),
            id: decision.id,
            source: decision.source,
            method: decision.method,
            path: decision.path,
            host: decision.host,
            detail: decision.detail,
            revision: decision.revision,
            count: decision.count,
            first_seen: exact(first),
            last_seen: exact(last),
            seen: format!("{} to {}", shown(first), shown(last)),
            reported_by: decision.reported_by,
            now: answer.explanation.map(Verdict::new).transpose()?,
            judged_at: answer.judged_at,
        })
    }

    /// `wide` adds today's verdict in a line: rules may have changed since.
    fn print(&self, wide: bool, out: Output) -> std::io::Result<()> {
        let field = |name: &str, value: &str| out.line(format!("{name:<13}{}", printable(value)));
        field("decision", &self.id)?;
        field(
            "source",
            if self.source.is_empty() {
                "unauthenticated"
            } else {
                &self.source
            },
        )?;
        field("destination", &or_dash(&self.target))?;
        if !self.method.is_empty() {
            field(
                "request",
                format!("{} {} {}", self.method, self.path, self.host).trim_end(),
            )?;
        }
        field(
            "refused",
            &format!(
                "on the {} side by {}: {}",
                self.side,
                self.reported_by,
                sentence(self.reason)
            ),
        )?;
        if !self.detail.is_empty() {
            field("detail", &self.detail)?;
        }
        field(
            "seen",
            &format!(
                "{} time{}, {}",
                self.count,
                if self.count == 1 { "" } else { "s" },
                self.seen
            ),
        )?;
        field(
            "revision",
            &format!(
                "{} enforced then, {} judged now",
                self.revision, self.judged_at
            ),
        )?;
        match &self.now {
            Some(verdict) if verdict.allowed() => {
                out.line("")?;
                // No rule decides where a name leads, or what comes under it.
                out.line(match self.reason {
                    "misdirected" | "wrongProtocol" | "forbiddenAddress" => {
                        "No rule refused it: it was refused for what it was. The rules say now:"
                    }
                    _ => "It would pass now:",
                })?;
                verdict.print(out)
            }
            Some(verdict) if wide => {
                out.line("")?;
                verdict.print(out)
            }
            Some(verdict) => verdict.print_reasons(out),
            None => Ok(()),
        }
    }
}

fn side_word(side: v1::Side) -> &'static str {
    match side {
        v1::Side::Unspecified => "unknown",
        v1::Side::Client => "client",
        v1::Side::Server => "server",
    }
}
