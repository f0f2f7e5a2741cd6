//! The ordered, bounded stream of commits.

use std::sync::Arc;

use tokio::sync::broadcast;
use weft_wire::v1;

use super::StoredEndpoints;

/// One transaction that changed watched state.
#[derive(Debug, Clone)]
pub struct Commit {
    pub revision: u64,
    pub changes: Vec<StoreChange>,
}

/// What changed. `before` and `after` are never both absent.
#[derive(Debug, Clone)]
pub enum StoreChange {
    Resource {
        key: v1::ResourceKey,
        before: Option<Arc<v1::Resource>>,
        after: Option<Arc<v1::Resource>>,
    },
    Endpoints {
        owner: String,
        instance: String,
        before: Option<Arc<StoredEndpoints>>,
        after: Option<Arc<StoredEndpoints>>,
    },
    /// Read them anew.
    Revocations,
    /// Read it anew.
    Bundle,
}

/// A follower of the store. See [`super::Store::watch`].
pub struct Watch {
    commits: broadcast::Receiver<Arc<Commit>>,
}

/// Why a [`Watch`] has no next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lagged {
    #[error("{0} commits were missed: reload the state")]
    Missed(u64),
    #[error("the store has closed")]
    Closed,
}

impl Watch {
    /// The next commit. After [`Lagged::Missed`] the reader reloads the state and goes on with the same watch.
    pub async fn next(&mut self) -> Result<Arc<Commit>, Lagged> {
        self.commits.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => Lagged::Missed(missed),
            broadcast::error::RecvError::Closed => Lagged::Closed,
        })
    }

    /// The next commit if it is there already: to drain several into one pass.
    pub fn try_next(&mut self) -> Option<Result<Arc<Commit>, Lagged>> {
        match self.commits.try_recv() {
            Ok(commit) => Some(Ok(commit)),
            Err(broadcast::error::TryRecvError::Empty) => None,
            Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                Some(Err(Lagged::Missed(missed)))
            }
            Err(broadcast::error::TryRecvError::Closed) => Some(Err(Lagged::Closed)),
        }
    }
}

/// The publishing end.
#[derive(Clone)]
pub(super) struct Commits {
    sender: broadcast::Sender<Arc<Commit>>,
}

impl Commits {
    pub(super) fn new() -> Self {
        let (sender, _) = broadcast::channel(KEPT_COMMITS);
        Self { sender }
    }

    pub(super) fn publish(&self, commit: Commit) {
        // No watcher is no error.
        let _ = self.sender.send(Arc::new(commit));
    }

    pub(super) fn watch(&self) -> Watch {
        Watch {
            commits: self.sender.subscribe(),
        }
    }
}

/// How far a watcher may fall behind before it must reload.
const KEPT_COMMITS: usize = 1024;
