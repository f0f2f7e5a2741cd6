//! Watching resources: the state or what was missed, a mark, then every change, in order and without a gap.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::Status;
use weft_wire::{Kind, v1};

use super::list::read_kind;
use crate::hub::{Hub, internal};
use crate::store::{Commit, Lagged, StoreChange, Watch};

/// One watcher.
pub(super) struct Watching {
    hub: Arc<Hub>,
    filter: Filter,
    from_revision: u64,
    changes: Watch,
}

type Events = mpsc::Sender<Result<v1::WatchEvent, Status>>;

struct Filter {
    kind: Option<Kind>,
    namespace: String,
}

impl Watching {
    pub(super) fn begin(hub: Arc<Hub>, request: &v1::WatchRequest) -> Result<Self, Status> {
        let filter = Filter {
            kind: read_kind(&request.kind)?,
            namespace: request.namespace.clone(),
        };
        // First watch, then read: what happens between is seen twice and skipped once.
        let changes = hub.store.watch();
        Ok(Self {
            hub,
            filter,
            from_revision: request.from_revision,
            changes,
        })
    }

    pub(super) async fn serve(mut self, events: &Events) -> Result<(), Status> {
        let mut revision = match self.from_revision {
            0 => self.send_state(events).await?,
            from => self.send_missed(from, events).await?,
        };
        let synced = v1::watch_event::Event::Synced(v1::Any {});
        send(events, revision, synced).await?;
        let draining = self.hub.tasks.draining();
        loop {
            let commit = tokio::select! {
                () = draining.cancelled() => return Err(Status::unavailable("the control plane is stopping")),
                () = events.closed() => return Ok(()),
                commit = self.changes.next() => commit,
            };
            match commit {
                Ok(commit) if commit.revision <= revision => {}
                Ok(commit) => {
                    revision = commit.revision;
                    self.send_commit(&commit, events).await?;
                }
                Err(Lagged::Missed(_)) => {
                    return Err(Status::out_of_range("the watcher was too slow: list again"));
                }
                Err(Lagged::Closed) => {
                    return Err(Status::unavailable("the control plane is stopping"));
                }
            }
        }
    }

    async fn send_state(&self, events: &Events) -> Result<u64, Status> {
        let reader = self.hub.store.read().map_err(internal)?;
        let revision = reader.revision().map_err(internal)?;
        for resource in reader.resources().map_err(internal)? {
            if self.filter.admits(crate::store::key_of(&resource).as_ref()) {
                send(events, revision, v1::watch_event::Event::Put(resource)).await?;
            }
        }
        Ok(revision)
    }

    async fn send_missed(&self, from: u64, events: &Events) -> Result<u64, Status> {
        let reached = self.hub.store.revision();
        if from <= reached {
            // What is committed is about to be taken in.
            self.hub.views.reached(reached).await;
        }
        let missed = self.hub.history.after(from);
        let missed = missed.ok_or_else(|| {
            Status::out_of_range(format!("revision {from} is no longer kept: list again"))
        })?;
        for commit in &missed {
            self.send_commit(commit, events).await?;
        }
        Ok(missed.last().map_or(from, |commit| commit.revision))
    }

    async fn send_commit(&self, commit: &Commit, events: &Events) -> Result<(), Status> {
        for change in &commit.changes {
            let StoreChange::Resource { key, after, .. } = change else {
                continue;
            };
            if !self.filter.admits(Some(key)) {
                continue;
            }
            let event = match after {
                Some(resource) => v1::watch_event::Event::Put(v1::Resource::clone(resource)),
                None => v1::watch_event::Event::Deleted(key.clone()),
            };
            send(events, commit.revision, event).await?;
        }
        Ok(())
    }
}

impl Filter {
    fn admits(&self, key: Option<&v1::ResourceKey>) -> bool {
        key.is_some_and(|key| {
            self.kind.is_none_or(|kind| kind.as_str() == key.kind)
                && (self.namespace.is_empty() || self.namespace == key.namespace)
        })
    }
}

async fn send(events: &Events, revision: u64, event: v1::watch_event::Event) -> Result<(), Status> {
    let event = v1::WatchEvent {
        revision,
        event: Some(event),
    };
    events
        .send(Ok(event))
        .await
        .map_err(|_| Status::unavailable("the watcher has gone"))
}
