//! Pours bytes once the client has said something, until it is gone.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut word = [0; 16];
    if stream.read(&mut word).await? == 0 {
        return Ok(());
    }
    let chunk = vec![b'x'; CHUNK];
    loop {
        stream.write_all(&chunk).await?;
    }
}

const CHUNK: usize = 256 * 1024;
