//! `meshctl edit`: one resource in the user's editor.
//!
//! Invariant: what the user typed is never lost: until it is stored it lies in a file whose name every error says. What
//! somebody else changed meanwhile is never overwritten: the revision that was shown is a precondition.
//!
//! A text with a mistake is opened again with the mistake above it; one that comes back the same is given up.

mod draft;

use std::path::Path;

use anyhow::bail;
use draft::Draft;
use tonic::Code;
use weft_identity::DnsLabel;
use weft_wire::{Resource, ResourceKey, v1};

use crate::changes::Changes;
use crate::client::{Client, refused};
use crate::commands::apply::{ChangesFormat, finish};
use crate::commands::named::Target;
use crate::documents;
use crate::failure::{Answer, Refused, Unreachable};
use crate::output::Output;
use crate::rendering;
use crate::rollout::WaitArgs;
use crate::session::Session;

/// Edit a resource in $VISUAL or $EDITOR; it is checked before it is sent.
#[derive(Debug, clap::Args)]
pub(crate) struct EditArgs {
    /// A kind, or KIND/NAMESPACE/NAME.
    #[arg(value_name = "KIND")]
    kind: String,
    /// NAME with -n, or NAMESPACE/NAME.
    name: Option<String>,
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<DnsLabel>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(crate) async fn run(args: EditArgs, session: &Session) -> anyhow::Result<Answer> {
    let Target::One(key) = Target::of(&args.kind, args.name.as_deref(), args.namespace.as_ref())?
    else {
        bail!("which one? Write {}/NAMESPACE/NAME", args.kind);
    };
    let client = session.connect().await?;
    let request = v1::GetRequest {
        key: Some((&key).into()),
    };
    let stored = client
        .resources()
        .get(request)
        .await
        .map_err(refused)?
        .into_inner();
    let shown = rendering::yaml(&Resource::try_from(&stored)?)?;
    let draft = Draft::new(&key, &shown)?;
    let begun = Begun {
        key: &key,
        stored: &stored,
        shown: &shown,
    };
    let Some(changes) = edit(&client, &draft, &begun, session.out).await? else {
        draft.discard();
        session.out.line(format!("{key} unchanged"))?;
        return Ok(Answer::Yes);
    };
    draft.discard();
    finish(
        changes,
        &client,
        args.wait,
        ChangesFormat::Text,
        session.out,
    )
    .await
}

/// What is edited, as it was when the editor opened.
struct Begun<'a> {
    key: &'a ResourceKey,
    stored: &'a v1::Resource,
    shown: &'a str,
}

/// Opens the draft until it can be stored; `None`: it was left as it was shown.
async fn edit(
    client: &Client,
    draft: &Draft,
    begun: &Begun<'_>,
    out: Output,
) -> anyhow::Result<Option<Changes>> {
    let Begun { key, stored, shown } = *begun;
    let mut refused: Option<(String, anyhow::Error)> = None;
    for _ in 0..ROUNDS_LIMIT {
        // The editor needs the terminal; a thread that waits for it holds up nothing else here.
        let path = draft.path.clone();
        tokio::task::spawn_blocking(move || draft::open_editor(&path)).await??;
        let typed = draft.read()?;
        let text = draft::without_remarks(&typed);
        if text == shown {
            return Ok(None);
        }
        if refused.as_ref().is_some_and(|(before, _)| before == text) {
            break;
        }
        match store(client, draft, key, stored, &typed).await {
            Ok(changes) => return Ok(Some(changes)),
            Err(error) if can_be_mended(&error) => {
                let error = remark(draft, text, key, error)?;
                out.note(format!("{error:#}"));
                refused = Some((text.to_owned(), error));
            }
            Err(error) => return Err(error.context(draft.kept())),
        }
    }
    let error = refused.map_or_else(|| anyhow::anyhow!("not stored"), |(_, error)| error);
    Err(error.context(draft.kept()))
}

/// Writes above the text what is wrong with it; the places are those in the file as it is then.
fn remark(
    draft: &Draft,
    text: &str,
    key: &ResourceKey,
    error: anyhow::Error,
) -> anyhow::Result<anyhow::Error> {
    let moved = draft::with_remarks(&format!("{error:#}"), text);
    let error = read(&draft.path, &moved, key).err().unwrap_or(error);
    draft.write(&draft::with_remarks(&format!("{error:#}"), text))?;
    Ok(error)
}

/// Whether another text could help: the text is wrong, not the moment.
fn can_be_mended(error: &anyhow::Error) -> bool {
    match error.chain().find_map(|cause| cause.downcast_ref()) {
        Some(Refused(status)) => matches!(
            status.code(),
            Code::InvalidArgument | Code::FailedPrecondition
        ),
        None => !error.chain().any(|cause| cause.is::<Unreachable>()),
    }
}

async fn store(
    client: &Client,
    draft: &Draft,
    key: &ResourceKey,
    stored: &v1::Resource,
    typed: &str,
) -> anyhow::Result<Changes> {
    let resource = read(&draft.path, typed, key)?;
    let request = v1::ApplyRequest {
        resources: vec![v1::Resource::from(&resource)],
        set: stored.set.clone(),
        preconditions: vec![v1::Precondition {
            key: Some(key.into()),
            revision: stored.revision,
        }],
        ..Default::default()
    };
    Changes::apply(client, request).await
}

/// The one resource of the text, which must still be the same one.
fn read(path: &Path, typed: &str, key: &ResourceKey) -> anyhow::Result<Resource> {
    let documents = documents::parse(&path.display().to_string(), typed)?;
    let mut resources = documents.resources.into_iter();
    match (resources.next(), resources.next()) {
        (Some(only), None) if only.value.key() == *key => Ok(only.value),
        (Some(only), None) => {
            bail!(
                "this is {}, not {key}; use `meshctl apply` to make another resource",
                only.value.key()
            )
        }
        (None, _) => bail!("the text holds no resource; `meshctl delete {key}` deletes it"),
        (Some(_), Some(_)) => bail!("the text holds more than one resource"),
    }
}

/// An editor that changes the text each time it is opened would go on for ever.
const ROUNDS_LIMIT: usize = 20;
