//! The one thread that writes, and its group commit.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::tables::{META_REVISION, Table};
use super::watch::{Commit, Commits};
use super::{StoreError, WriteTx, Written};

/// Work with its answer: run it, and what it returns is told how the commit went.
pub(super) type Job = Box<dyn FnOnce(&mut WriteTx<'_>) -> Option<Answer> + Send>;
/// Told the revision when the work is durable, or why it is not.
pub(super) type Answer = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;

pub(super) fn job<T, E, F>(work: F, answer: oneshot::Sender<Result<Written<T>, E>>) -> Job
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
{
    Box::new(move |transaction| match work(transaction) {
        Ok(value) => Some(Box::new(move |durable| {
            let result = durable.map(|revision| Written { value, revision });
            let _ = answer.send(result.map_err(E::from));
        })),
        Err(error) => {
            let _ = answer.send(Err(error));
            None
        }
    })
}

pub(super) struct Writer {
    pub(super) database: Arc<redb::Database>,
    pub(super) revision: Arc<AtomicU64>,
    pub(super) commits: Commits,
    pub(super) queue: mpsc::Receiver<Job>,
}

impl Writer {
    /// Ends when every handle is gone, or when the storage failed: then nothing more can be promised.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(GROUP);
        while self.queue.blocking_recv_many(&mut batch, GROUP) > 0 {
            if let Err(error) = self.commit(std::mem::take(&mut batch)) {
                tracing::error!(%error, cause = ?error, "the store's storage failed");
                return;
            }
        }
    }

    fn commit(&self, jobs: Vec<Job>) -> Result<(), StoreError> {
        let mut group = Group::default();
        match self.run_jobs(jobs, &mut group) {
            Ok(()) => {
                let (commits, answers) = (group.commits, group.answers);
                if let Some(last) = commits.last() {
                    self.revision.store(last.revision, Ordering::Release);
                }
                for commit in commits {
                    self.commits.publish(commit);
                }
                for (answer, revision) in answers {
                    answer(Ok(revision));
                }
                Ok(())
            }
            Err(error) => {
                for (answer, _) in group.answers {
                    answer(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    fn run_jobs(&self, jobs: Vec<Job>, group: &mut Group) -> Result<(), StoreError> {
        let database = self.database.begin_write()?;
        let mut revision = self.revision.load(Ordering::Acquire);
        let mut has_rows = false;
        for job in jobs {
            let mut transaction = WriteTx::new(&database, revision + 1);
            // A panic in one caller's work must not stop the others; its answer is dropped, which the caller sees.
            let ran = std::panic::catch_unwind(AssertUnwindSafe(|| job(&mut transaction)));
            let Ok(Some(answer)) = ran else { continue };
            let (rows, changes) = match transaction.finish() {
                Ok(finished) => finished,
                Err(error) => {
                    answer(Err(error));
                    continue;
                }
            };
            has_rows |= !rows.is_empty();
            if let Err(error) = rows.store(&database) {
                answer(Err(error.clone()));
                return Err(error);
            }
            if !changes.is_empty() {
                revision += 1;
                group.commits.push(Commit { revision, changes });
            }
            group.answers.push((answer, revision));
        }
        if !group.commits.is_empty() {
            let mut meta = database.open_table(Table::Meta.definition())?;
            meta.insert(META_REVISION, revision.to_be_bytes().as_slice())?;
        }
        // An answer may rest on what an earlier neighbour wrote, so even work that only read waits for the commit. Where nobody wrote
        // (dry runs, refusals that are known already) there is nothing to make durable.
        match has_rows {
            true => database.commit()?,
            false => database.abort()?,
        }
        Ok(())
    }
}

/// What one durable commit carries.
#[derive(Default)]
struct Group {
    commits: Vec<Commit>,
    answers: Vec<(Answer, u64)>,
}

/// Most transactions in one durable commit.
const GROUP: usize = 128;
