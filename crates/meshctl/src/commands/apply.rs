//! `meshctl apply`: makes the mesh hold what the files say, all of it or nothing.

use weft_identity::DnsLabel;
use weft_wire::v1;

use crate::changes::Changes;
use crate::client::{Client, refused};
use crate::commands::guard::{self, GuardArgs};
use crate::documents::{self, Documents};
use crate::failure::Answer;
use crate::output::Output;
use crate::preview::Edit;
use crate::rollout::{self, WaitArgs};
use crate::session::Session;

/// Create and update resources from files; applying the same twice changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Say what would change and change nothing.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print one JSON value.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: ChangesFormat,
}

/// Where resources come from and which set they belong to; `diff` takes the same.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// A YAML or JSON file, a folder with everything below it, or `-`; may be repeated.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<String>,
    /// Mark the resources as members of this set.
    #[arg(long, value_name = "NAME")]
    set: Option<DnsLabel>,
    /// Delete members of the set that the files no longer hold.
    #[arg(long, requires = "set")]
    prune: bool,
}

/// How a changing verb answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ChangesFormat {
    /// A line per resource.
    #[default]
    Text,
    Json,
}

pub(crate) async fn run(args: ApplyArgs, session: &Session) -> anyhow::Result<Answer> {
    let documents = args.source.load(session.out)?;
    let context = session.context().await?;
    let client = Client::connect(&context).await?;
    let report = if args.guard.looks() || args.dry_run {
        let dry_run = args.source.request(&documents, true);
        let answer = client.resources().apply(dry_run).await.map_err(refused)?;
        let edit = Edit::of_apply(&documents.resources, &answer.into_inner().changes)?;
        let trust_domain = &context.settings.trust_domain;
        guard::look(
            &client,
            trust_domain,
            &edit,
            args.guard.window(),
            session.out,
        )
        .await?
    } else {
        None
    };
    if let (Some(report), false) = (&report, args.dry_run)
        && !args.guard.may_go_on(report, session.out)?
    {
        return Ok(Answer::No);
    }
    let request = args.source.request(&documents, args.dry_run);
    let mut changes = Changes::apply(&client, request).await?;
    let fails = args.guard.fails(report.as_ref());
    if args.dry_run {
        changes.preview = report;
    }
    let answer = finish(changes, &client, args.wait, args.output, session.out).await?;
    Ok(if fails { Answer::No } else { answer })
}

impl SourceArgs {
    /// Reads the files; what the linter says goes to standard error.
    pub(crate) fn load(&self, out: Output) -> anyhow::Result<Documents> {
        let documents = documents::load(&self.files)?;
        for file in &documents.skipped {
            out.note(format!("{file}: holds no resources, left out"));
        }
        if !documents.tests.is_empty() {
            out.note(format!(
                "{} PolicyTest left out; `meshctl policy test` runs them",
                documents.tests.len()
            ));
        }
        for warning in documents.warnings() {
            out.warn(warning.to_string());
        }
        // With prune, no resources at all is a wish: the set shall be empty.
        if documents.resources.is_empty() && !self.prune {
            anyhow::bail!("no resources in {}", self.files.join(", "));
        }
        Ok(documents)
    }

    pub(crate) fn request(&self, documents: &Documents, dry_run: bool) -> v1::ApplyRequest {
        v1::ApplyRequest {
            resources: documents
                .resources
                .iter()
                .map(|resource| v1::Resource::from(&resource.value))
                .collect(),
            dry_run,
            set: self
                .set
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            prune: self.prune,
            preconditions: Vec::new(),
        }
    }
}

/// Waits if asked to, and prints what changed and who enforces it.
pub(crate) async fn finish(
    mut changes: Changes,
    client: &Client,
    wait: WaitArgs,
    format: ChangesFormat,
    out: Output,
) -> anyhow::Result<Answer> {
    if format == ChangesFormat::Text {
        changes.print(out)?;
        if let Some(preview) = &changes.preview {
            out.raw(preview.text(guard::LINES, out))?;
        }
    }
    let mut answer = Answer::Yes;
    if wait.wait {
        let rollout = rollout::wait(client, &changes, wait.timeout).await?;
        answer = rollout.answer();
        if format == ChangesFormat::Text {
            rollout.print(out)?;
        }
        changes.rollout = Some(rollout);
    }
    if format == ChangesFormat::Json {
        out.json(&changes)?;
    }
    Ok(answer)
}
