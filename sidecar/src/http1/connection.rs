//! The spine of one HTTP/1.1 connection: a head, the verdict, an upstream, the exchange; and again.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Response, StatusCode};
use jiff::Timestamp;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use weft_policy::Reason;

use super::answer;
use super::content::{Content, Piece};
use super::exchange::{Ended, Exchange, NO_RESPONSE, Parts};
use super::flow::{Flow, Framed};
use super::head::{RequestHead, ResponseHead};
use super::request::Way;
use super::side::Side;
use super::timer::Timer;
use crate::access_log::Record;
use crate::connections::{InTurn, Registered};
use crate::enforce::{Permit, Refusal};
use crate::http::Body;
use crate::http::guard::{HeadLimits, IDLE_TIMEOUT};
use crate::http::refusal::{self, Form};
use crate::http::strict::{self, Malformed};
use crate::http::upgrade::Upgrade;
use crate::outlets::{Home, Known, Lease};
use crate::stream::Stream;
use crate::tcp::{self, Reset as _};

/// One client's connection, whose requests all go one way.
pub struct Connection {
    way: Way,
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
    Tunnel(Box<(Side, Permit, Option<Record>)>),
    /// Everything was said.
    Close,
    /// The same, but the client may be sending yet.
    Linger,
    /// Something was not: nobody may take the part for the whole.
    Reset,
}

impl Connection {
    pub fn new(way: Way, down: Side, terms: Terms) -> Self {
        Self {
            way,
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
            has_served: false,
            is_all_read: false,
            is_half_closed: false,
        }
    }

