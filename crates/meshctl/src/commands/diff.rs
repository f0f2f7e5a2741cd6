//! `meshctl diff`: what `apply` would change, as a unified diff of YAML.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Serialize;
use similar::TextDiff;
use weft_wire::{Resource, ResourceKey, v1};

use crate::changes::Action;
use crate::client::{Client, refused};
use crate::commands::apply::SourceArgs;
use crate::commands::guard;
use crate::documents::Documents;
use crate::failure::Answer;
use crate::moments::parse_length;
use crate::output::{Format, FormatArg, Output, Paint};
use crate::preview::Edit;
use crate::rendering;
use crate::session::Session;

/// Show what apply would change; exit code 1 when something differs.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How far back live traffic is looked at; what the edit does to it stands below the differences.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_length)]
    since: SignedDuration,
    /// `wide` shows whole resources around each change.
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    resource: String,
    action: Action,
    diff: String,
}

pub(crate) async fn run(args: DiffArgs, session: &Session) -> anyhow::Result<Answer> {
    let documents = args.source.load(session.out)?;
    let session_context = session.context().await?;
    let client = Client::connect(&session_context).await?;
    let request = args.source.request(&documents, true);
    let answer = client
        .resources()
        .apply(request)
        .await
        .map_err(refused)?
        .into_inner();
    let context = match args.format.format {
        Format::Wide => WHOLE_RESOURCE,
        Format::Table | Format::Json | Format::Yaml => CONTEXT_LINES,
    };
    let differences = differences(&documents, &answer.changes, context)?;
    let edit = Edit::of_apply(&documents.resources, &answer.changes)?;
    let trust_domain = &session_context.settings.trust_domain;
    let report = match args.format.is_for_people() {
        true => guard::look(&client, trust_domain, &edit, args.since, session.out).await?,
        false => None,
    };
    match args.format.format {
        Format::Json => session.out.json(&differences)?,
        Format::Yaml => session.out.yaml(&differences)?,
        Format::Table | Format::Wide => {
            for difference in &differences {
                print(&difference.diff, session.out)?;
            }
            if let Some(report) = report {
                session.out.line("")?;
                session.out.raw(report.text(guard::LINES, session.out))?;
            }
        }
    }
    Ok(Answer::from(differences.is_empty()))
}

fn differences(
    documents: &Documents,
    changes: &[v1::Change],
    context: usize,
) -> anyhow::Result<Vec<Difference>> {
    let mut wanted = BTreeMap::new();
    for resource in &documents.resources {
        wanted.insert(resource.value.key(), resource);
    }
    let mut differences = Vec::new();
    for change in changes {
        let action = Action::of(change);
        if action == Action::Unchanged {
            continue;
        }
        let key = ResourceKey::try_from(&change.key.clone().unwrap_or_default())?;
        let before = match &change.before {
            Some(before) => rendering::yaml(&Resource::try_from(before)?)?,
            None => String::new(),
        };
        let (after, file) = match wanted.get(&key) {
            Some(resource) => (
                rendering::yaml(&resource.value)?,
                resource.origin.file.as_str(),
            ),
            None => (String::new(), "nothing"),
        };
        let mut diff = TextDiff::from_lines(&before, &after)
            .unified_diff()
            .context_radius(context)
            .header(&format!("live/{key}"), &format!("{file}/{key}"))
            .to_string();
        if diff.is_empty() {
            // The text agrees: only the membership in a set changes.
            diff = format!("{key}: becomes a member of the set\n");
        }
        differences.push(Difference {
            resource: key.to_string(),
            action,
            diff,
        });
    }
    Ok(differences)
}

fn print(diff: &str, out: Output) -> std::io::Result<()> {
    for line in diff.lines() {
        let painted = match line.as_bytes().first() {
            Some(b'+') => out.paint(Paint::Good, line),
            Some(b'-') => out.paint(Paint::Bad, line),
            Some(b'@') => out.paint(Paint::Faint, line),
            _ => line.to_owned(),
        };
        out.line(painted)?;
    }
    Ok(())
}

const CONTEXT_LINES: usize = 3;
/// More lines than a document has.
const WHOLE_RESOURCE: usize = 1 << 20;
