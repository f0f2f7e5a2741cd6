//! Copies bytes between two sockets, each direction for itself.
//!
//! A direction that ends is shut down on the other side and nothing else is; silence on both ends both sides. A failure or a cut is passed
//! on as a reset, so that nobody takes a part of a stream for the whole.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::{client, server};

use crate::connections::Registered;
use crate::decisions::DecisionId;
use crate::enforce::{Permit, Refusal};
use crate::http1::content::Content;
use crate::http1::flow::{Flow, Framed};
use crate::http1::side::Side;
use crate::http1::timer::Timer;
use crate::read_ahead::ReadAhead;
use crate::stream::Stream;

/// A tunnel on which nothing moved for so long is closed. Generous: applications keep idle connections to databases for hours.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Bytes that went each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub to_upstream: u64,
    pub to_downstream: u64,
}

/// How a tunnel ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides sent their end.
    Closed(Copied),
    /// Policy no longer allows it.
    Cut(Refusal),
    /// The peer's sidecar refused it.
    Refused(DecisionId),
    Idle,
    Failed(io::Error),
}

/// A socket that can end in a reset instead of an end of its stream.
pub trait Reset {
    /// From now on, dropping it resets the connection.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        // On a socket that is gone already there is nothing to reset.
        let _ = self.set_zero_linger();
    }
}

impl Reset for client::TlsStream<ReadAhead> {
    fn reset(&self) {
        self.get_ref().0.socket().reset();
    }
}

impl Reset for server::TlsStream<ReadAhead> {
    fn reset(&self) {
        self.get_ref().0.socket().reset();
    }
}

/// Copies until both directions ended or the registration is cut; also what was read ahead from either side.
pub async fn splice(
    mut downstream: Side,
    mut upstream: Side,
    _permit: &Permit,
    registered: &Registered,
) -> Ended {
    let pass = || Direction {
        flow: Flow::new(Vec::new(), Content::UntilClose, Framed::AsItCame),
        is_shut: false,
    };
    let mut splice = Splice {
        downstream: &mut downstream,
        upstream: &mut upstream,
        registered,
        up: pass(),
        down: pass(),
        timer: Timer::default(),
        moved: Instant::now(),
    };
    let mut ended = poll_fn(|cx| splice.poll(cx)).await;
    if let Ended::Failed(_) = &ended
        && let Some(decision) = upstream.stream.refused()
    {
        ended = Ended::Refused(decision);
    }
    if matches!(ended, Ended::Cut(_) | Ended::Refused(_) | Ended::Failed(_)) {
        downstream.stream.reset();
        upstream.stream.reset();
    }
    ended
}

struct Splice<'s> {
    downstream: &'s mut Side,
    upstream: &'s mut Side,
    registered: &'s Registered,
    up: Direction,
    down: Direction,
    timer: Timer,
    /// When something last moved.
    moved: Instant,
}

struct Direction {
    flow: Flow,
    is_shut: bool,
}

impl Splice<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.registered.watch(cx);
        if let Some(refusal) = self.registered.refusal() {
            return Poll::Ready(Ended::Cut(refusal));
        }
        let before = self.copied();
        let up = self.up.poll(self.downstream, &mut self.upstream.stream, cx);
        let down = self
            .down
            .poll(self.upstream, &mut self.downstream.stream, cx);
        match (up, down) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                return Poll::Ready(Ended::Failed(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                return Poll::Ready(Ended::Closed(self.copied()));
            }
            (Poll::Pending, _) | (_, Poll::Pending) => {}
        }
        if self.copied() != before {
            self.moved = Instant::now();
        }
        self.timer
            .poll(cx, self.moved + IDLE_TIMEOUT)
            .map(|()| Ended::Idle)
    }

    fn copied(&self) -> Copied {
        Copied {
            to_upstream: self.up.flow.moved(),
            to_downstream: self.down.flow.moved(),
        }
    }
}

impl Direction {
    /// Moves what there is; the source's end is passed on.
    fn poll(
        &mut self,
        source: &mut Side,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        let passed = ready!(self.flow.poll(source, sink, cx));
        passed.map_err(|broken| io::Error::other(format!("{broken:?}")))?;
        ready!(Pin::new(sink).poll_shutdown(cx))?;
        self.is_shut = true;
        Poll::Ready(Ok(()))
    }
}
