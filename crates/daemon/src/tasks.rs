//! The only place that spawns. Every task has a name and a class, and each one is joined or stopped before the process ends.
//!
//! - *vital*: its end, unless the process is draining, is the end of the process, by its name;
//! - *connection*: serves one peer; a drain waits for it until its deadline;
//! - *background*: restarted with back-off when it fails or panics.

use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Backoff;
use crate::stops::Stops;

/// A handle to the process's tasks; clones share them.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    connections: TaskTracker,
    stops: Stops,
    others: TaskTracker,
    /// Cancelled first: no new work, finish what is open.
    draining: CancellationToken,
    /// Cancelled last: every task that still runs is dropped at its next await.
    stopping: CancellationToken,
    failures: mpsc::Sender<TaskFailure>,
    failed: tokio::sync::Mutex<mpsc::Receiver<TaskFailure>>,
}

/// The end of a vital task.
#[derive(Debug, thiserror::Error)]
#[error("vital task `{task}` ended")]
pub struct TaskFailure {
    /// The name that the task was started with.
    pub task: &'static str,
    /// Its error, or what its panic said.
    #[source]
    pub cause: Box<dyn Error + Send + Sync>,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connection tasks that the deadline cut.
    pub connections_cut: usize,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        // One failure ends the process; further ones have nothing to add.
        let (failures, failed) = mpsc::channel(1);
        Self {
            shared: Arc::new(Shared {
                connections: TaskTracker::new(),
                stops: Stops::default(),
                others: TaskTracker::new(),
                draining: CancellationToken::new(),
                stopping: CancellationToken::new(),
                failures,
                failed: tokio::sync::Mutex::new(failed),
            }),
        }
    }

    /// Starts a task without which the process must not go on.
    pub fn vital<F, E>(&self, task: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let shared = Arc::clone(&self.shared);
        self.shared.others.spawn(async move {
            let ended = tokio::select! {
                ended = AssertUnwindSafe(future).catch_unwind() => ended,
                () = shared.stopping.cancelled() => return,
            };
            let cause = match ended {
                Ok(Ok(())) if shared.draining.is_cancelled() => return,
                Ok(Ok(())) => "it returned although nothing asked it to".into(),
                Ok(Err(error)) => error.into(),
                Err(panic) => panic_message(panic.as_ref()).into(),
            };
            // A full channel holds an earlier failure, which already ends the process.
            let _ = shared.failures.try_send(TaskFailure { task, cause });
        });
    }

    /// Starts a task that serves one peer. Its panic ends that connection alone.
    pub fn connection<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.shared
            .stops
            .start(|place| self.spawn_connection(task, future, place));
    }

    /// The same for a task that also ends with a group of its own.
    pub(crate) fn connection_of<F>(&self, group: &Stops, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        group.start(|of_group| {
            let mut started = None;
            self.shared.stops.start(|of_process| {
                let handle = self.spawn_connection(task, future, (of_group, of_process));
                started = Some(handle.clone());
                handle
            });
            started.expect("it was started")
        });
    }

    fn spawn_connection<F, P>(&self, task: &'static str, future: F, places: P) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
        P: Send + 'static,
    {
        let spawned = self.shared.connections.spawn(async move {
            let _places = places;
            run_alone(task, future).await;
        });
        spawned.abort_handle()
    }

    /// Starts a task that serves an onlooker: a drain does not wait for it, and its panic ends it alone.
    pub(crate) fn observer<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.shared.stopping.clone();
        self.shared.others.spawn(async move {
            tokio::select! {
                () = run_alone(task, future) => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    /// Starts a task that is started again, with back-off, when it fails or panics. `Ok` ends it for good.
    pub fn background<M, F, E>(&self, task: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let stopping = self.shared.stopping.clone();
        self.shared.others.spawn(async move {
            let mut backoff = Backoff::new(RESTART_AFTER_AT_LEAST, RESTART_AFTER_AT_MOST);
            loop {
                let started = tokio::time::Instant::now();
                let ended = tokio::select! {
                    ended = AssertUnwindSafe(make()).catch_unwind() => ended,
                    () = stopping.cancelled() => return,
                };
                let Some(cause) = failure_of(ended) else { return };
                if started.elapsed() > RESTART_AFTER_AT_MOST {
                    backoff.reset();
                }
                let delay = backoff.next_delay();
                tracing::warn!(task, cause = %cause, delay_ms = millis(delay), "a background task ended and is started again");
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stopping.cancelled() => return,
                }
            }
        });
    }

    /// Cancelled when the process begins to drain: take no new work.
    pub fn draining(&self) -> CancellationToken {
        self.shared.draining.clone()
    }

    /// Number of connection tasks that run.
    pub fn open_connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Resolves with the first vital task that ended.
    pub async fn failure(&self) -> TaskFailure {
        let mut failed = self.shared.failed.lock().await;
        match failed.recv().await {
            Some(failure) => failure,
            // `self` holds a sender, so the channel cannot close.
            None => std::future::pending().await,
        }
    }

    /// Resolves when every task has ended after a drain: a further runtime on which some of them run must not go before.
    pub async fn ended(&self) {
        self.shared.stopping.cancelled().await;
        self.shared.connections.wait().await;
        self.shared.others.wait().await;
    }

    /// Lets connections end by themselves until the deadline, then stops every task and joins it.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.shared.draining.cancel();
        self.shared.connections.close();
        let _ = tokio::time::timeout(deadline, self.shared.connections.wait()).await;
        let connections_cut = self.shared.connections.len();
        self.shared.stopping.cancel();
        self.shared.stops.stop();
        self.shared.others.close();
        self.shared.connections.wait().await;
        self.shared.others.wait().await;
        Drained { connections_cut }
    }
}

async fn run_alone<F: Future<Output = ()>>(task: &'static str, future: F) {
    if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
        tracing::error!(
            task,
            panic = panic_message(panic.as_ref()),
            "a connection's task panicked"
        );
    }
}

