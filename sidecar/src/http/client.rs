//! Sends requests over a connection that was made elsewhere: to an application or, over mutual TLS, to another sidecar.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use weft_daemon::{Executor, Tasks};

use super::{Body, Version};
use crate::enforce::Permit;
use crate::tcp::Counted;

/// One connection's sending half.
pub enum Sender {
    /// One request at a time; and how many bytes were read so far.
    Http1(http1::SendRequest<Body>, Arc<AtomicU64>),
    /// Many at a time; clones share the connection.
    Http2(http2::SendRequest<Body>),
}

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("the upstream gave no response")]
pub struct SendError {
    #[source]
    pub source: hyper::Error,
    /// The request, if nothing of it left.
    pub unsent: Option<Box<Request<Body>>>,
    /// Something of a response came.
    answered: bool,
}

impl Sender {
    /// Begins to speak HTTP on a new connection, whose task ends with the sender.
    pub async fn start<S>(version: Version, stream: S, tasks: &Tasks) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match version {
            Version::Http1 => {
                let mut builder = http1::Builder::new();
                builder.preserve_header_case(true);
                let read = Arc::default();
                let counted = Counted {
                    io: stream,
                    moved: Arc::clone(&read),
                };
                let (sender, connection) = builder.handshake(TokioIo::new(counted)).await?;
                tasks.connection(
                    "upstream http/1.1",
                    Box::pin(async move {
                        // Whoever waits for a response is told of the error too.
                        let _ = connection.with_upgrades().await;
                    }),
                );
                Ok(Self::Http1(sender, read))
            }
            Version::Http2 => {
                let mut builder = http2::Builder::new(Executor::of_process(tasks, "upstream h2"));
                builder
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_header_list_size(MAX_HEADER_LIST)
                    .max_send_buf_size(SEND_BUFFER)
                    .keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
                tasks.connection(
                    "upstream h2",
                    Box::pin(async move {
                        let _ = connection.await;
                    }),
                );
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Sends one request that policy permits.
    pub async fn send(
        &mut self,
        request: Request<Body>,
        _permit: &Permit,
    ) -> Result<Response<Incoming>, SendError> {
        let (sent, answered) = match self {
            Self::Http1(sender, read) => {
                let before = read.load(Ordering::Relaxed);
                let sent = sender.try_send_request(request).await;
                (sent, read.load(Ordering::Relaxed) != before)
            }
            // The other streams' bytes tell nothing of this one; its head would have ended the wait.
            Self::Http2(sender) => (sender.try_send_request(request).await, false),
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            SendError {
                source: error.into_error(),
                unsent,
                answered,
            }
        })
    }

    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender, _) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Whether it takes a request at once.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender, _) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    /// Another handle to a connection that can be shared.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(..) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }
}

impl SendError {
    /// Whether a request that is safe to repeat may be repeated although no route asks for it: the peer did not process it, or it went out
    /// on a connection that had served others, which the peer may have closed at the same moment (RFC 9112 §9.3.1).
    pub fn may_repeat(&self, reused: bool) -> bool {
        self.is_refused_stream() || reused && !self.answered && self.is_lost_connection()
    }

    fn is_lost_connection(&self) -> bool {
        self.source.is_incomplete_message()
            || self.source.is_closed()
            || self.source.is_canceled()
            || io_error(&self.source)
    }

    /// The peer says that it did not process the request (RFC 9113 §8.7).
    fn is_refused_stream(&self) -> bool {
        let h2 = self
            .source
            .source()
            .and_then(|source| source.downcast_ref::<h2::Error>());
        h2.is_some_and(|error| {
            error.is_go_away() && error.is_remote()
                || error.reason() == Some(h2::Reason::REFUSED_STREAM)
        })
    }
}

/// Lets a request's content wait for the upstream's `100 Continue`, if its client asked for that.
pub fn await_continue(request: &mut Request<Body>) {
    let asks = request
        .headers()
        .get(http::header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !asks {
        return;
    }
    let gate = request.body_mut().behind();
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            gate.open();
        }
    });
}

fn io_error(error: &hyper::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>())
}

/// Credit of one stream: with `CONNECTION_WINDOW` the bound of what a slow reader makes this side hold.
pub const STREAM_WINDOW: u32 = 256 * 1024;
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
pub const SEND_BUFFER: usize = 256 * 1024;
/// Longest head of a response.
const MAX_HEADER_LIST: u32 = 64 * 1024;
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
