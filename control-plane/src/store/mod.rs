//! What the control plane must remember, in one file, under one increasing revision.
//!
//! One thread writes. It takes what is queued, runs each piece of work as its own transaction, makes them durable with
//! one commit, publishes them to watchers in order, and only then answers. So an answer means "on disk", a revision
//! means one transaction, and no transaction sees half of another. Work that fails leaves nothing behind and does not
//! disturb its neighbours: writes gather beside the database and join it only when the work succeeds.

mod audit;
mod decisions;
mod error;
mod flows;
mod folder;
mod records;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod transaction;
mod volatile;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

pub use error::StoreError;
pub use flows::{FlowReport, Loss};
pub use folder::{FolderError, StateFolder};
pub use records::{
    AuditEntry, Outcome, OwnedEndpoints, Revocation, RevocationTarget, StoredEndpoints,
};
pub use rows::Reader;
pub(crate) use rows::{Rows, message, read_record, record, records};
pub use tables::{SCHEMA as STORE_SCHEMA, Table};
pub use transaction::{WriteTx, key_of};
pub use volatile::VolatileBackend;
pub use watch::{Commit, Lagged, StoreChange, Watch};

/// A handle on the store; clones share it. The store closes when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The result of a transaction that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<T> {
    pub value: T,
    /// The store's revision after the transaction: its own if it changed watched state.
    pub revision: u64,
}

struct Inner {
    database: Arc<redb::Database>,
    revision: Arc<AtomicU64>,
    commits: watch::Commits,
    /// `None` only while the store closes.
    jobs: Option<mpsc::Sender<writer::Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the store in this file, or makes a new one. Refuses one that a newer version wrote.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        if !path.exists() {
            make(path)?;
        }
        let database = builder().create(path).map_err(StoreError::open)?;
        Self::start(database)
    }

    /// Like [`Store::open`], in any storage that redb can write to.
    pub fn open_backend(backend: impl redb::StorageBackend) -> Result<Store, StoreError> {
        let database = builder()
            .create_with_backend(backend)
            .map_err(StoreError::open)?;
        Self::start(database)
    }

    fn start(database: redb::Database) -> Result<Store, StoreError> {
        let revision = Arc::new(AtomicU64::new(tables::prepare(&database)?));
        let (jobs, queue) = mpsc::channel(QUEUED_TRANSACTIONS);
        let commits = watch::Commits::new();
        let database = Arc::new(database);
        let writer = writer::Writer {
            database: Arc::clone(&database),
            revision: Arc::clone(&revision),
            commits: commits.clone(),
            queue,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(StoreError::thread)?;
        Ok(Store {
            inner: Arc::new(Inner {
                database,
                revision,
                commits,
                jobs: Some(jobs),
                thread: Some(thread),
            }),
        })
    }

    /// Runs `work` as one transaction and answers when it is durable. An `Err` from `work` leaves nothing behind.
    ///
    /// `work` runs on the writer's thread, where every other writer waits for it: it must not block.
    pub async fn write<T, E, F>(&self, work: F) -> Result<Written<T>, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = writer::job(work, answer);
        let jobs = self.inner.jobs.as_ref().ok_or(StoreError::Stopped)?;
        jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    /// A consistent view of everything at one revision.
    pub fn read(&self) -> Result<Reader, StoreError> {
        Reader::begin(&self.inner.database)
    }

    /// The revision of the last durable transaction that changed watched state.
    pub fn revision(&self) -> u64 {
        self.inner.revision.load(Ordering::Acquire)
    }

    /// Every commit from now on, in order. To follow from a known state: watch first, then [`Store::read`], then skip
    /// commits up to the revision that was read.
    pub fn watch(&self) -> Watch {
        self.inner.commits.watch()
    }

    /// Resolves when the store can write no more (its storage failed). The process should stop then.
    pub async fn failed(&self) {
        if let Some(jobs) = &self.inner.jobs {
            jobs.closed().await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a sender the writer finishes what is queued and ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes a store under another name first: whoever is killed meanwhile leaves no half-made one behind.
fn make(path: &Path) -> Result<(), StoreError> {
    let unfinished = path.with_extension("new");
    let failed = |error: std::io::Error| StoreError::open(redb::StorageError::Io(error).into());
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let database = builder().create(&unfinished).map_err(StoreError::open)?;
    tables::prepare(&database)?;
    drop(database);
    std::fs::rename(&unfinished, path).map_err(failed)
}

fn builder() -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// redb's page cache: the store of a large mesh is a few MiB, and idle memory is a promise.
const CACHE_BYTES: usize = 8 << 20;
/// Callers beyond this wait for their turn.
const QUEUED_TRANSACTIONS: usize = 1024;
