//! Further threads that move bytes, where the configuration asks for them.
//!
//! Workers share nothing on the way of a request: each has a runtime of one thread, pools and shared connections of its own, and takes
//! connections from the same listening sockets. What is in force, what is live and the figures are the process's.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::Sidecar;
use crate::listener::{self, Listeners, Shared};

/// The threads beside the main one.
#[derive(Default)]
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

/// Ends without its task having ended.
#[derive(Debug, thiserror::Error)]
#[error("a worker's thread ended")]
struct WorkerEnded;

impl Workers {
    /// Serves the listeners with as many workers as the configuration says, one of which is the caller's own thread.
    pub(crate) fn start(sidecar: &Arc<Sidecar>, listeners: Listeners) -> io::Result<Self> {
        let shared = Shared::new(sidecar);
        let mut started = Self::default();
        for number in 1..sidecar.config.limits.workers {
            let (shared, listeners) = (Arc::clone(&shared), listeners.for_another_runtime()?);
            let (ends, ended) = oneshot::channel::<()>();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let serve = move || {
                let _ends = ends;
                runtime.block_on(async {
                    let own = shared.of_another_worker();
                    match listeners.into_this_runtime() {
                        Ok(listeners) => {
                            listener::start(&own, listeners);
                            own.tasks.ended().await;
                        }
                        Err(error) => tracing::error!(%error, "a worker cannot listen"),
                    }
                });
            };
            let thread = std::thread::Builder::new().name(format!("worker {number}"));
            started.threads.push(thread.spawn(serve)?);
            sidecar.tasks.vital("worker", async move {
                let _ = ended.await;
                Err::<(), _>(WorkerEnded)
            });
        }
        listener::start(&shared, listeners);
        Ok(started)
    }

    /// Waits for their ends, once the process's tasks were told to end.
    pub(crate) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker's thread panicked");
            }
        }
    }
}
