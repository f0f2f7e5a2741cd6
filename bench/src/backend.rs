//! The backend: answers HTTP/1.1 and HTTP/2 on one port and pours bytes from another, as cheaply as it can.
//!
//! `/bench/size/N` answers N bytes, any other target a tiny body.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

mod http1;
mod http2;
mod tcp;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    http: SocketAddr,
    #[arg(long)]
    tcp: SocketAddr,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let http = listen(arguments.http)?;
    let tcp = listen(arguments.tcp)?;
    loop {
        // What fails on one connection, its peer sees.
        tokio::select! {
            accepted = http.accept() => {
                let (stream, _) = accepted.context("cannot accept")?;
                tokio::spawn(async move { drop(serve(stream).await) });
            }
            accepted = tcp.accept() => {
                let (stream, _) = accepted.context("cannot accept")?;
                tokio::spawn(async move { drop(tcp::serve(stream).await) });
            }
        }
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// The first bytes say which HTTP it is.
async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 4];
    let seen = stream.peek(&mut first).await?;
    if first.get(..seen) == Some(b"PRI ") {
        http2::serve(stream).await
    } else {
        http1::serve(stream).await
    }
}

/// How long a body the target asks for.
fn size(target: &str) -> usize {
    target
        .strip_prefix("/bench/size/")
        .and_then(|size| size.parse().ok())
        .unwrap_or(TINY)
}

const BACKLOG: u32 = 4096;
const TINY: usize = 2;
