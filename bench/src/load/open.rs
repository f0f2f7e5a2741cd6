//! The open loop: requests are due at fixed moments, and a late one is late however it came about.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Open;
use super::http1::{exchange_kept, get};
use super::pacer::Pacer;
use super::tally::{Bounds, Outcome, Tally, Window};

pub(super) async fn run(to: SocketAddr, open: &Open, window: Window) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    spawn(&mut tasks, to, open, window.bounds);
    window.collect(tasks).await
}

/// One task a connection; their moments interleave to the whole rate.
pub(super) fn spawn(tasks: &mut JoinSet<Tally>, to: SocketAddr, open: &Open, bounds: Bounds) {
    let between = Duration::from_secs(1) / open.rate.max(1);
    let every = between * u32::try_from(open.connections).unwrap_or(u32::MAX);
    let start = Instant::now();
    for i in 0..open.connections {
        let first = start + between * u32::try_from(i).unwrap_or(u32::MAX);
        tasks.spawn(paced(to, get(&open.target), (first, every), bounds));
    }
}

async fn paced(
    to: SocketAddr,
    request: Vec<u8>,
    (first, every): (Instant, Duration),
    bounds: Bounds,
) -> Tally {
    let mut tally = Tally::default();
    let pacer = match Pacer::new() {
        Ok(pacer) => pacer,
        Err(error) => {
            tally.fail(&format_args!("{error:#}"));
            return tally;
        }
    };
    let mut kept = None;
    let mut due = first;
    while due < bounds.closes {
        let waited = pacer.until(due).await;
        let exchanged = match waited {
            Ok(()) => exchange_kept(to, &mut kept, &request).await,
            Err(error) => Err(error),
        };
        match exchanged {
            Ok(bytes) => tally.answered(due, bytes, &bounds),
            Err(error) => tally.fail(&format_args!("{error:#}")),
        }
        due += every;
    }
    tally
}
