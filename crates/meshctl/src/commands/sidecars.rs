//! `meshctl sidecars`: which sidecars there are, whether they are connected and what they enforce.

use serde::Serialize;
use weft_wire::v1;

use crate::client::refused;
use crate::failure::Answer;
use crate::moments::{exact, moment, shown};
use crate::output::{FormatArg, Table, or_dash};
use crate::session::Session;

/// Lists sidecars and the revision that each one enforces.
#[derive(Debug, clap::Args)]
pub(crate) struct SidecarsArgs {
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sidecar {
    instance: String,
    identity: String,
    connected: bool,
    /// Whether it enforces the last revision that concerns it.
    current: bool,
    acknowledged_revision: u64,
    required_revision: u64,
    last_heard: Option<String>,
    #[serde(skip)]
    heard: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    nack: String,
    version: String,
    policy_schema: u32,
}

#[derive(Serialize)]
struct Sidecars {
    revision: u64,
    sidecars: Vec<Sidecar>,
}

pub(crate) async fn run(args: SidecarsArgs, session: &Session) -> anyhow::Result<Answer> {
    let client = session.connect().await?;
    let answer = client
        .operations()
        .list_sidecars(v1::ListSidecarsRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    let mut sidecars: Vec<Sidecar> = answer.sidecars.into_iter().map(Sidecar::from).collect();
    sidecars.sort_by(|a, b| (&a.identity, &a.instance).cmp(&(&b.identity, &b.instance)));
    let sidecars = Sidecars {
        revision: answer.revision,
        sidecars,
    };
    session.out.answer(args.format.format, &sidecars, |wide| {
        table(&sidecars.sidecars, wide)
    })?;
    Ok(Answer::Yes)
}

fn table(sidecars: &[Sidecar], wide: bool) -> Table {
    let mut table = Table::new([
        "INSTANCE",
        "IDENTITY",
        "CONNECTED",
        "ENFORCES",
        "LAST HEARD",
        "PROBLEM",
    ]);
    if wide {
        table = table.with_columns(&["NEEDS", "VERSION", "POLICY SCHEMA"]);
    }
    for sidecar in sidecars {
        let enforces = format!(
            "{}{}",
            sidecar.acknowledged_revision,
            if sidecar.current { "" } else { " (behind)" }
        );
        let mut cells = vec![
            sidecar.instance.clone(),
            sidecar.identity.clone(),
            if sidecar.connected { "yes" } else { "no" }.to_owned(),
            enforces,
            sidecar.heard.clone(),
            or_dash(&sidecar.nack),
        ];
        if wide {
            let needs = sidecar.required_revision.to_string();
            cells.extend([
                needs,
                or_dash(&sidecar.version),
                sidecar.policy_schema.to_string(),
            ]);
        }
        table.row(cells);
    }
    table
}

impl From<v1::Sidecar> for Sidecar {
    fn from(sidecar: v1::Sidecar) -> Self {
        let heard = moment(sidecar.last_heard);
        Self {
            instance: sidecar.instance,
            identity: sidecar.spiffe_id,
            connected: sidecar.connected,
            current: sidecar.acknowledged_revision >= sidecar.required_revision,
            acknowledged_revision: sidecar.acknowledged_revision,
            required_revision: sidecar.required_revision,
            last_heard: exact(heard),
            heard: shown(heard),
            nack: sidecar.nack,
            version: sidecar.version,
            policy_schema: sidecar.policy_schema,
        }
    }
}
