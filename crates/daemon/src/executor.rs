//! Runs what hyper starts beside a connection (the streams of HTTP/2) as tasks of the process.

use std::future::Future;

use crate::Tasks;
use crate::stops::Stops;

/// Starts connection tasks.
#[derive(Clone)]
pub struct Executor {
    tasks: Tasks,
    name: &'static str,
    /// What it starts ends with this group too.
    group: Stops,
}

/// Ends what its executor started when it is dropped.
pub struct EndsWith(Stops);

impl Executor {
    /// What it starts is stopped when the guard is dropped: keep it with the connection.
    pub fn of_connection(tasks: &Tasks, name: &'static str) -> (Self, EndsWith) {
        let group = Stops::default();
        let executor = Self {
            tasks: tasks.clone(),
            name,
            group: group.clone(),
        };
        (executor, EndsWith(group))
    }
}

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let future = async move {
            future.await;
        };
        self.tasks.connection_of(&self.group, self.name, future);
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
