//! The spine of one HTTP/1.1 connection: a head, the verdict, an upstream, the exchange; and again.

mod forward;
mod outside;
mod refuse;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use weft_catalog::HostName;
use weft_identity::ServicePort;

use super::head::{RequestHead, ResponseHead};
use super::proxy::Guide;
use super::request::{Admitted, Way};
use super::side::Side;
use super::timer::Timer;
use crate::access_log::Record;
use crate::balance::Pending;
use crate::connections::{InTurn, Registered};
use crate::enforce::{Permit, Refusal};
use crate::flows::Recent;
use crate::http::strict::{self, Malformed};
use crate::http::{HeadLimits, IDLE_TIMEOUT};
use crate::outlets::Known;
use crate::stream::Stream;
use crate::tcp::Reset as _;

/// One client's connection. Its requests all go one way, unless a guide finds each its own.
pub struct Connection {
    way: Way,
    guide: Option<Guide>,
    down: Side,
    registered: Registered,
    in_turn: Arc<InTurn>,
    heads: HeadLimits,
    /// When it takes no further request, whatever comes.
    life: Instant,
    /// Nothing that comes over it is allowed now: it is not kept for long.
    is_refused: bool,
    request: RequestHead,
    response: ResponseHead,
    timer: Timer,
    /// The head of the request that is being served.
    head: Vec<u8>,
    known: Known,
    /// What the last request was counted as.
    recent: Recent,
    /// The open request leads outside and is counted when all of it was judged.
    is_uncounted: bool,
    has_served: bool,
    /// The whole of the last request was read.
    is_all_read: bool,
    /// The client sends no more.
    is_half_closed: bool,
}

/// What a connection is served on.
pub struct Terms {
    pub registered: Registered,
    pub in_turn: Arc<InTurn>,
    pub heads: HeadLimits,
    /// When it takes no further request, whatever comes.
    pub life: Instant,
    /// Nothing that comes over it is allowed now.
    pub is_refused: bool,
    /// Each request names its own target.
    pub guide: Option<Guide>,
}

/// A connection behind a CONNECT, on which requests for one host of an external service follow.
pub struct Inside {
    pub down: Side,
    pub target: ServicePort,
    pub host: HostName,
}

/// What the wait for a request ended with.
enum Next {
    Request,
    Malformed(Malformed),
    End,
}

/// Whether the connection takes another request.
enum Then {
    GoOn,
    /// It carries another protocol now.
    Tunnel(Box<Tunnel>),
    /// Requests for this host of an external service follow.
    Inside(ServicePort, HostName),
    /// Everything was said.
    Close,
    /// The same, but the client may be sending yet.
    Linger,
    /// Something was not: nobody may take the part for the whole.
    Reset,
}

/// What a connection became.
struct Tunnel {
    up: Side,
    permit: Permit,
    /// What lives as long as it does.
    _kept: (Option<Record>, Option<Pending>),
}

impl Connection {
    pub fn new(way: Way, down: Side, terms: Terms) -> Self {
        Self {
            way,
            guide: terms.guide,
            down,
            registered: terms.registered,
            in_turn: terms.in_turn,
            heads: terms.heads,
            life: terms.life,
            is_refused: terms.is_refused,
            request: RequestHead::default(),
            response: ResponseHead::default(),
            timer: Timer::default(),
            head: Vec::new(),
            known: Known::default(),
            recent: Recent::default(),
            is_uncounted: false,
            has_served: false,
            is_all_read: false,
            is_half_closed: false,
        }
    }

    /// Serves it until its end, or until what follows is for another to serve.
    pub async fn serve(mut self) -> Option<Inside> {
        loop {
            let then = match self.next_request().await {
                Next::End if self.registered.is_cut() => Then::Reset,
                Next::End => {
                    self.end().await;
                    return None;
                }
                Next::Malformed(why) => self.refuse_malformed(why).await,
                Next::Request => match self.judge() {
                    Ok(Admitted::Permit(permit)) => self.forward(permit).await,
                    Ok(Admitted::Outside(permit)) => {
                        self.is_uncounted = true;
                        self.forward(permit).await
                    }
                    Ok(Admitted::Inside(target, host)) => self.step_inside(target, host).await,
                    Err(refusal) => self.refuse(&refusal).await,
                },
            };
            self.has_served = true;
            match then {
                Then::GoOn => self.in_turn.close(),
                // The request that asked for it stays open.
                Then::Tunnel(tunnel) => {
                    Box::pin(self.tunnel(*tunnel)).await;
                    return None;
                }
                Then::Inside(target, host) => {
                    let down = self.down;
                    return Some(Inside { down, target, host });
                }
                Then::Close => {
                    self.end().await;
                    return None;
                }
                Then::Linger => {
                    self.close().await;
                    return None;
                }
                Then::Reset => {
                    self.down.stream.reset();
                    return None;
                }
            }
        }
    }

