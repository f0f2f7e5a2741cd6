//! `meshctl delete`: removes resources, all of them or none.

use anyhow::bail;
use weft_wire::{ResourceKey, v1};

use crate::changes::Changes;
use crate::client::Client;
use crate::commands::apply::{ChangesFormat, finish};
use crate::commands::guard;
use crate::commands::named::parse_key;
use crate::documents;
use crate::failure::Answer;
use crate::preview::Edit;
use crate::rollout::WaitArgs;
use crate::session::Session;

/// Delete resources by name or those that files hold.
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = true, args = ["names", "files"])]
pub(crate) struct DeleteArgs {
    /// KIND/NAMESPACE/NAME, such as allow/shop/web-reads-orders.
    #[arg(value_name = "KIND/NAMESPACE/NAME")]
    names: Vec<String>,
    /// A file, a folder or `-`: deletes the resources that it holds.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
    files: Vec<String>,
    /// Say what would be deleted and delete nothing.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print one JSON value.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: ChangesFormat,
}

pub(crate) async fn run(args: DeleteArgs, session: &Session) -> anyhow::Result<Answer> {
    let mut keys = args
        .names
        .iter()
        .map(|name| parse_key(name))
        .collect::<anyhow::Result<Vec<ResourceKey>>>()?;
    keys.extend(
        documents::load(&args.files)?
            .resources
            .iter()
            .map(|resource| resource.value.key()),
    );
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        bail!("no resources in {}", args.files.join(", "));
    }
    let context = session.context().await?;
    let client = Client::connect(&context).await?;
    let edit = Edit {
        delete: keys.iter().cloned().collect(),
        ..Edit::default()
    };
    guard::say(&client, &context.settings.trust_domain, &edit, session.out).await;
    let request = v1::DeleteRequest {
        keys: keys.iter().map(v1::ResourceKey::from).collect(),
        dry_run: args.dry_run,
        preconditions: Vec::new(),
    };
    let changes = Changes::delete(&client, request).await?;
    finish(changes, &client, args.wait, args.output, session.out).await
}
