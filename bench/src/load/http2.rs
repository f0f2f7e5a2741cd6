//! HTTP/2 with prior knowledge: POST requests with small bodies on many streams of few connections.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tally::{Bounds, Outcome, Tally, Window, pause};

pub(super) async fn run(
    to: SocketAddr,
    target: &str,
    (connections, streams): (usize, usize),
    window: Window,
) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let uri = format!("http://b.bench.test{target}");
        tasks.spawn(connection(to, uri, streams, window.bounds));
    }
    window.collect(tasks).await
}

/// One connection with its streams; a new one when it fails.
async fn connection(to: SocketAddr, uri: String, streams: usize, bounds: Bounds) -> Tally {
    let mut tally = Tally::default();
    while !bounds.is_over() {
        let (sender, driver) = match open(to).await {
            Ok(opened) => opened,
            Err(error) => {
                tally.fail(&format_args!("{error:#}"));
                pause().await;
                continue;
            }
        };
        let mut loops = JoinSet::new();
        for _ in 0..streams {
            loops.spawn(closed_loop(sender.clone(), uri.clone(), bounds));
        }
        drop(sender);
        while let Some(joined) = loops.join_next().await {
            match joined {
                Ok(part) => tally.add(part),
                Err(panicked) => tally.fail(&panicked),
            }
        }
        driver.abort();
    }
    tally
}

type Opened = (SendRequest<Bytes>, tokio::task::JoinHandle<()>);

async fn open(to: SocketAddr) -> anyhow::Result<Opened> {
    let stream = TcpStream::connect(to).await.context("cannot connect")?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(stream)
        .await
        .context("no HTTP/2")?;
    let driver = tokio::spawn(async move {
        // Its failure is that of the streams on it.
        let _ = connection.await;
    });
    Ok((sender, driver))
}

/// Ends with the window, or with the first failure: that of a stream is most often that of the connection.
async fn closed_loop(mut sender: SendRequest<Bytes>, uri: String, bounds: Bounds) -> Tally {
    let mut tally = Tally::default();
    while !bounds.is_over() {
        let began = Instant::now();
        match post(&mut sender, &uri).await {
            Ok(bytes) => tally.done(began, bytes, &bounds),
            Err(error) => {
                tally.fail(&format_args!("{error:#}"));
                pause().await;
                return tally;
            }
        }
    }
    tally
}

async fn post(sender: &mut SendRequest<Bytes>, uri: &str) -> anyhow::Result<usize> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header("content-length", BODY.len())
        .body(())
        .context("a request")?;
    let mut ready = sender.clone().ready().await.context("not ready")?;
    let (response, mut body) = ready.send_request(request, false).context("cannot send")?;
    body.send_data(Bytes::from_static(BODY), true)
        .context("cannot send a body")?;
    let response = response.await.context("no response")?;
    if response.status() != StatusCode::OK {
        bail!("status {}", response.status());
    }
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data.context("cannot receive a body")?;
        length += data.len();
        body.flow_control()
            .release_capacity(data.len())
            .context("flow control")?;
    }
    Ok(length)
}

const BODY: &[u8] = b"a small body of thirty-two bytes";
const WINDOW: u32 = 1 << 20;
