//! New connections: connect, one request, close.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::task::JoinSet;

use super::http1::{Connection, get};
use super::tally::{Bounds, Outcome, Tally, Window, pause};

pub(super) async fn run(
    to: SocketAddr,
    target: &str,
    connections: usize,
    window: Window,
) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(reconnecting(to, get(target), window.bounds));
    }
    window.collect(tasks).await
}

async fn reconnecting(to: SocketAddr, request: Vec<u8>, bounds: Bounds) -> Tally {
    let mut tally = Tally::default();
    while !bounds.is_over() {
        let began = Instant::now();
        match once(to, &request).await {
            Ok(bytes) => tally.done(began, bytes, &bounds),
            Err(error) => {
                tally.fail(&format_args!("{error:#}"));
                pause().await;
            }
        }
    }
    tally
}

async fn once(to: SocketAddr, request: &[u8]) -> anyhow::Result<usize> {
    let mut connection = Connection::open_with(to, BUFFER).await?;
    connection.exchange(request).await
}

const BUFFER: usize = 2048;