    /// Waits for a whole head and reads it.
    async fn next_request(&mut self) -> Next {
        let mut searched = 0;
        let (mut idle_since, mut began) = (None, None);
        poll_fn(|cx| self.poll_request(cx, (&mut idle_since, &mut began), &mut searched)).await
    }

    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        (idle_since, began): (&mut Option<Instant>, &mut Option<Instant>),
        searched: &mut usize,
    ) -> Poll<Next> {
        self.registered.watch(cx);
        loop {
            if self.registered.is_cut() {
                return Poll::Ready(Next::End);
            }
            let waiting = self.down.unused();
            match strict::section_end(waiting, searched) {
                Ok(Some(length)) if length <= self.heads.bytes => {
                    return Poll::Ready(self.take_head(length));
                }
                Ok(None) if waiting.len() < self.heads.bytes => {}
                Ok(_) => return Poll::Ready(Next::Malformed(Malformed::HeadTooLong)),
                Err(why) => return Poll::Ready(Next::Malformed(why)),
            }
            let is_idle = waiting.is_empty();
            match self.down.poll_more(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => {
                    self.is_half_closed = true;
                    return Poll::Ready(Next::End);
                }
                // Whoever was taken is answered once, also when nothing new should begin.
                Poll::Pending if is_idle && self.has_served && self.registered.ends() => {
                    return Poll::Ready(Next::End);
                }
                Poll::Pending => {
                    let deadline = if is_idle {
                        let idle_since = *idle_since.get_or_insert_with(Instant::now);
                        self.life.min(idle_since + IDLE_TIMEOUT)
                    } else {
                        *began.get_or_insert_with(Instant::now) + self.heads.time
                    };
                    ready!(self.timer.poll(cx, deadline));
                    return Poll::Ready(Next::End);
                }
            }
        }
    }

    fn take_head(&mut self, length: usize) -> Next {
        let head = self.down.unused().get(..length).unwrap_or_default();
        self.head.clear();
        self.head.extend_from_slice(head);
        self.down.consume(length);
        match self.request.read(&self.head) {
            Ok(()) => Next::Request,
            Err(why) => Next::Malformed(why),
        }
    }

    /// Registers, then judges.
    fn judge(&mut self) -> Result<Admitted, Refusal> {
        self.find_way();
        self.in_turn.open(&self.head);
        let now = Timestamp::now();
        let Self {
            way,
            request,
            head,
            recent,
            ..
        } = self;
        way.admit(request, head, recent, now)
    }

    fn find_way(&mut self) {
        let Some(guide) = &self.guide else { return };
        let authority = self.request.authority(&self.head);
        if let Some(way) = guide.way(authority, &self.way) {
            self.registered.aims_at(way.target.as_ref().ok());
            self.way = way;
            self.known = Known::default();
            self.recent = Recent::default();
        }
    }

    /// Ends a connection on which nothing is open.
    async fn end(mut self) {
        // Who has gone needs no end said; on a shared connection it is one word all the same.
        if self.is_half_closed && matches!(self.down.stream, Stream::Tcp(_)) {
            return;
        }
        let _ = poll_fn(|cx| Pin::new(&mut self.down.stream).poll_shutdown(cx)).await;
    }

    /// Sends this side's end, then reads and throws away what still comes, for a moment: unread bytes would make the socket send a reset, and
    /// that would overtake an answer that came before its request was read.
    async fn close(mut self) {
        let down = &mut self.down;
        let lingering = async {
            let _ = poll_fn(|cx| Pin::new(&mut down.stream).poll_shutdown(cx)).await;
            let mut left = MOST_DISCARDED;
            while left > 0 {
                let count = down.unused().len();
                down.consume(count);
                left = left.saturating_sub(count.max(1));
                if !matches!(poll_fn(|cx| down.poll_more(cx)).await, Ok(true)) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, lingering).await;
    }
}

const LINGER: Duration = Duration::from_secs(2);
/// What a client may still send after its connection's last answer.
const MOST_DISCARDED: usize = 16 * 1024 * 1024;
