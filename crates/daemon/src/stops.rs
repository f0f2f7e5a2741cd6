//! Tasks that can be stopped together, without each of them asking at every wake-up whether it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::task::AbortHandle;

/// A group of tasks; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Stops {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    running: Slab<Running>,
    started: u64,
    /// Whoever enters now is stopped at once.
    stopped: bool,
}

struct Running {
    number: u64,
    /// None until its task has started.
    handle: Option<AbortHandle>,
}

/// A task's place in its group, which it leaves when it is gone, however it went.
pub(crate) struct Place {
    stops: Stops,
    key: usize,
}

impl Stops {
    /// A task belongs to the group from now on. `start` gets what the task must hold on to.
    pub(crate) fn start(&self, start: impl FnOnce(Place) -> AbortHandle) {
        let (key, number) = self.reserve();
        let stops = self.clone();
        // Not under the lock: a runtime that ends drops what it should start, and with it the place.
        let handle = start(Place { stops, key });
        let mut table = self.table();
        if table.stopped {
            handle.abort();
        }
        // It may have left before it entered, and another one come.
        if let Some(running) = table.running.get_mut(key)
            && running.number == number
        {
            running.handle = Some(handle);
        }
    }

    /// Stops all of them at their next wait, and whoever comes later.
    pub(crate) fn stop(&self) {
        let mut table = self.table();
        table.stopped = true;
        let handles = table
            .running
            .iter()
            .filter_map(|(_, running)| running.handle.as_ref());
        handles.for_each(AbortHandle::abort);
    }

    fn reserve(&self) -> (usize, u64) {
        let mut table = self.table();
        table.started += 1;
        let number = table.started;
        let key = table.running.insert(Running {
            number,
            handle: None,
        });
        (key, number)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is whole before it can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stops.table().running.try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    fn start(stops: &Stops, ends: bool) -> tokio::task::JoinHandle<()> {
        let mut task = None;
        stops.start(|place| {
            let started = tokio::spawn(async move {
                let _place = place;
                if !ends {
                    pending::<()>().await;
                }
            });
            let handle = started.abort_handle();
            task = Some(started);
            handle
        });
        task.unwrap()
    }

    #[tokio::test]
    async fn all_that_run_are_stopped_and_those_that_come_later_too() {
        let stops = Stops::default();
        start(&stops, true).await.unwrap();
        assert!(stops.table().running.is_empty());
        let running = [start(&stops, false), start(&stops, false)];
        stops.stop();
        let late = start(&stops, false);
        for task in running.into_iter().chain([late]) {
            let ended = tokio::time::timeout(Duration::from_secs(5), task).await;
            assert!(ended.unwrap().unwrap_err().is_cancelled());
        }
        assert!(stops.table().running.is_empty());
    }
}
