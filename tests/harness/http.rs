//! A client that says exactly what a test wants said: HTTP/1.1 by hand, one request a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A response, its body read to the end.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// By lower-case name; repeated ones joined by `, `.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The id of the decision that refused.
    #[track_caller]
    pub fn decision(&self) -> String {
        self.json()["decision"]
            .as_str()
            .unwrap_or_else(|| panic!("no decision in {:?}", self.text()))
            .to_owned()
    }
}

/// `GET` an `http://ip:port/path` address.
pub async fn get(url: &str) -> io::Result<Response> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| io::Error::other("not http"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = authority.parse().map_err(io::Error::other)?;
    request(
        address,
        "GET",
        &format!("/{path}"),
        &[("Host", authority)],
        b"",
    )
    .await
}

/// One request; `Content-Length` is added for a body, `Connection: close` always.
pub async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("Connection: close\r\n\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    let answer = raw(address, &bytes).await?;
    parse(&answer)
}

/// Sends the bytes and reads until the peer closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            Ok(_) => Ok(answer),
            // A reset after a refusal: what had come counts.
            Err(_) if !answer.is_empty() => Ok(answer),
            Err(error) => Err(error),
        }
    };
    tokio::time::timeout(LIMIT, exchange)
        .await
        .map_err(|_| io::Error::other("no end of the answer in time"))?
}

/// The first final response among the bytes.
pub(crate) fn parse(bytes: &[u8]) -> io::Result<Response> {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| {
            io::Error::other(format!("no head in {:?}", String::from_utf8_lossy(bytes)))
        })?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status: u16 = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no status in {status_line:?}")))?;
    let rest = &bytes[end + 4..];
    if status == 100 {
        return parse(rest);
    }
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|known| {
                known.push_str(", ");
                known.push_str(value.trim());
            })
            .or_insert_with(|| value.trim().to_owned());
    }
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|value| value.contains("chunked"));
    let body = if chunked {
        unchunk(rest)?
    } else {
        rest.to_vec()
    };
    let body = match headers
        .get("content-length")
        .and_then(|value| value.parse::<usize>().ok())
    {
        Some(length) if !chunked => body.get(..length).map(<[u8]>::to_vec).unwrap_or(body),
        _ => body,
    };
    Ok(Response {
        status,
        headers,
        body,
    })
}

fn unchunk(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let cut = || io::Error::other("the chunks end early");
    let mut body = Vec::new();
    loop {
        let line = bytes
            .windows(2)
            .position(|window| window == b"\r\n")
            .ok_or_else(cut)?;
        let size = std::str::from_utf8(&bytes[..line]).map_err(io::Error::other)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(io::Error::other)?;
        bytes = &bytes[line + 2..];
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(bytes.get(..size).ok_or_else(cut)?);
        bytes = bytes.get(size + 2..).ok_or_else(cut)?;
    }
}

const LIMIT: Duration = Duration::from_secs(20);
