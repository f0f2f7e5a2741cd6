//! What a request changed, a line per resource: `Allow/shop/web-reads-orders created`.

use std::time::Instant;

use serde::Serialize;
use weft_wire::v1;

use crate::client::{Client, refused};
use crate::output::{Output, Paint, printable};
use crate::preview::Report;
use crate::rollout::Rollout;

/// The answer of `apply`, `delete` and `quarantine`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changes {
    pub(crate) revision: u64,
    dry_run: bool,
    changes: Vec<Changed>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<Rollout>,
    /// What it does to live traffic, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preview: Option<Report>,
    /// When the request left: how long a rollout took is counted from here.
    #[serde(skip)]
    pub(crate) sent: Instant,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    Unchanged,
    Created,
    Updated,
    Deleted,
    /// A word of a newer control plane.
    Unknown,
}

impl Changes {
    /// Sends an apply and tells what it changed.
    pub(crate) async fn apply(client: &Client, request: v1::ApplyRequest) -> anyhow::Result<Self> {
        let (sent, dry_run) = (Instant::now(), request.dry_run);
        let answer = client.resources().apply(request).await.map_err(refused)?;
        let answer = answer.into_inner();
        Ok(Self {
            revision: answer.revision,
            dry_run,
            changes: answer.changes.into_iter().map(Changed::from).collect(),
            warnings: answer.warnings,
            rollout: None,
            preview: None,
            sent,
        })
    }

    /// Sends a delete and tells what it changed.
    pub(crate) async fn delete(
        client: &Client,
        request: v1::DeleteRequest,
    ) -> anyhow::Result<Self> {
        let (sent, dry_run) = (Instant::now(), request.dry_run);
        let answer = client.resources().delete(request).await.map_err(refused)?;
        let answer = answer.into_inner();
        Ok(Self {
            revision: answer.revision,
            dry_run,
            changes: answer.changes.into_iter().map(Changed::from).collect(),
            warnings: Vec::new(),
            rollout: None,
            preview: None,
            sent,
        })
    }

    pub(crate) fn print(&self, out: Output) -> std::io::Result<()> {
        for warning in &self.warnings {
            out.warn(printable(warning));
        }
        for changed in &self.changes {
            let (word, paint) = changed.action.word();
            let would = if self.dry_run && changed.action != Action::Unchanged {
                " (dry run)"
            } else {
                ""
            };
            out.line(format!(
                "{} {}{would}",
                changed.key(),
                out.paint(paint, word)
            ))?;
        }
        Ok(())
    }
}

impl From<v1::Change> for Changed {
    fn from(change: v1::Change) -> Self {
        let action = Action::of(&change);
        let key = change.key.unwrap_or_default();
        Self {
            kind: key.kind,
            namespace: key.namespace,
            name: key.name,
            action,
        }
    }
}

impl Changed {
    fn key(&self) -> String {
        key_text(&self.kind, &self.namespace, &self.name)
    }
}

/// `Kind/namespace/name`, or `Kind/name` for kinds of the whole mesh.
pub(crate) fn key_text(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind}/{name}")
    } else {
        format!("{kind}/{namespace}/{name}")
    }
}

impl Action {
    pub(crate) fn of(change: &v1::Change) -> Self {
        match change.action() {
            v1::change::Action::Unspecified => Action::Unknown,
            v1::change::Action::Unchanged => Action::Unchanged,
            v1::change::Action::Created => Action::Created,
            v1::change::Action::Updated => Action::Updated,
            v1::change::Action::Deleted => Action::Deleted,
        }
    }

    fn word(self) -> (&'static str, Paint) {
        match self {
            Action::Unchanged => ("unchanged", Paint::Faint),
            Action::Created => ("created", Paint::Good),
            Action::Updated => ("updated", Paint::Warning),
            Action::Deleted => ("deleted", Paint::Bad),
            Action::Unknown => ("changed", Paint::Warning),
        }
    }
}