/// Why a task's end was a failure, if it was one.
fn failure_of<E: Into<Box<dyn Error + Send + Sync>>>(
    ended: Result<Result<(), E>, Box<dyn std::any::Any + Send>>,
) -> Option<Box<dyn Error + Send + Sync>> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.into()),
        Err(panic) => Some(panic_message(panic.as_ref()).into()),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "it panicked: {}",
        text.unwrap_or_else(|| "with a value that is not text".to_owned())
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const RESTART_AFTER_AT_LEAST: Duration = Duration::from_millis(100);
const RESTART_AFTER_AT_MOST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panics_is_reported_by_its_name() {
        let tasks = Tasks::new();
        tasks.vital("heart", async {
            if true {
                panic!("stopped");
            }
            Ok::<(), std::io::Error>(())
        });
        let failure = tasks.failure().await;
        assert_eq!(failure.task, "heart");
        assert!(failure.cause.to_string().contains("stopped"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_background_task_is_started_again_until_it_succeeds() {
        let tasks = Tasks::new();
        let runs = Arc::new(AtomicU32::new(0));
        let (done, finished) = tokio::sync::oneshot::channel();
        let mut done = Some(done);
        let counted = Arc::clone(&runs);
        tasks.background("worker", move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            let done = if run == 2 { done.take() } else { None };
            async move {
                match done {
                    Some(done) => {
                        let _ = done.send(());
                        Ok(())
                    }
                    None => Err(std::io::Error::other("not yet")),
                }
            }
        });
        finished.await.expect("the third run succeeds");
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_connections_and_cuts_those_that_outlast_the_deadline() {
        let tasks = Tasks::new();
        tasks.connection("short", tokio::time::sleep(Duration::from_secs(1)));
        tasks.connection("endless", std::future::pending());
        let drained = tasks.drain(Duration::from_secs(5)).await;
        assert_eq!(drained, Drained { connections_cut: 1 });
        assert_eq!(tasks.open_connections(), 0);
    }

    #[tokio::test]
    async fn a_vital_task_may_end_while_the_process_drains() {
        let tasks = Tasks::new();
        let draining = tasks.draining();
        tasks.vital("listener", async move {
            draining.cancelled().await;
            Ok::<(), std::io::Error>(())
        });
        tasks.drain(Duration::from_secs(1)).await;
        assert!(tasks.failure().now_or_never().is_none());
    }
}
