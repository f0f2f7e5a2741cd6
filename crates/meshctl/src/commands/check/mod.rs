//! `meshctl check`: what is wrong, what will be, and how long an outage of the control plane is survived.
//!
//! Facts are gathered here; what they mean is decided in [`judge`], which is a pure function of them.

mod facts;
mod judge;
mod rules;

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde::Serialize;

use crate::failure::{Answer, Unreachable};
use crate::moments::{parse_length, rough};
use crate::output::{Output, Paint, printable};
use crate::session::Session;

/// Check the mesh; warnings alone are still a yes.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Check again and again until nothing fails.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_length, requires = "wait")]
    timeout: SignedDuration,
    /// How to print the findings.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: CheckFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum CheckFormat {
    #[default]
    Table,
    /// The same: a finding has nothing that the table leaves out.
    Wide,
    /// Only what is not in order.
    Short,
    /// One JSON value.
    Json,
    Yaml,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    area: &'static str,
    status: Status,
    text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
    /// How long the control plane may stay away before the first connection would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    outage_budget_seconds: Option<i64>,
}

pub(crate) async fn run(args: CheckArgs, session: &Session) -> anyhow::Result<Answer> {
    let deadline = Instant::now() + args.timeout.unsigned_abs();
    loop {
        let checked = Box::pin(check(session)).await?;
        if args.wait && !checked.report.ok && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
            continue;
        }
        checked.report.print(args.output, session.out)?;
        return match checked.unreachable {
            Some(unreachable) => Err(unreachable.into()),
            None => Ok(Answer::from(checked.report.ok)),
        };
    }
}

struct Checked {
    report: Report,
    unreachable: Option<Unreachable>,
}

async fn check(session: &Session) -> anyhow::Result<Checked> {
    let context = session.context().await?;
    match facts::gather(&context).await {
        Ok(facts) => {
            let (findings, budget) = judge::judge(&facts);
            Ok(Checked {
                report: Report::new(findings, Some(budget)),
                unreachable: None,
            })
        }
        Err(error) => match error.downcast::<Unreachable>() {
            Ok(unreachable) => {
                let finding = Finding {
                    area: "control plane",
                    status: Status::Failed,
                    text: unreachable.to_string(),
                    hint: Some(
                        "is it running? `meshctl up` starts one, its log says why it ended"
                            .to_owned(),
                    ),
                };
                Ok(Checked {
                    report: Report::new(vec![finding], None),
                    unreachable: Some(unreachable),
                })
            }
            Err(error) => Err(error),
        },
    }
}

impl Report {
    fn new(findings: Vec<Finding>, budget: Option<SignedDuration>) -> Self {
        Self {
            ok: findings
                .iter()
                .all(|finding| finding.status != Status::Failed),
            findings,
            outage_budget_seconds: budget.map(|budget| budget.as_secs()),
        }
    }

    fn print(&self, format: CheckFormat, out: Output) -> anyhow::Result<()> {
        let is_short = match format {
            CheckFormat::Json => return out.json(self),
            CheckFormat::Yaml => return out.yaml(self),
            CheckFormat::Short => true,
            CheckFormat::Table | CheckFormat::Wide => false,
        };
        let mut area = "";
        for finding in &self.findings {
            if is_short && finding.status == Status::Ok {
                continue;
            }
            if !is_short && finding.area != area {
                area = finding.area;
                out.line(area)?;
            }
            finding.print(out)?;
        }
        if let Some(seconds) = self.outage_budget_seconds.filter(|_| !is_short) {
            out.line(format!(
                "\noutage budget: {}",
                rough(SignedDuration::from_secs(seconds))
            ))?;
        }
        let count = |status| {
            self.findings
                .iter()
                .filter(|finding| finding.status == status)
                .count()
        };
        let (failed, warnings) = (count(Status::Failed), count(Status::Warning));
        out.line(format!(
            "{} checks, {failed} failed, {warnings} warnings",
            self.findings.len()
        ))?;
        Ok(())
    }
}

impl Finding {
    fn print(&self, out: Output) -> std::io::Result<()> {
        let (mark, paint) = match self.status {
            Status::Ok => ("√", Paint::Good),
            Status::Warning => ("‼", Paint::Warning),
            Status::Failed => ("×", Paint::Bad),
        };
        out.line(format!(
            "{} {}",
            out.paint(paint, mark),
            printable(&self.text)
        ))?;
        match &self.hint {
            Some(hint) => out.line(format!("    hint: {}", printable(hint))),
            None => Ok(()),
        }
    }
}

const POLL: Duration = Duration::from_secs(1);
