//! Idle connections: what they cost in memory, and whether they are still there afterwards.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http1::{Connection, get};
use super::tally::{Outcome, Tally, Window};
use super::watch;

/// `done` is the number of connections; the memory is that before the first and with all of them idle.
pub(super) async fn run(
    to: SocketAddr,
    target: &str,
    connections: usize,
    window: Window,
) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let request = get(target);
    // Code and tables that every first request touches are not the connections' cost.
    let mut first = Connection::open_with(to, BUFFER).await?;
    for _ in 0..FIRST_REQUESTS {
        first.exchange(&request).await?;
    }
    drop(first);
    tokio::time::sleep(SETTLE).await;
    watch::forget_peaks(&window.watched);
    let before = watch::sample(&window.watched)?;
    let (mut open, mut tally) = open_all(to, &request, connections).await;
    tokio::time::sleep(SETTLE).await;
    let after = watch::sample(&window.watched)?;
    for connection in &mut open {
        if !connection.is_quiet() {
            tally.fail(&"an idle connection was closed");
        } else if let Err(error) = connection.exchange(&request).await {
            tally.fail(&format_args!("after idleness: {error:#}"));
        }
    }
    let mut outcome = tally.outcome(
        began.elapsed().as_secs_f64(),
        watch::between(&before, &before, &after),
    );
    outcome.done = u64::try_from(open.len()).unwrap_or(u64::MAX);
    Ok(outcome)
}

/// A few at a time, each with one request.
async fn open_all(to: SocketAddr, request: &[u8], count: usize) -> (Vec<Connection>, Tally) {
    let mut tally = Tally::default();
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let mut group = JoinSet::new();
        for _ in 0..AT_A_TIME.min(count - open.len()) {
            let request = request.to_owned();
            group.spawn(async move {
                let mut connection = Connection::open_with(to, BUFFER).await?;
                connection.exchange(&request).await?;
                anyhow::Ok(connection)
            });
        }
        let all = tokio::time::timeout(PATIENCE, group.join_all()).await;
        let Ok(all) = all else {
            tally.fail(&format_args!("no answer within {PATIENCE:?}"));
            return (open, tally);
        };
        let before = open.len();
        for one in all {
            match one {
                Ok(connection) => open.push(connection),
                Err(error) => tally.fail(&format_args!("{error:#}")),
            }
        }
        if open.len() == before {
            return (open, tally);
        }
    }
    (open, tally)
}

const AT_A_TIME: usize = 32;
const BUFFER: usize = 1024;
const FIRST_REQUESTS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for a proxy to give back what it held for a request.
const SETTLE: Duration = Duration::from_millis(500);
