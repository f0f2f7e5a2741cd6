//! HTTP/1.1 on raw sockets: a request is bytes made once, a response is read as far as its length says.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tally::{Bounds, Outcome, Tally, Window, pause};

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// The server said that it takes no further request.
    pub closing: bool,
}

/// What a response's head says.
struct Head {
    bytes: usize,
    length: usize,
    closing: bool,
}

/// The bytes of a `GET`.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nhost: b.bench.test\r\naccept: */*\r\nuser-agent: bench\r\n\r\n"
    )
    .into_bytes()
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        Self::open_with(to, BUFFER).await
    }

    /// With a buffer of another size: 1,000 idle connections need little.
    pub(crate) async fn open_with(to: SocketAddr, buffer: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await.context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        Ok(Self {
            stream,
            buffer: vec![0; buffer].into_boxed_slice(),
            closing: false,
        })
    }

    /// Sends a request and reads its response; answers the length of the body, of which nothing is kept.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        let mut body = self.begin(request).await?;
        while body.left > 0 {
            self.read_more(&mut body).await?;
        }
        Ok(body.length)
    }

    /// Sends a request and reads the head of its response.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> anyhow::Result<Body> {
        self.stream
            .write_all(request)
            .await
            .context("cannot send")?;
        let mut filled = 0;
        loop {
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            if free.is_empty() {
                bail!("a head longer than {} bytes", self.buffer.len());
            }
            let read = self.stream.read(free).await.context("cannot receive")?;
            if read == 0 {
                bail!("closed before a response");
            }
            filled += read;
            let arrived = self.buffer.get(..filled).unwrap_or_default();
            if let Some(head) = parse(arrived)? {
                self.closing = head.closing;
                let left = (head.bytes + head.length)
                    .checked_sub(filled)
                    .context("more bytes than the response has")?;
                return Ok(Body {
                    length: head.length,
                    left,
                });
            }
        }
    }

    /// Reads some of a body; answers how many bytes came.
    pub(crate) async fn read_more(&mut self, body: &mut Body) -> anyhow::Result<usize> {
        let most = body.left.min(self.buffer.len());
        let into = self.buffer.get_mut(..most).unwrap_or_default();
        let read = self.stream.read(into).await.context("cannot receive")?;
        if read == 0 {
            bail!("closed with {} bytes of a body missing", body.left);
        }
        body.left -= read;
        Ok(read)
    }

    /// Whether the server has neither closed the connection nor sent what nobody asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = self.stream.try_read(&mut byte);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// How much of a body is still to come.
#[derive(Debug)]
pub(crate) struct Body {
    pub length: usize,
    pub left: usize,
}

/// A whole head, if there is one; anything but a 200 with a length is an error.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).context("not HTTP")? else {
        return Ok(None);
    };
    if response.code != Some(200) {
        let text = String::from_utf8_lossy(bytes);
        bail!(
            "status {}: {}",
            response.code.unwrap_or_default(),
            text.chars().take(400).collect::<String>().escape_debug()
        );
    }
    let mut length = None;
    let mut closing = false;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).context("not a length")?;
            length = Some(text.trim().parse().context("not a length")?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closing = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(Head {
        bytes: head,
        length: length.context("a response without content-length")?,
        closing,
    }))
}

/// The closed loop.
pub(super) async fn run(
    to: SocketAddr,
    target: &str,
    connections: usize,
    window: Window,
) -> anyhow::Result<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(closed_loop(to, get(target), window.bounds));
    }
    window.collect(tasks).await
}

async fn closed_loop(to: SocketAddr, request: Vec<u8>, bounds: Bounds) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    while !bounds.is_over() {
        let began = Instant::now();
        match exchange_kept(to, &mut kept, &request).await {
            Ok(bytes) => tally.done(began, bytes, &bounds),
            Err(error) => {
                tally.fail(&format_args!("{error:#}"));
                pause().await;
            }
        }
    }
    tally
}

/// One exchange on the kept connection, or on a new one that is kept then. One that failed is not kept.
pub(super) async fn exchange_kept(
    to: SocketAddr,
    kept: &mut Option<Connection>,
    request: &[u8],
) -> anyhow::Result<usize> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(to).await?,
    };
    let bytes = connection.exchange(request).await?;
    if !connection.closing {
        *kept = Some(connection);
    }
    Ok(bytes)
}

const BUFFER: usize = 64 * 1024;
const HEADERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        assert!(
            parse(b"HTTP/1.1 200 OK\r\ncontent-le")
                .expect("so far so good")
                .is_none()
        );
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
            .expect("HTTP")
            .expect("whole");
        assert_eq!((head.length, head.closing), (3, true));
        assert!(parse(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
