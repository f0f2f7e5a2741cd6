//! `meshctl policy coverage`: rules that no traffic used, traffic that only a broad rule allows, and the narrower rules for it.

use jiff::Timestamp;
use serde::Serialize;
use weft_policy::{Life, RuleUse, coverage};

use super::evidence::{EvidenceArgs, Reach};
use super::suggest::tell_left_out;
use crate::failure::Answer;
use crate::moments::{exact, shown};
use crate::output::{FormatArg, Paint, Table, or_dash};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(super) struct CoverageArgs {
    #[command(flatten)]
    evidence: EvidenceArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    rules: Vec<Covered>,
    /// Requests and connections that are in no flow.
    dropped: u64,
    /// Requests that are told less exactly.
    folded: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Covered {
    rule: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    #[serde(skip)]
    last_shown: String,
    broad: Vec<&'static str>,
    /// Of `used`, what no other rule allows narrowly.
    only_broad: u64,
    /// Documents to apply in its place.
    narrower: Vec<String>,
    /// Flows of that traffic which they would not allow.
    left_out: usize,
}

pub(super) async fn run(args: CoverageArgs, session: &Session) -> anyhow::Result<Answer> {
    let gathered = args.evidence.gather(session, Reach::Everything).await?;
    let traffic = &gathered.traffic;
    let uses: Vec<RuleUse> = coverage(
        &traffic.flows,
        &gathered.world,
        gathered.since,
        Timestamp::now(),
    )
    .into_iter()
    .filter(|used| args.evidence.covers(&used.rule.name.namespace))
    .collect();
    let report = Report {
        rules: uses.iter().map(Covered::of).collect(),
        dropped: traffic.dropped,
        folded: traffic.folded,
    };
    session.out.answer(args.format.format, &report, |wide| {
        table(&report, wide, session)
    })?;
    if args.format.is_for_people() {
        for (used, covered) in uses.iter().zip(&report.rules) {
            if covered.narrower.is_empty() {
                continue;
            }
            let rule = &covered.rule;
            session.out.line(format!(
                "\n# Narrower than {rule}; delete that once these are applied.\n{}",
                covered.narrower.join("---\n").trim_end()
            ))?;
            tell_left_out(&used.left_out, session.out);
        }
    }
    Ok(Answer::Yes)
}

impl Covered {
    fn of(used: &RuleUse) -> Self {
        let (state, expires) = match used.life {
            Life::InForce if used.used == 0 => ("unused", used.rule.expires),
            Life::InForce => ("used", used.rule.expires),
            Life::ExpiresSoon(at) => ("expires soon", Some(at)),
            Life::Expired(at) => ("expired", Some(at)),
            Life::Audited => ("audit", used.rule.expires),
        };
        let narrower = used.narrower.iter();
        Self {
            rule: used.rule.name.to_string(),
            state,
            expires: exact(expires),
            used: used.used,
            last_seen: exact(used.last_seen),
            last_shown: shown(used.last_seen),
            broad: used
                .breadths
                .iter()
                .map(|breadth| breadth.as_str())
                .collect(),
            only_broad: used.only_broad,
            narrower: narrower.map(|proposed| proposed.to_yaml()).collect(),
            left_out: used.left_out.len(),
        }
    }
}

fn table(report: &Report, wide: bool, session: &Session) -> Table {
    let mut table = Table::new([
        "RULE",
        "STATE",
        "USED",
        "LAST SEEN",
        "ONLY BROADLY",
        "BROAD BY",
    ]);
    if wide {
        table = table.with_columns(&["EXPIRES"]);
    }
    for covered in &report.rules {
        let mut cells = vec![
            covered.rule.clone(),
            covered.state.to_owned(),
            covered.used.to_string(),
            covered.last_shown.clone(),
            covered.only_broad.to_string(),
            or_dash(&covered.broad.join(", ")),
        ];
        if wide {
            cells.push(or_dash(covered.expires.as_deref().unwrap_or_default()));
        }
        let paint = if covered.state == "used" && covered.only_broad == 0 {
            Paint::Good
        } else {
            Paint::Warning
        };
        table.row(cells);
        table.paint_last(1, session.out.colour(paint));
    }
    table
}
