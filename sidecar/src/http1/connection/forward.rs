//! The way of a permitted request to its upstream, and of the answer back.

use std::future::poll_fn;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::content::Content;
use super::super::exchange::{Ended, Exchange, NO_RESPONSE, Parts};
use super::super::flow::{Broken, Flow, Framed};
use super::super::side::Side;
use super::super::upgrade::Upgrade;
use super::{Connection, Then, Tunnel};
use crate::access_log::Record;
use crate::balance::Pending;
use crate::enforce::Permit;
use crate::enforce::Refusal;
use crate::outlets::{Home, Lease};
use crate::stream::Stream;
use crate::tcp::{self, Reset as _};

impl Connection {
    /// Passes the request on and its answer back.
    pub(super) async fn forward(&mut self, permit: Permit) -> Then {
        self.way.count_request();
        self.way.shared.metrics.note_learned(&permit);
        let mut record = self
            .way
            .record(&self.request, &self.head)
            .map(|mut record| {
                record.permitted_by(&permit);
                record
            });
        let over_http2 = matches!(self.down.stream, Stream::Http2(_));
        let upgrade = &self.request.upgrade;
        if *upgrade != Upgrade::None && over_http2 || !self.way.can_become(upgrade) {
            self.count_outside(Ok(&permit));
            let why = "the upgrade is not possible over HTTP/2";
            return self.fail(NOT_IMPLEMENTED, why, &mut record).await;
        }
        if self.way.is_tunnel(upgrade) {
            return self.connect(permit, record).await;
        }
        let mut sends = 0;
        loop {
            sends += 1;
            let leased = self.lease().await;
            self.count_outside(match &leased {
                Err(Missed::Refused(refusal)) => Err(refusal),
                // That nobody answers is no verdict.
                Ok(_) | Err(Missed::Failed(_)) => Ok(&permit),
            });
            let lease = match leased {
                Ok(lease) => lease,
                Err(Missed::Failed(why)) => {
                    return self.fail(UNAVAILABLE, why, &mut record).await;
                }
                Err(Missed::Refused(refusal)) => {
                    return self.refuse_recorded(&refusal, record).await;
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
                Ended::Tunnel => Then::Tunnel(Box::new(Tunnel {
                    up,
                    permit,
                    _kept: (record, None),
                })),
                Ended::Lost
                    if is_reused
                        && sends < MOST_SENDS
                        && self.request.is_repeatable(&self.head) =>
                {
                    continue;
                }
                Ended::Lost => self.fail(BAD_GATEWAY, NO_RESPONSE, &mut record).await,
                Ended::BadAnswer(why) => self.fail(BAD_GATEWAY, why, &mut record).await,
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

    /// Opens a tunnel to a port of bytes.
    async fn connect(&mut self, permit: Permit, mut record: Option<Record>) -> Then {
        if self.leads_outside() {
            return Box::pin(self.connect_outside(permit, record)).await;
        }
        let Some((up, pending)) = self.open_tunnel().await else {
            return self.fail(UNAVAILABLE, UNREACHABLE, &mut record).await;
        };
        if let Some(record) = &mut record {
            record.status = 200;
        }
        match self.say_connected().await {
            Ok(()) => Then::Tunnel(Box::new(Tunnel {
                up,
                permit,
                _kept: (record, Some(pending)),
            })),
            Err(_) => Then::Reset,
        }
    }

    pub(super) async fn say_connected(&mut self) -> Result<(), Broken> {
        let opened = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let mut flow = Flow::new(opened, Content::Done, Framed::AsItCame);
        let down = &mut self.down.stream;
        poll_fn(|cx| flow.poll_lead(down, cx)).await
    }

    async fn open_tunnel(&mut self) -> Option<(Side, Pending)> {
        let shared = Arc::clone(&self.way.shared);
        let named = self.way.named.as_ref()?;
        let outbound = &shared.current.load_full().outbound;
        let endpoints = &outbound.get(&named.port.service)?.view.endpoints;
        let connecting = Box::pin(shared.outlets.connect(endpoints, named));
        let (stream, peer, pending) = connecting.await.ok()?;
        self.in_turn.verified(Arc::clone(&peer.proof));
        peer.proof.admit(&shared.current.load()).ok()?;
        Some((Side::new(stream), pending))
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
    async fn lease(&mut self) -> Result<Lease, Missed> {
        if self.leads_outside() {
            return Box::pin(self.lease_outside()).await;
        }
        let shared = &self.way.shared;
        if let Some(inlet) = &self.way.inlet {
            let protocol = inlet.declared.protocol;
            let leased = shared.outlets.lease_app(inlet.app, protocol).await;
            return leased.map_err(|error| {
                tracing::debug!(%error, address = %inlet.app, "the application cannot be reached");
                Missed::Failed(UNREACHABLE)
            });
        }
        let target = self.way.named.as_ref();
        let target = target.ok_or(Missed::Failed(UNREACHABLE))?;
        let service = shared
            .current
            .load()
            .outbound
            .get(&target.port.service)
            .cloned();
        let service = service.ok_or(Missed::Failed(UNREACHABLE))?;
        let leased = shared
            .outlets
            .lease(&service.view.endpoints, target, &mut self.known)
            .await;
        let lease = leased.map_err(|_| Missed::Failed(UNREACHABLE))?;
        if let Some(peer) = &lease.peer {
            self.in_turn.verified(Arc::clone(&peer.proof));
            let admitted = peer.may_begin(&shared.current.load(), Timestamp::now());
            admitted.map_err(|_| Missed::Failed(UNREACHABLE))?;
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
    pub(super) async fn tunnel(self, tunnel: Tunnel) {
        let Tunnel { up, permit, _kept } = tunnel;
        let ended = tcp::splice(self.down, up, &permit, &self.registered).await;
        tracing::debug!(?ended, "a tunnel ended");
    }
}

/// Why there is no stream to where a request goes.
pub(super) enum Missed {
    Failed(&'static str),
    Refused(Refusal),
}

// RFC 9110 §15.6.
pub(super) const NOT_IMPLEMENTED: u16 = 501;
const BAD_GATEWAY: u16 = 502;
pub(super) const UNAVAILABLE: u16 = 503;
const UNREACHABLE: &str = "no endpoint of the service can be reached";
/// How often a request is put on a connection at most.
const MOST_SENDS: usize = 3;
