//! The ledger: `BALANCE ID` is answered by `OK CENTS`; after the client's half-close it says how many lines it read.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::SaysNo;

#[derive(Debug, Args)]
pub(super) struct LedgerArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

pub(super) async fn run(args: LedgerArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| SaysNo(format!("cannot listen on {}", args.listen)))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = converse(stream).await {
                println!("a connection ended early: {error:#}");
            }
        });
    }
}

async fn converse(stream: TcpStream) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut lines = 0u64;
    loop {
        let mut line = String::new();
        if (&mut read).take(MAX_LINE).read_line(&mut line).await? == 0 {
            break;
        }
        lines += 1;
        let answer = match line.trim().strip_prefix("BALANCE ").map(str::parse::<u64>) {
            Some(Ok(id)) => format!("OK {}\n", id.wrapping_mul(CENTS_PER_ORDER)),
            _ => "ERROR say BALANCE and a number\n".to_owned(),
        };
        write.write_all(answer.as_bytes()).await?;
    }
    write.write_all(format!("BYE {lines}\n").as_bytes()).await?;
    write.shutdown().await?;
    Ok(())
}

const MAX_LINE: u64 = 1024;
const CENTS_PER_ORDER: u64 = 1_999;
