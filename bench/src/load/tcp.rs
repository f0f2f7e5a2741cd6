//! One stream of bytes from the backend through the pair.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tally::{Bounds, Outcome, Tally, Window};

pub(super) async fn run(to: SocketAddr, window: Window) -> anyhow::Result<Outcome> {
    let bounds = window.bounds;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut tally = Tally::default();
        if let Err(error) = stream(to, &bounds, &mut tally).await {
            tally.fail(&format_args!("{error:#}"));
        }
        tally
    });
    window.collect(tasks).await
}

async fn stream(to: SocketAddr, bounds: &Bounds, tally: &mut Tally) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to).await.context("cannot connect")?;
    // The client speaks first, so that no proxy waits for what it might have to detect.
    stream.write_all(b"go\n").await.context("cannot send")?;
    let mut buffer = vec![0; BUFFER];
    while !bounds.is_over() {
        let read = stream.read(&mut buffer).await.context("cannot receive")?;
        if read == 0 {
            bail!("the stream ended");
        }
        tally.received(read, bounds);
    }
    Ok(())
}

const BUFFER: usize = 256 * 1024;
