//! `meshctl edit`: one resource in the user's editor.
//!
//! Invariant: what the user typed is never lost: until it is stored it lies in a file whose name every error says. What
//! somebody else changed meanwhile is never overwritten: the revision that was shown is a precondition.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use weft_identity::DnsLabel;
use weft_wire::{Resource, ResourceKey, v1};

use crate::changes::Changes;
use crate::client::{Client, refused};
use crate::commands::apply::{ChangesFormat, finish};
use crate::commands::named::Target;
use crate::documents;
use crate::failure::{Answer, SaysNo};
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
    // The editor needs the terminal; a thread that waits for it holds up nothing else here.
    let path = draft.path.clone();
    tokio::task::spawn_blocking(move || open_editor(&path)).await??;
    let typed = std::fs::read_to_string(&draft.path)
        .with_context(|| format!("cannot read {}", draft.path.display()))?;
    if typed == shown {
        draft.discard();
        session.out.line(format!("{key} unchanged"))?;
        return Ok(Answer::Yes);
    }
    let changes = store(&client, &draft, &key, &stored, &typed)
        .await
        .with_context(|| format!("your text is kept in {}", draft.path.display()))?;
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

/// The file that the editor opens; it stays until it is discarded.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(key: &ResourceKey, text: &str) -> anyhow::Result<Self> {
        let name = key.to_string().replace('/', "-");
        let file = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .suffix(".yaml")
            .tempfile()
            .context(SaysNo::new("cannot make a file to edit"))?;
        std::fs::write(file.path(), text).context(SaysNo::new("cannot write the file to edit"))?;
        let (_, path) = file
            .keep()
            .context(SaysNo::new("cannot keep the file to edit"))?;
        Ok(Self { path })
    }

    fn discard(self) {
        // A draft that stays behind in the temporary folder does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `$EDITOR` may hold arguments, so the shell reads it; the path is handed over as an argument, never as text.
fn open_editor(path: &Path) -> anyhow::Result<()> {
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    let editor = set("VISUAL")
        .or_else(|| set("EDITOR"))
        .unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("meshctl-edit")
        .arg(path)
        .status()
        .with_context(|| SaysNo(format!("cannot start the editor `{editor}`")))?;
    if !status.success() {
        bail!(SaysNo(format!(
            "the editor `{editor}` ended with {status}; your text is kept in {}",
            path.display()
        )));
    }
    Ok(())
}