    /// Serves it until its end.
    pub async fn serve(mut self) {
        loop {
            let then = match self.next_request().await {
                Next::End if self.registered.is_cut() => Then::Reset,
                Next::End => return self.end().await,
                Next::Malformed(why) => self.refuse_malformed(why).await,
                Next::Request => match self.judge() {
                    Ok(permit) => self.forward(permit).await,
                    Err(refusal) => self.refuse(&refusal).await,
                },
            };
            self.has_served = true;
            match then {
                Then::GoOn => self.in_turn.close(),
                // The request that asked for it stays open.
                Then::Tunnel(tunnel) => {
                    let (up, permit, record) = *tunnel;
                    return Box::pin(self.tunnel(up, permit, record)).await;
                }
                Then::Close => return self.end().await,
                Then::Linger => return self.close().await,
                Then::Reset => return self.down.stream.reset(),
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
    fn judge(&self) -> Result<Permit, Refusal> {
        self.in_turn.open(&self.head);
        let now = Timestamp::now();
        self.way.may_begin(now)?;
        self.way.admit(&self.request, &self.head, now)
    }

    /// Passes the request on and its answer back.
    async fn forward(&mut self, permit: Permit) -> Then {
        self.way.count_request();
        let mut record = self
            .way
            .record(&self.request, &self.head)
            .map(|mut record| {
                record.rule = permit.rule().to_string();
                record
            });
        // A stream of HTTP/2 carries messages and nothing else.
        let is_message =
            !matches!(self.down.stream, Stream::Http2(_)) || self.request.upgrade == Upgrade::None;
        if !is_message || !self.way.can_become(&self.request.upgrade) {
            let why = "the upgrade is not possible over HTTP/2";
            return self
                .fail(StatusCode::NOT_IMPLEMENTED, why, &mut record)
                .await;
        }
        let mut sends = 0;
        loop {
            sends += 1;
            let lease = match self.lease().await {
                Ok(lease) => lease,
                Err(why) => {
                    return self
                        .fail(StatusCode::SERVICE_UNAVAILABLE, why, &mut record)
                        .await;
                }
            };
            let is_reused = lease.is_reused();
            let (stream, home) = lease.into_parts();
            let mut up = Side::new(stream);
            let ended = self.exchange(&mut up, &permit).await;
            if let Some(record) = &mut record {
                record.status = self.response.status;
            }
            return match ended {
                Ended::Done {
                    down,
                    up: is_reusable,
                } => self.after(down, is_reusable.then_some((up, home))),
                Ended::Tunnel => Then::Tunnel(Box::new((up, permit, record))),
                Ended::Lost
                    if is_reused
                        && sends < MOST_SENDS
                        && self.request.is_repeatable(&self.head) =>
                {
                    continue;
                }
                Ended::Lost => {
                    self.fail(StatusCode::BAD_GATEWAY, NO_RESPONSE, &mut record)
                        .await
                }
                Ended::BadAnswer(why) => self.fail(StatusCode::BAD_GATEWAY, why, &mut record).await,
                Ended::BadRequest(why) => {
                    drop(up);
                    self.refuse_malformed(why).await
                }
                Ended::Cut | Ended::Broken => {
                    up.stream.reset();
                    Then::Reset
                }
            };
        }
    }

    async fn exchange(&mut self, up: &mut Side, permit: &Permit) -> Ended {
        let mut head = crate::buffers::take();
        self.request.write(&self.head, &self.way.added, &mut head);
        let closes = self.life <= Instant::now();
        let parts = Parts {
            down: &mut self.down,
            up,
            request: &self.request,
            is_head: self.request.method(&self.head) == "HEAD",
            response: &mut self.response,
            registered: &self.registered,
            closes,
        };
        let mut exchange = Exchange::new(parts, head, permit);
        let ended = poll_fn(|cx| exchange.poll(cx)).await;
        self.is_all_read = exchange.sending.is_read();
        ended
    }

    /// A stream to where the request goes, never over a connection whose SVIDs have expired.
    async fn lease(&mut self) -> Result<Lease, &'static str> {
        let shared = &self.way.shared;
        if let Some(inlet) = &self.way.inlet {
            let protocol = inlet.declared.protocol;
            let leased = shared.outlets.lease_app(inlet.app, protocol).await;
            return leased.map_err(|error| {
                tracing::debug!(%error, address = %inlet.app, "the application cannot be reached");
                UNREACHABLE
            });
        }
        let target = self.way.named.as_ref().ok_or(UNREACHABLE)?;
        let service = shared
            .current
            .load()
            .outbound
            .get(&target.port.service)
            .cloned();
        let service = service.ok_or(UNREACHABLE)?;
        let leased = shared
            .outlets
            .lease(&service.view.endpoints, target, &mut self.known)
            .await;
        let lease = leased.map_err(|_| UNREACHABLE)?;
        if let Some(peer) = &lease.peer {
            self.in_turn.verified(Arc::clone(&peer.proof));
            let admitted = peer.may_begin(&shared.current.load(), Timestamp::now());
            admitted.map_err(|_| UNREACHABLE)?;
        }
        Ok(lease)
    }

    fn after(&mut self, goes_on: bool, up: Option<(Side, Home)>) -> Then {
        if let Some((up, home)) = up {
            home.take_back(up.into_stream());
        }
        match goes_on {
            true => Then::GoOn,
            false if self.is_all_read && self.down.unused().is_empty() => Then::Close,
            false => Then::Linger,
        }
    }

    /// Copies between both sides until one ends or policy no longer allows it.
    async fn tunnel(self, up: Side, permit: Permit, _record: Option<Record>) {
        let ended = tcp::splice_sides(self.down, up, &permit, &self.registered).await;
        tracing::debug!(?ended, "a tunnel ended");
    }

    async fn refuse_malformed(&mut self, why: Malformed) -> Then {
        let refusal = Refusal::new(Reason::Malformed).because(why.to_string());
        self.request = RequestHead::default();
        self.head.clear();
        self.refuse(&refusal).await
    }

    async fn refuse(&mut self, refusal: &Refusal) -> Then {
        let decision = self.way.refuse(refusal, &self.request, &self.head);
        let closes = refusal.reason == Reason::Malformed || self.must_close_after_answer();
        let answer = refusal::refused(self.form(), refusal, decision);
        self.answer(answer, closes).await
    }

    async fn fail(
        &mut self,
        code: StatusCode,
        why: &'static str,
        record: &mut Option<Record>,
    ) -> Then {
        if let Some(record) = record {
            record.status = code.as_u16();
        }
        let closes = self.must_close_after_answer();
        let answer = refusal::failed(self.form(), code, why);
        self.answer(answer, closes).await
    }

    /// What was not read of a request would be taken for the next one.
    fn must_close_after_answer(&mut self) -> bool {
        !self.request.keeps_alive
            || !self.request.is_1_1
            || self.request.upgrade.is_connect()
            || self.registered.ends()
            || self.is_refused
            || self.life <= Instant::now()
            || self.way.is_over()
            || !self.skip_content()
    }

    /// Leaves out the content of the request, if all of it is here.
    fn skip_content(&mut self) -> bool {
        let mut content = Content::from(std::mem::replace(
            &mut self.request.content,
            strict::BodyLength::Fixed(0),
        ));
        while !content.is_done() {
            match content.next(self.down.unused()) {
                Ok(Piece::Data(count) | Piece::Framing(count) | Piece::Trailers(count)) => {
                    self.down.consume(count)
                }
                Ok(Piece::More) | Err(_) => return false,
            }
        }
        true
    }

    async fn answer(&mut self, answer: Response<Body>, closes: bool) -> Then {
        let is_head = self.request.method(&self.head) == "HEAD";
        let text = answer::bytes(answer, is_head, closes);
        let mut flow = Flow::new(text, Content::Done, Framed::AsItCame);
        let down = &mut self.down.stream;
        let patience = tokio::time::timeout(IDLE_TIMEOUT, poll_fn(|cx| flow.poll_lead(down, cx)));
        match patience.await {
            Ok(Ok(())) if !closes => Then::GoOn,
            Ok(Ok(())) => Then::Linger,
            Ok(Err(_)) | Err(_) => Then::Reset,
        }
    }

    fn form(&self) -> Form {
        if self.request.is_grpc {
            Form::Grpc
        } else {
            Form::Json
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

const UNREACHABLE: &str = "no endpoint of the service can be reached";
/// How often a request is put on a connection at most.
const MOST_SENDS: usize = 3;
const LINGER: Duration = Duration::from_secs(2);
/// What a client may still send after its connection's last answer.
const MOST_DISCARDED: usize = 16 * 1024 * 1024;
