//! One HTTP/1.1 connection that carries many requests, one after another, over whatever stream a test opened.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::Response;
use crate::http::parse;

/// A connection; what follows a response that ends it is an error.
#[derive(Debug)]
pub struct KeepAlive<S> {
    stream: S,
    closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> KeepAlive<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            closed: false,
        }
    }

    /// Whether the last response said that no other follows.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends a request without a body; header names and values go out as they stand.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<Response> {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await?;
        let response = tokio::time::timeout(LIMIT, self.response(method == "HEAD"))
            .await
            .map_err(|_| io::Error::other("no answer in time"))??;
        let connection = response.headers.get("connection");
        self.closed = connection.is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(response)
    }

    /// Waits until the peer ends the connection; what comes instead is an error.
    pub async fn until_closed(&mut self) -> io::Result<()> {
        let read = tokio::time::timeout(LIMIT, self.stream.read_u8()).await;
        match read.map_err(|_| io::Error::other("it stays open"))? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(byte) => Err(io::Error::other(format!("{byte:#04x} came"))),
        }
    }

    /// Reads one response whose length is told; to HEAD none has a body.
    async fn response(&mut self, is_to_head: bool) -> io::Result<Response> {
        let mut bytes = Vec::new();
        loop {
            let head = bytes
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .map(|at| at + 4);
            if let Some(head) = head {
                let response = parse(&bytes)?;
                let length = response
                    .headers
                    .get("content-length")
                    .and_then(|length| length.parse().ok())
                    .filter(|_| !is_to_head)
                    .unwrap_or(0);
                if bytes.len() >= head + length {
                    return Ok(response);
                }
            }
            if self.stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

const LIMIT: Duration = Duration::from_secs(20);
