//! `meshctl audit tail`: who changed, issued or was refused what, and when.

use std::time::Duration;

use serde::Serialize;
use weft_wire::v1;

use crate::client::refused;
use crate::failure::Answer;
use crate::moments::{exact, moment, shown};
use crate::output::{Format, FormatArg, Table, or_dash, printable};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    verb: AuditVerb,
}

#[derive(Debug, clap::Subcommand)]
enum AuditVerb {
    /// Show the newest records.
    Tail(TailArgs),
}

#[derive(Debug, clap::Args)]
struct TailArgs {
    /// How many records.
    #[arg(short = 'l', long, default_value_t = 20, value_name = "COUNT")]
    lines: u32,
    /// Go on and print new records as they come, a line each (with -o json: a JSON value each).
    #[arg(short = 'f', long)]
    follow: bool,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    sequence: u64,
    time: Option<String>,
    #[serde(skip)]
    shown_time: String,
    actor: String,
    action: String,
    subject: String,
    outcome: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    revision: u64,
}

pub(crate) async fn run(args: AuditArgs, session: &Session) -> anyhow::Result<Answer> {
    let AuditVerb::Tail(args) = args.verb;
    let mut operations = session.connect().await?.operations();
    let newest = v1::ListAuditRequest {
        after: 0,
        limit: args.lines,
        newest: true,
    };
    let records = list(&mut operations, newest).await?;
    let mut last = records.last().map_or(0, |record| record.sequence);
    if !args.follow {
        session
            .out
            .answer(args.format.format, &records, |wide| table(&records, wide))?;
        return Ok(Answer::Yes);
    }
    print_each(&records, args.format.format, session)?;
    loop {
        tokio::time::sleep(POLL).await;
        let newer = v1::ListAuditRequest {
            after: last,
            limit: PAGE,
            newest: false,
        };
        let records = list(&mut operations, newer).await?;
        last = records.last().map_or(last, |record| record.sequence);
        print_each(&records, args.format.format, session)?;
    }
}

async fn list(
    operations: &mut crate::client::Operations,
    request: v1::ListAuditRequest,
) -> anyhow::Result<Vec<Record>> {
    let answer = operations
        .list_audit(request)
        .await
        .map_err(refused)?
        .into_inner();
    let mut records: Vec<Record> = answer.records.into_iter().map(Record::from).collect();
    records.sort_by_key(|record| record.sequence);
    Ok(records)
}

fn print_each(records: &[Record], format: Format, session: &Session) -> anyhow::Result<()> {
    for record in records {
        match format {
            Format::Json => session.out.json(record)?,
            Format::Yaml => {
                session.out.line("---")?;
                session.out.yaml(record)?;
            }
            Format::Table | Format::Wide => session.out.line(record.sentence())?,
        }
    }
    Ok(())
}

fn table(records: &[Record], wide: bool) -> Table {
    let mut table = Table::new(["TIME", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "DETAIL"]);
    if wide {
        table = table.with_columns(&["SEQUENCE", "REVISION"]);
    }
    for record in records {
        let mut cells = vec![
            record.shown_time.clone(),
            or_dash(&record.actor),
            record.action.clone(),
            or_dash(&record.subject),
            record.outcome.clone(),
            or_dash(&record.detail),
        ];
        if wide {
            cells.extend([record.sequence.to_string(), record.revision.to_string()]);
        }
        table.row(cells);
    }
    table
}

impl Record {
    fn sentence(&self) -> String {
        let Self {
            shown_time,
            action,
            outcome,
            ..
        } = self;
        let text = format!(
            "{shown_time} {} {action} {} {outcome} {}",
            or_dash(&self.actor),
            or_dash(&self.subject),
            self.detail
        );
        printable(text.trim_end())
    }
}

impl From<v1::AuditRecord> for Record {
    fn from(record: v1::AuditRecord) -> Self {
        let time = moment(record.time);
        Self {
            sequence: record.sequence,
            time: exact(time),
            shown_time: shown(time),
            actor: record.actor,
            action: record.action,
            subject: record.subject,
            outcome: record.outcome,
            detail: record.detail,
            revision: record.revision,
        }
    }
}

const POLL: Duration = Duration::from_millis(500);
const PAGE: u32 = 500;
