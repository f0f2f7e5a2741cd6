//! The load generator: one process, one thread, raw bytes where the protocol allows, so that the proxies are the limit.
//!
//! Everything before the window opens is warm-up; a failure counts whenever it happens.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

mod connect;
mod handshakes;
mod http1;
mod http2;
mod idle;
mod mixed;
mod open;
mod pacer;
mod tally;
mod tcp;
mod watch;

pub(crate) use http1::{Connection, get};
pub(crate) use tally::Outcome;
pub(crate) use watch::{Watched, memory};

/// The arguments of the load generator.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to send where, as JSON.
    order: String,
}

/// What to send, where, and for how long.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub kind: Kind,
    pub to: SocketAddr,
    pub times: Times,
    /// Processes whose CPU time and memory are read when the window opens and closes.
    pub watch: Vec<u32>,
}

/// The shapes of load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Kind {
    /// HTTP/1.1, every connection sends its next request when it has the answer.
    Http1 { connections: usize, target: String },
    /// HTTP/1.1 at a fixed rate, whatever the answers do; latency counts from the moment a request was due.
    Open(Open),
    /// HTTP/2 POST with a small body, every stream sends its next request when it has the answer.
    Http2 {
        connections: usize,
        streams: usize,
        target: String,
    },
    /// One stream of bytes, as fast as they come.
    Tcp,
    /// A new connection for every request.
    Connect { connections: usize, target: String },
    /// Full TLS handshakes with a client certificate, and nothing else.
    Handshakes(Handshakes),
    /// Opens connections, sends one request over each and keeps them.
    Idle { connections: usize, target: String },
    /// Small requests at a fixed rate beside downloads by slow readers.
    Mixed { small: Open, readers: Readers },
}

/// Requests at a fixed rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Open {
    pub connections: usize,
    pub rate: u32,
    pub target: String,
}

/// Downloads whose readers take their time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readers {
    pub count: usize,
    pub target: String,
    /// That each reader takes.
    pub bytes_per_second: u32,
    /// Bytes after which each reader takes nothing more and keeps its connection.
    pub stops_after: Option<u64>,
}

/// How a client shakes hands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Handshakes {
    pub connections: usize,
    pub group: Group,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub server_name: String,
    pub alpn: String,
}

/// The key exchange that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Group {
    Hybrid,
    X25519,
}

/// Runs one workload and prints its outcome.
#[expect(clippy::print_stdout, reason = "the outcome is the output")]
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let order: Order = serde_json::from_str(&arguments.order).context("not an order")?;
    let window = tally::Window::after(order.times, &order.watch)?;
    let outcome = send(&order.kind, order.to, window).await?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// How long a workload runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Times {
    pub warm_up: Duration,
    pub measured: Duration,
}

async fn send(kind: &Kind, to: SocketAddr, window: tally::Window) -> anyhow::Result<Outcome> {
    match kind {
        Kind::Http1 {
            connections,
            target,
        } => http1::run(to, target, *connections, window).await,
        Kind::Open(open) => open::run(to, open, window).await,
        Kind::Http2 {
            connections,
            streams,
            target,
        } => http2::run(to, target, (*connections, *streams), window).await,
        Kind::Tcp => tcp::run(to, window).await,
        Kind::Connect {
            connections,
            target,
        } => connect::run(to, target, *connections, window).await,
        Kind::Handshakes(handshakes) => handshakes::run(to, handshakes, window).await,
        Kind::Idle {
            connections,
            target,
        } => idle::run(to, target, *connections, window).await,
        Kind::Mixed { small, readers } => mixed::run(to, small, readers, window).await,
    }
}
