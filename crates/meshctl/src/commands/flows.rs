//! `meshctl flows`: who called whom, how it was judged, and how often.

use jiff::Timestamp;
use serde::Serialize;
use weft_policy::{Flow, FlowDocument, FlowHost, FlowRequest, FoldedPath, Judged};

use crate::client::Client;
use crate::failure::Answer;
use crate::flows::{FlowsAsked, caller, read, warn};
use crate::moments::shown;
use crate::output::{FormatArg, Table, or_dash};
use crate::session::Session;

/// Lists flows with their verdict and count.
#[derive(Debug, clap::Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    asked: FlowsAsked,
    #[command(flatten)]
    format: FormatArg,
}

/// As programs read it, `policy preview` and `policy suggest` among them.
#[derive(Debug, Serialize)]
struct Shown {
    since: Option<Timestamp>,
    /// Connections and requests that are in no flow.
    dropped: u64,
    /// Requests that are told less exactly than they could be.
    folded: u64,
    flows: Vec<FlowDocument>,
}

pub(crate) async fn run(args: FlowsArgs, session: &Session) -> anyhow::Result<Answer> {
    let context = session.context().await?;
    let client = Client::connect(&context).await?;
    let traffic = read(&client, &args.asked).await?;
    let shown = Shown {
        since: traffic.since,
        dropped: traffic.dropped,
        folded: traffic.folded,
        flows: traffic.flows.iter().map(FlowDocument::from).collect(),
    };
    let own = context.bundle.trust_domain.as_str();
    session.out.answer(args.format.format, &shown, |wide| {
        table(&traffic.flows, own, wide)
    })?;
    if args.format.is_for_people() {
        warn(&traffic, &session.out);
    }
    Ok(Answer::Yes)
}

fn table(flows: &[Flow], own: &str, wide: bool) -> Table {
    let mut table = Table::new([
        "SOURCE",
        "TARGET",
        "METHOD",
        "PATH",
        "VERDICT",
        "BY",
        "COUNT",
        "LAST SEEN",
    ]);
    if wide {
        table = table.with_columns(&["FIRST SEEN", "HOST", "UPGRADE", "HEADERS"]);
    }
    for flow in flows {
        let key = &flow.key;
        let request = key.request.as_ref();
        let of = |part: fn(&FlowRequest) -> &str| or_dash(request.map(part).unwrap_or_default());
        let (verdict, by) = match &key.judged {
            Judged::Allowed(rule) => ("allowed", rule.to_string()),
            Judged::Learned(reason) => ("learned", reason.to_string()),
            Judged::Denied(reason) => ("denied", reason.to_string()),
        };
        let mut cells = vec![
            caller(&key.source, own),
            key.target.to_string(),
            of(|request| &request.method),
            of(|request| request.path.as_ref().map_or("", FoldedPath::as_str)),
            verdict.to_owned(),
            by,
            flow.count.to_string(),
            shown(Some(flow.last_seen)),
        ];
        if wide {
            cells.extend([
                shown(Some(flow.first_seen)),
                of(host),
                of(|request| request.upgrade.as_deref().unwrap_or_default()),
                or_dash(&request.map(headers).unwrap_or_default()),
            ]);
        }
        table.row(cells);
    }
    table
}

/// `*`: one of more than are kept apart.
fn host(request: &FlowRequest) -> &str {
    match &request.host {
        FlowHost::None => "",
        FlowHost::Named(name) => name,
        FlowHost::Folded => "*",
    }
}

fn headers(request: &FlowRequest) -> String {
    let headers = request.headers.iter();
    let texts: Vec<String> = headers
        .map(|(condition, seen)| format!("{condition} ({})", seen.as_str()))
        .collect();
    texts.join(", ")
}
