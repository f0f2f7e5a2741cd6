//! What can be open between web and the api: each kind of traffic once opened, read until somebody ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::apps::Content;
use super::shop::{LIMIT, read_head, read_until};

/// A stream of bytes, over TLS or not.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for S {}

/// A kind of traffic, and where at the api it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes that nobody looks into.
    Tunnel,
    /// A connection that waits for its next request.
    KeepAlive,
    /// A response that never ends; with its path.
    Response(&'static str),
    WebSocket,
    /// What CONNECT opened.
    Connect,
    /// A call that sends and receives for ever.
    Call,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Tunnel,
        Self::KeepAlive,
        Self::Response("/stream"),
        Self::WebSocket,
        Self::Call,
    ];

    pub(crate) fn port(self) -> &'static str {
        match self {
            Self::Tunnel => "raw",
            Self::KeepAlive | Self::Response(_) | Self::WebSocket => "http",
            Self::Connect => "plain",
            Self::Call => "rpc",
        }
    }

    pub(crate) fn alpn(self) -> &'static str {
        match self {
            Self::Tunnel => "weft-tcp",
            Self::KeepAlive | Self::Response(_) | Self::WebSocket | Self::Connect => "http/1.1",
            Self::Call => "h2",
        }
    }

    /// Opens it on a fresh connection and sees it work.
    pub(crate) async fn open(self, stream: impl Io) -> io::Result<Open> {
        match self {
            Self::Tunnel => self.echoed(stream).await,
            Self::KeepAlive => self.requested(stream, "GET /kept", HOST, b"ok").await,
            Self::Response(path) => {
                let request = format!("GET {path}");
                self.requested(stream, &request, HOST, b"tick\n\r\n").await
            }
            Self::WebSocket => {
                let upgrade = "Host: api.shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
                self.requested(stream, "GET /socket", upgrade, b"").await
            }
            Self::Connect => {
                let host = "Host: api.shop:80\r\n";
                let connect = "CONNECT api.shop:80";
                self.requested(stream, connect, host, b"").await
            }
            Self::Call => {
                let call = tokio::time::timeout(LIMIT, call(stream));
                call.await.map_err(io::Error::other)?
            }
        }
    }

    async fn requested(
        self,
        mut stream: impl Io,
        request: &str,
        headers: &str,
        until: &[u8],
    ) -> io::Result<Open> {
        let head = format!("{request} HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        match (read_head(&mut stream).await?.get(9..12), self) {
            (Some("101"), Self::WebSocket) | (Some("200"), Self::Connect) => {
                self.echoed(stream).await
            }
            (Some("200"), Self::KeepAlive | Self::Response(_)) => {
                read_until(&mut stream, until).await?;
                Ok(Open::reading(self, stream))
            }
            (status, _) => Err(io::Error::other(format!("{status:?}"))),
        }
    }

    async fn echoed(self, mut stream: impl Io) -> io::Result<Open> {
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        read_until(&mut stream, b"ping").await?;
        Ok(Open::reading(self, stream))
    }
}

/// Something that is open, and read.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) kind: Kind,
    heard: Arc<AtomicU64>,
    reading: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Open {
    fn reading(kind: Kind, mut stream: impl Io) -> Self {
        let heard: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&heard);
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                counted.fetch_add(read as u64, Ordering::SeqCst);
            }
        });
        Self {
            kind,
            heard,
            reading,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.reading.is_finished()
    }

    /// Bytes that came since it was opened.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }
}

/// An HTTP/2 connection of a client.
pub(crate) async fn http2(stream: impl Io) -> io::Result<http2::SendRequest<Content>> {
    let builder = http2::Builder::new(TokioExecutor::new());
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(stream: impl Io) -> io::Result<Open> {
    let mut sender = http2(stream).await?;
    let (messages, sent) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, hyper::Error>>(4);
    let request = Request::post("http://api.shop/echo")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(ReceiverStream::new(sent)).boxed_unsync())
        .expect("a request");
    let message = Bytes::from_static(b"\0\0\0\0\x04ping");
    messages
        .send(Ok(Frame::data(message.clone())))
        .await
        .map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    if response.status() != StatusCode::OK || response.body().is_end_stream() {
        return Err(io::Error::other(format!("{response:?}")));
    }
    let mut body = response.into_body();
    let echoed = body.frame().await;
    let echoed = echoed.and_then(|frame| frame.ok()?.into_data().ok());
    if echoed.as_ref() != Some(&message) {
        return Err(io::Error::other(format!("{echoed:?}")));
    }
    let heard: Arc<AtomicU64> = Arc::default();
    let reading = tokio::spawn(async move {
        // The client goes on as long as it is let.
        let _kept = (sender, messages);
        while let Some(Ok(_)) = body.frame().await {}
    });
    Ok(Open {
        kind: Kind::Call,
        heard,
        reading,
    })
}

const HOST: &str = "Host: api.shop\r\n";
