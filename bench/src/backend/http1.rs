//! HTTP/1.1: a response is made once for each size that a connection asks for.

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What was asked.
struct Asked {
    /// Of the head and the body.
    bytes: usize,
    size: usize,
    closing: bool,
}

pub(super) async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let mut made = (usize::MAX, Vec::new());
    loop {
        while let Some(asked) = parse(buffer.get(..filled).unwrap_or_default())? {
            while filled < asked.bytes {
                filled += read(&mut stream, &mut buffer, filled).await?;
            }
            if made.0 != asked.size {
                made = (asked.size, response(asked.size));
            }
            answer(&mut stream, &made.1, asked.size).await?;
            if asked.closing {
                return Ok(());
            }
            buffer.copy_within(asked.bytes..filled, 0);
            filled -= asked.bytes;
        }
        filled += match read(&mut stream, &mut buffer, filled).await {
            Ok(read) => read,
            // Between two requests an end is an end.
            Err(_) if filled == 0 => return Ok(()),
            Err(error) => return Err(error),
        };
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8], filled: usize) -> anyhow::Result<usize> {
    let free = buffer.get_mut(filled..).unwrap_or_default();
    if free.is_empty() {
        bail!("a request of more than {BUFFER} bytes");
    }
    match stream.read(free).await? {
        0 => bail!("closed inside a request"),
        read => Ok(read),
    }
}

/// The head, with the body behind it unless that is large.
fn response(size: usize) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n")
            .into_bytes();
    if size <= AT_ONCE {
        bytes.resize(bytes.len() + size, b'x');
    }
    bytes
}

async fn answer(stream: &mut TcpStream, made: &[u8], size: usize) -> anyhow::Result<()> {
    stream.write_all(made).await?;
    if size > AT_ONCE {
        let chunk = vec![b'x'; AT_ONCE];
        let mut left = size;
        while left > 0 {
            let some = chunk.get(..left.min(AT_ONCE)).unwrap_or_default();
            stream.write_all(some).await?;
            left -= some.len();
        }
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> anyhow::Result<Option<Asked>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).context("not HTTP")? else {
        return Ok(None);
    };
    let mut length = 0;
    let mut closing = false;
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).context("not a length")?;
            length = text.trim().parse::<usize>().context("not a length")?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            closing = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a chunked request: the load sends none");
        }
    }
    Ok(Some(Asked {
        bytes: head + length,
        size: super::size(request.path.unwrap_or_default()),
        closing,
    }))
}

const BUFFER: usize = 16 * 1024;
const AT_ONCE: usize = 64 * 1024;
const HEADERS: usize = 64;
