//! `meshctl quarantine NS/NAME`: cuts a workload off at once, or lifts that again.
//!
//! The Quarantine resource has the workload's own name, so that a second call finds it.

use std::collections::BTreeMap;

use weft_identity::{RuleName, WorkloadName};
use weft_policy::Quarantine;
use weft_wire::{Resource, ResourceKey, Spec, v1};

use crate::changes::Changes;
use crate::client::Client;
use crate::commands::apply::{ChangesFormat, finish};
use crate::commands::guard;
use crate::failure::Answer;
use crate::preview::Edit;
use crate::rollout::WaitArgs;
use crate::session::Session;

/// Cut everything to and from a workload at once; beats every Allow.
#[derive(Debug, clap::Args)]
pub(crate) struct QuarantineArgs {
    /// The workload, `namespace/name`.
    #[arg(value_name = "NAMESPACE/NAME")]
    workload: WorkloadName,
    /// Why, for people.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        conflicts_with = "lift"
    )]
    reason: String,
    /// End the quarantine.
    #[arg(long)]
    lift: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print one JSON value.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: ChangesFormat,
}

pub(crate) async fn run(args: QuarantineArgs, session: &Session) -> anyhow::Result<Answer> {
    let context = session.context().await?;
    let client = Client::connect(&context).await?;
    let name = RuleName {
        namespace: args.workload.namespace.clone(),
        name: args.workload.name.clone(),
    };
    let changes = if args.lift {
        lift(&client, &name).await?
    } else {
        let quarantine = Quarantine {
            name,
            workload: args.workload,
            reason: args.reason,
        };
        let resource = Resource::new(Spec::Quarantine(quarantine), BTreeMap::new())?;
        let changes = cut(&client, &resource).await?;
        // cut first, told then: the emergency is now
        let edit = Edit::cut_by(resource);
        guard::say(&client, &context.settings.trust_domain, &edit, session.out).await;
        changes
    };
    finish(changes, &client, args.wait, args.output, session.out).await
}

async fn cut(client: &Client, quarantine: &Resource) -> anyhow::Result<Changes> {
    let request = v1::ApplyRequest {
        resources: vec![v1::Resource::from(quarantine)],
        ..Default::default()
    };
    Changes::apply(client, request).await
}

async fn lift(client: &Client, name: &RuleName) -> anyhow::Result<Changes> {
    let key = ResourceKey::quarantine(name);
    let request = v1::DeleteRequest {
        keys: vec![v1::ResourceKey::from(&key)],
        ..Default::default()
    };
    Changes::delete(client, request).await
}
