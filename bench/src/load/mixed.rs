//! Small requests beside large downloads by readers who take their time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http1::{Connection, get};
use super::open;
use super::tally::{Bounds, Outcome, Tally, Window, pause};
use super::{Open, Readers};

/// Latencies and `done` are of the small requests; bytes are of both.
pub(super) async fn run(
    to: SocketAddr,
    small: &Open,
    readers: &Readers,
    window: Window,
) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..readers.count {
        tasks.spawn(download(to, readers.clone(), window.bounds));
    }
    open::spawn(&mut tasks, to, small, window.bounds);
    window.collect(tasks).await
}

/// One download after another until the window closes.
async fn download(to: SocketAddr, readers: Readers, bounds: Bounds) -> Tally {
    let mut tally = Tally::default();
    while !bounds.is_over() {
        if let Err(error) = read_slowly(to, &readers, &bounds, &mut tally).await {
            tally.fail(&format_args!("a download: {error:#}"));
            pause().await;
        }
    }
    tally
}

async fn read_slowly(
    to: SocketAddr,
    readers: &Readers,
    bounds: &Bounds,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(to).await?;
    let mut body = connection.begin(&get(&readers.target)).await?;
    let began = Instant::now();
    let mut taken = 0u64;
    while body.left > 0 && !bounds.is_over() {
        let read = connection.read_more(&mut body).await?;
        tally.received(read, bounds);
        taken += u64::try_from(read).unwrap_or(u64::MAX);
        if readers.stops_after.is_some_and(|most| taken >= most) {
            tokio::time::sleep_until(bounds.closes.into()).await;
            return Ok(());
        }
        let due =
            Duration::from_micros(taken * 1_000_000 / u64::from(readers.bytes_per_second.max(1)));
        let ahead = due.saturating_sub(began.elapsed());
        if ahead > GRAIN {
            tokio::time::sleep(ahead).await;
        }
    }
    Ok(())
}

/// Shorter waits are saved up: the timer counts in milliseconds.
const GRAIN: Duration = Duration::from_millis(2);
