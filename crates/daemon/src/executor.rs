//! Runs what hyper starts beside a connection (the streams of HTTP/2) as tasks of the process.

use std::future::Future;
use std::pin::Pin;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Tasks;

/// Starts connection tasks.
#[derive(Clone)]
pub struct Executor {
    tasks: Tasks,
    name: &'static str,
    ended: CancellationToken,
}

impl Executor {
    /// What it starts ends by itself, or with the process: a client's connection outlives whoever asks for it.
    pub fn of_process(tasks: &Tasks, name: &'static str) -> Self {
        Self {
            tasks: tasks.clone(),
            name,
            ended: CancellationToken::new(),
        }
    }

    /// What it starts is stopped when the guard is dropped: keep it with the connection.
    pub fn of_connection(tasks: &Tasks, name: &'static str) -> (Self, DropGuard) {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let executor = Self {
            tasks: tasks.clone(),
            name,
            ended,
        };
        (executor, guard)
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let ended = self.ended.clone();
        let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            tokio::select! {
                _ = future => {}
                () = ended.cancelled() => {}
            }
        });
        self.tasks.connection(self.name, future);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::rt::Executor as _;

    use super::*;

    #[tokio::test]
    async fn what_it_starts_ends_with_its_connection() {
        let tasks = Tasks::new();
        let (executor, guard) = Executor::of_connection(&tasks, "stream");
        executor.execute(std::future::pending::<()>());
        drop(guard);
        let drained = tasks.drain(Duration::from_secs(10)).await;
        assert_eq!(drained.connections_cut, 0);
    }
}
