//! The narrow seam to HTTP. Everything that parses or serialises HTTP is behind this folder; hyper does it for now.
//!
//! [`server`] gives requests and takes responses, [`client`] the other way round; what passes between them is a [`Body`], which
//! streams with back-pressure, drops what must not pass, and ends when policy no longer allows the exchange.

pub mod client;
pub mod exchange;
pub mod guard;
pub mod headers;
mod preface;
pub mod refusal;
pub mod server;
pub mod strict;
pub mod upgrade;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::access_log::Record;
use crate::connections::Registered;
use crate::http::guard::OpenRequest;
use crate::upstream::Lease;

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    Http1,
    Http2,
}

/// A message's content on its way through.
pub struct Body {
    content: Content,
    cut: Option<CutFuture>,
    gate: Option<(Arc<Gate>, Pin<Box<Sleep>>)>,
    kept: Option<Box<Kept>>,
}

enum Content {
    Empty,
    Whole(Option<Bytes>),
    Passing(Incoming),
}

type CutFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What lives as long as an exchange does.
#[derive(Default)]
pub struct Kept {
    /// The connection that the response comes from.
    pub lease: Option<Lease>,
    pub registered: Option<Arc<Registered>>,
    pub open: Option<OpenRequest>,
    pub record: Option<Record>,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("policy no longer allows it")]
    Cut,
    #[error("the other side ended it")]
    Passing(#[source] hyper::Error),
}

/// Holds a request's content back until the upstream asks for it (RFC 9110 §10.1.1).
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Body {
    pub fn empty() -> Self {
        Self::of(Content::Empty)
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::of(Content::Whole(Some(bytes.into())))
    }

    /// Content that this side itself made.
    pub fn as_whole(&self) -> &[u8] {
        match &self.content {
            Content::Whole(Some(bytes)) => bytes,
            Content::Whole(None) | Content::Empty | Content::Passing(_) => &[],
        }
    }

    /// Passes content on until its end or until the registration is cut.
    pub fn passing(incoming: Incoming, registered: &Arc<Registered>) -> Self {
        if incoming.is_end_stream() {
            return Self::of(Content::Empty);
        }
        let registered = Arc::clone(registered);
        let cut = Box::pin(async move {
            registered.cut().await;
        });
        Self {
            cut: Some(cut),
            ..Self::of(Content::Passing(incoming))
        }
    }

    /// Waits for the gate, though not for ever: a server need not answer `Expect`.
    pub fn behind(&mut self) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        self.gate = Some((
            Arc::clone(&gate),
            Box::pin(tokio::time::sleep(CONTINUE_AFTER)),
        ));
        gate
    }

    /// Keeps these until the content's end.
    #[must_use]
    pub fn keeping(mut self, kept: Kept) -> Self {
        self.kept = Some(Box::new(kept));
        if self.is_end_stream() {
            self.finish();
        }
        self
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            cut: None,
            gate: None,
            kept: None,
        }
    }

    /// The content came to its end: the connection may serve another request.
    fn finish(&mut self) {
        if let Some(mut kept) = self.kept.take()
            && let Some(lease) = kept.lease.take()
        {
            lease.finish();
        }
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((gate, timeout)) = &mut self.gate {
            gate.waker.register(cx.waker());
            if !gate.open.load(Ordering::Acquire) {
                ready!(timeout.as_mut().poll(cx));
            }
            self.gate = None;
        }
        Poll::Ready(())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(cut) = &mut this.cut
            && cut.as_mut().poll(cx).is_ready()
        {
            this.cut = None;
            this.content = Content::Empty;
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        ready!(this.poll_gate(cx));
        let frame = match &mut this.content {
            Content::Empty => None,
            Content::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Passing(incoming) => ready!(Pin::new(incoming).poll_frame(cx)),
        };
        match frame {
            Some(Ok(frame)) => {
                if this.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(without_client_cert(frame))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BodyError::Passing(error)))),
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_none(),
            Content::Passing(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(
                bytes
                    .as_ref()
                    .and_then(|bytes| u64::try_from(bytes.len()).ok())
                    .unwrap_or(0),
            ),
            Content::Passing(incoming) => incoming.size_hint(),
        }
    }
}

/// Trailers may no more name a client's certificate than headers may.
fn without_client_cert(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::remove_client_cert(&mut trailers);
            remove_framing(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Fields that trailers must not carry, because they frame or route the message (RFC 9110 §6.5.1).
fn remove_framing(trailers: &mut HeaderMap) {
    headers::remove_hop_by_hop(trailers);
    trailers.remove(http::header::CONTENT_LENGTH);
    trailers.remove(http::header::HOST);
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content.
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// How long a request's content waits for `100 Continue`.
const CONTINUE_AFTER: Duration = Duration::from_secs(1);
