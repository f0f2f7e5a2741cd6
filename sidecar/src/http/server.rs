//! Reads requests from a connection and writes their responses.
//!
//! Invariant: every HTTP/1.1 byte that hyper reads went through [`Guard`] first.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use weft_daemon::{Executor, Tasks};

use super::client::{
    CONNECTION_WINDOW, KEEP_ALIVE, KEEP_ALIVE_TIMEOUT, SEND_BUFFER, STREAM_WINDOW,
};
use super::guard::{Control, Guard, HeadLimits, OpenRequest};
use super::preface::Prefaced;
use super::strict::Malformed;
use super::{Body, Version};
use crate::http1::Side;
use crate::listener::Place;
use crate::tcp::Reset;

/// Answers the requests of one connection.
pub trait Handler: Send + Sync + 'static {
    /// `Err` ends the connection, or on HTTP/2 the stream, without a response.
    fn handle(
        self: Arc<Self>,
        arrived: Arrived,
    ) -> impl Future<Output = Result<Response<Body>, Aborted>> + Send;
}

/// A request, with what is known of the connection that it came over.
pub struct Arrived {
    pub request: Request<Incoming>,
    /// Its framing is malformed; the request itself is a stand-in.
    pub malformed: Option<Malformed>,
    /// HTTP/1.1 only.
    pub framing: Option<RequestFraming>,
}

/// The framing of one HTTP/1.1 request.
pub struct RequestFraming {
    pub control: Arc<Control>,
    pub open: Option<OpenRequest>,
    /// Nothing after the request is read until [`Control::resume`] or [`Control::become_tunnel`].
    pub holds: bool,
}

/// The exchange ended without a response.
#[derive(Debug, thiserror::Error)]
#[error("policy no longer allows the exchange")]
pub struct Aborted;

/// On what terms a connection is served.
#[derive(Clone)]
pub struct Terms {
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    pub heads: HeadLimits,
    pub tasks: Tasks,
    /// The listener's place that the connection holds, and that a tunnel which it becomes holds on to.
    pub place: Arc<Place>,
}

/// Serves one connection until its end. When `ending` resolves, no further request is taken.
pub async fn serve<S, H, E>(stream: S, version: Version, terms: Terms, handler: Arc<H>, ending: E)
where
    S: AsyncRead + AsyncWrite + Reset + Send + Unpin + 'static,
    H: Handler,
    E: Future<Output = ()> + Send,
{
    let served = match version {
        Version::Http1 => serve_http1(stream, terms, handler, ending).await,
        Version::Http2 => serve_http2(stream, terms, handler, ending).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn serve_http1<S, H, E>(
    stream: S,
    terms: Terms,
    handler: Arc<H>,
    ending: E,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Reset + Send + Unpin + 'static,
    H: Handler,
    E: Future<Output = ()> + Send,
{
    let (guard, control) = Guard::new(stream, terms.heads);
    let guard = guard.holding(terms.place);
    let count = AtomicU64::new(0);
    let service = service_fn(move |request: Request<Incoming>| {
        let malformed = control.fault_at(count.fetch_add(1, Ordering::Relaxed));
        let framing = RequestFraming {
            open: Some(control.open_request()),
            holds: request.headers().contains_key(header::UPGRADE)
                || request.method() == Method::CONNECT,
            control: Arc::clone(&control),
        };
        let arrived = Arrived {
            request,
            malformed,
            framing: Some(framing),
        };
        Box::pin(Arc::clone(&handler).handle(arrived))
    });
    let mut builder = http1::Builder::new();
    // The guard keeps the time of heads; responses pass as they are, without an added Date.
    builder
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None);
    let mut connection = pin!(
        builder
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades()
    );
    tokio::select! {
        served = connection.as_mut() => return served,
        () = ending => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn serve_http2<S, H, E>(
    stream: S,
    terms: Terms,
    handler: Arc<H>,
    ending: E,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Reset + Send + Unpin + 'static,
    H: Handler,
    E: Future<Output = ()> + Send,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let arrived = Arrived {
            request,
            malformed: None,
            framing: None,
        };
        Box::pin(Arc::clone(&handler).handle(arrived))
    });
    let (executor, _ends_streams) = Executor::of_connection(&terms.tasks, "h2 stream");
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(terms.streams)
        .max_header_list_size(u32::try_from(terms.heads.bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let stream = Prefaced::new(stream, terms.heads.time);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        served = connection.as_mut() => return served,
        () = ending => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// What the first bytes of a plain connection say.
pub async fn sniff(side: &mut Side, limit: Duration) -> Option<Sniffed> {
    let reading = std::future::poll_fn(|cx| {
        loop {
            match Sniffed::of(side.unused()) {
                Some(sniffed) => return Poll::Ready(Some(sniffed)),
                None => match ready!(side.poll_more(cx)) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Poll::Ready(None),
                },
            }
        }
    });
    tokio::time::timeout(limit, reading).await.ok().flatten()
}

/// What a connection seems to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    Http(Version),
    Opaque,
}

impl Sniffed {
    /// None: more must come before anything can be said.
    fn of(seen: &[u8]) -> Option<Self> {
        let first = seen.first()?;
        if seen.starts_with(PREFACE) {
            return Some(Self::Http(Version::Http2));
        }
        if PREFACE.starts_with(seen) {
            return None;
        }
        Some(if first.is_ascii_alphabetic() {
            Self::Http(Version::Http1)
        } else {
            Self::Opaque
        })
    }
}

/// RFC 9113 §3.4, its first line.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Streams that a peer may reset before they were looked at; more ends the connection.
const PENDING_RESETS: usize = 32;
/// Streams that errors of the peer may make this side reset; more ends the connection.
const LOCAL_RESETS: usize = 256;
