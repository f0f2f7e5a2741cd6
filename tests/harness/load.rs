//! A steady stream of requests that counts what failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::request;

/// Sends requests at a fixed rate, each on a connection of its own, until stopped.
#[derive(Debug)]
pub struct Load {
    counts: Arc<Counts>,
    running: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    first_failure: std::sync::Mutex<Option<String>>,
}

/// What became of the requests.
#[derive(Debug)]
pub struct Outcome {
    pub sent: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
}

impl Load {
    /// `GET path` from `address`, as `Host: host`, `rate` times a second. Anything but a 200 is a failure.
    pub fn start(address: SocketAddr, host: &str, target: &str, rate: u32) -> Self {
        let counts: Arc<Counts> = Arc::default();
        let (host, target, counted) = (host.to_owned(), target.to_owned(), Arc::clone(&counts));
        let running = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut open = JoinSet::new();
            loop {
                ticks.tick().await;
                while open.try_join_next().is_some() {}
                let (host, target, counts) = (host.clone(), target.clone(), Arc::clone(&counted));
                open.spawn(async move {
                    let outcome = request(address, "GET", &target, &[("Host", &host)], b"").await;
                    counts.sent.fetch_add(1, Ordering::SeqCst);
                    let failure = match outcome {
                        Ok(response) if response.status == 200 => return,
                        Ok(response) => format!("{}: {}", response.status, response.text()),
                        Err(error) => error.to_string(),
                    };
                    counts.failed.fetch_add(1, Ordering::SeqCst);
                    counts
                        .first_failure
                        .lock()
                        .expect("no panic")
                        .get_or_insert(failure);
                });
            }
        });
        Self { counts, running }
    }

    /// The counts so far.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            sent: self.counts.sent.load(Ordering::SeqCst),
            failed: self.counts.failed.load(Ordering::SeqCst),
            first_failure: self.counts.first_failure.lock().expect("no panic").clone(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.running.abort();
    }
}
