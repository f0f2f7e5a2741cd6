//! `meshctl policy test`: tables of expected verdicts, against the files' own resources or the live mesh.

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;
use weft_identity::TrustDomain;
use weft_policy::{Case, Expect, Outcome, World};

use super::DEFAULT_TRUST_DOMAIN;
use crate::client::Client;
use crate::documents::{self, Documents};
use crate::failure::Answer;
use crate::output::{FormatArg, Paint, Table, or_dash};
use crate::session::Session;
use crate::world::{live, world};

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Files with PolicyTests, and the resources to judge them against; without resources they are judged against the live mesh.
    #[arg(value_name = "FILE|DIR|-", required = true)]
    files: Vec<String>,
    /// The trust domain that the files are about.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: TrustDomain,
    /// Show only the cases that differ.
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    cases: usize,
    failed: usize,
    results: Vec<Judged>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Judged {
    name: String,
    file: String,
    from: String,
    to: String,
    /// The port of a service that a host outside was judged as.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    request: String,
    verdict: Expect,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    pass: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mismatch: Option<String>,
}

pub(super) async fn run(args: TestArgs, session: &Session) -> anyhow::Result<Answer> {
    let documents = documents::load(&args.files)?;
    if documents.tests.is_empty() {
        bail!("no PolicyTest in {}", args.files.join(", "));
    }
    let world = if documents.resources.is_empty() {
        live_world(session).await?
    } else {
        world(
            &args.trust_domain,
            documents.resources.iter().map(|resource| &resource.value),
        )
    };
    let mut report = judge(&world, &documents);
    let answer = Answer::from(report.failed == 0);
    if args.quiet {
        report.results.retain(|judged| !judged.pass);
    }
    session.out.answer(args.format.format, &report, |wide| {
        table(&report, wide, session)
    })?;
    if args.format.is_for_people() {
        let paint = if report.failed == 0 {
            Paint::Good
        } else {
            Paint::Bad
        };
        let summary = format!("{} cases, {} failed", report.cases, report.failed);
        session.out.line(session.out.paint(paint, &summary))?;
    }
    Ok(answer)
}

async fn live_world(session: &Session) -> anyhow::Result<World> {
    let context = session.context().await?;
    let resources = live(&Client::connect(&context).await?, None, "").await?;
    Ok(world(&context.settings.trust_domain, &resources))
}

fn judge(world: &World, documents: &Documents) -> Report {
    let cases: Vec<(&str, &Case)> = documents
        .tests
        .iter()
        .flat_map(|test| {
            test.value
                .cases
                .iter()
                .map(|case| (test.origin.file.as_str(), case))
        })
        .collect();
    let outcomes = world.judge(cases.iter().map(|(_, case)| *case), Timestamp::now());
    let results: Vec<Judged> = cases
        .into_iter()
        .zip(outcomes)
        .map(|((file, case), outcome)| Judged::new(file, case, outcome))
        .collect();
    Report {
        cases: results.len(),
        failed: results.iter().filter(|judged| !judged.pass).count(),
        results,
    }
}

impl Judged {
    fn new(file: &str, case: &Case, outcome: Outcome) -> Self {
        let request = match (&case.method, &case.path) {
            _ if !outcome.is_request => String::new(),
            (method, path) => {
                let method = method.as_deref().unwrap_or("GET");
                format!("{method} {}", path.as_deref().unwrap_or("/"))
            }
        };
        Self {
            name: case.name.clone(),
            file: file.to_owned(),
            from: case.source_text(),
            to: case.to.to_string(),
            service: outcome
                .target
                .filter(|_| case.to.host().is_some())
                .map(|target| target.to_string()),
            request,
            verdict: outcome.verdict,
            rule: outcome.rule.map(|rule| rule.to_string()),
            reason: outcome.reason.map(|reason| reason.as_str()),
            pass: outcome.mismatch.is_none(),
            mismatch: outcome.mismatch,
        }
    }

    fn verdict_word(&self) -> String {
        match (self.verdict, &self.rule, self.reason) {
            (Expect::Allow, Some(rule), _) => format!("allow by {rule}"),
            (Expect::Allow, None, _) => "allow".to_owned(),
            (Expect::Learn, _, reason) => format!("learn {}", reason.unwrap_or_default()),
            (Expect::Deny, _, reason) => format!("deny {}", reason.unwrap_or_default()),
            (Expect::Error400, _, reason) => format!("error400 {}", reason.unwrap_or_default()),
        }
    }
}

fn table(report: &Report, wide: bool, session: &Session) -> Table {
    let mut table = Table::new(["", "CASE", "FROM", "TO", "REQUEST", "VERDICT", "PROBLEM"]);
    if wide {
        table = table.with_columns(&["FILE"]);
    }
    for judged in &report.results {
        let mut cells = vec![
            if judged.pass { "√" } else { "×" }.to_owned(),
            judged.name.clone(),
            judged.from.clone(),
            judged.to.clone(),
            or_dash(&judged.request),
            judged.verdict_word().trim_end().to_owned(),
            judged.mismatch.clone().unwrap_or_default(),
        ];
        if wide {
            cells.push(judged.file.clone());
        }
        let paint = if judged.pass { Paint::Good } else { Paint::Bad };
        table.row(cells);
        table.paint_last(0, session.out.colour(paint));
    }
    table
}
