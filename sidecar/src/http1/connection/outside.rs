//! The way of a permitted request to an external service: the sidecar resolves the host that the request names, and dials what it may.

use std::sync::Arc;

use jiff::Timestamp;
use weft_catalog::{HostName, Protocol};
use weft_identity::ServicePort;
use weft_policy::Reason;

use super::forward::{Missed, NOT_IMPLEMENTED, UNAVAILABLE};
use super::{Connection, Then, Tunnel};
use crate::access_log::Record;
use crate::enforce::{Permit, Refusal, Side as End};
use crate::external::{self, Hello, MISDIRECTED_ALERT, Undialled, first_of};
use crate::flows::Judged;
use crate::http1::Side;
use crate::http1::content::Content;
use crate::http1::flow::{Flow, Framed};
use crate::outlets::Lease;
use crate::stream::Stream;

/// Where a request goes.
struct Target {
    port: ServicePort,
    protocol: Protocol,
    host: HostName,
}

impl Connection {
    pub(super) fn leads_outside(&self) -> bool {
        let is_outside = |target: &ServicePort| {
            external::port(&self.way.shared.current.load(), target).is_some()
        };
        self.way.side == End::Client && self.way.target.as_ref().is_ok_and(is_outside)
    }

    /// Counts what became of the open request, if it leads outside and was not counted yet.
    pub(super) fn count_outside(&mut self, verdict: Result<&Permit, &Refusal>) {
        if !std::mem::take(&mut self.is_uncounted) {
            return;
        }
        let request = (&self.request, self.head.as_slice());
        let judged = Judged::of(verdict);
        self.way
            .count_outside(request, judged, &mut self.recent, Timestamp::now());
    }

    /// A connection to one of the host's addresses for one exchange.
    pub(super) async fn lease_outside(&mut self) -> Result<Lease, Missed> {
        let shared = Arc::clone(&self.way.shared);
        let target = self.target_outside().map_err(Missed::Refused)?;
        let addresses = shared.outside.addresses(&target.port, &target.host).await?;
        let lease = async |address| {
            let lease = shared.outlets.lease_app(address, target.protocol).await?;
            Ok((lease, address))
        };
        let leased = first_of(&addresses, lease).await;
        let (lease, address) = leased.ok_or(Missed::Failed(UNREACHABLE_OUTSIDE))?;
        self.in_turn.leads_to(address);
        external::admit_address(&shared.current.load(), &target.port, address)
            .map_err(Missed::Refused)?;
        Ok(lease)
    }

    /// Opens a tunnel to an opaque port, through which TLS must be for the same host.
    pub(super) async fn connect_outside(
        &mut self,
        permit: Permit,
        mut record: Option<Record>,
    ) -> Then {
        let (target, up) = match self.dial_outside().await {
            Ok(dialled) => dialled,
            Err(Missed::Failed(why)) => {
                self.count_outside(Ok(&permit));
                return self.fail(UNAVAILABLE, why, &mut record).await;
            }
            Err(Missed::Refused(refusal)) => {
                self.count_outside(Err(&refusal));
                return self.refuse_recorded(&refusal, record).await;
            }
        };
        if self.say_connected().await.is_err() {
            self.count_outside(Ok(&permit));
            return Then::Reset;
        }
        if let Some(record) = &mut record {
            record.status = 200;
        }
        if target.protocol == Protocol::Tls {
            let limit = self.way.shared.head_limits().time;
            let hello = tokio::select! {
                hello = Hello::read(&mut self.down, limit) => hello,
                refusal = self.registered.cut() => {
                    self.count_outside(Err(&refusal));
                    return Then::Reset;
                }
            };
            if let Err(refusal) = hello.named(|host| *host == target.host) {
                self.count_outside(Err(&refusal));
                return self.refuse_tls(&refusal, record).await;
            }
        }
        self.count_outside(Ok(&permit));
        Then::Tunnel(Box::new(Tunnel {
            up,
            permit,
            _kept: (record, None),
        }))
    }

    /// Answers a CONNECT behind which requests are judged one by one.
    pub(super) async fn step_inside(&mut self, target: ServicePort, host: HostName) -> Then {
        let mut record = self.way.record(&self.request, &self.head);
        if matches!(self.down.stream, Stream::Http2(_)) {
            let why = "CONNECT is not possible over HTTP/2";
            return self.fail(NOT_IMPLEMENTED, why, &mut record).await;
        }
        if let Some(record) = &mut record {
            record.status = 200;
        }
        match self.say_connected().await {
            Ok(()) => Then::Inside(target, host),
            Err(_) => Then::Reset,
        }
    }

    async fn dial_outside(&mut self) -> Result<(Target, Side), Missed> {
        let shared = Arc::clone(&self.way.shared);
        let target = self.target_outside().map_err(Missed::Refused)?;
        let addresses = shared.outside.addresses(&target.port, &target.host).await?;
        let (stream, address) = shared.outside.connect(&addresses).await?;
        self.in_turn.leads_to(address);
        external::admit_address(&shared.current.load(), &target.port, address)
            .map_err(Missed::Refused)?;
        Ok((target, Side::new(Stream::Tcp(stream))))
    }

    /// The host that the open request names, which policy has just allowed.
    fn target_outside(&self) -> Result<Target, Refusal> {
        let enforced = self.way.shared.current.load();
        let port = self.way.target.as_ref().map_err(Clone::clone)?;
        let outside = external::port(&enforced, port);
        let outside = outside.ok_or_else(|| Refusal::new(Reason::NoRule))?;
        Ok(Target {
            port: port.clone(),
            protocol: outside.port.protocol,
            host: outside.host(self.request.authority(&self.head))?,
        })
    }

    /// The CONNECT was answered already: its TLS is told, and nothing of it has left.
    async fn refuse_tls(&mut self, refusal: &Refusal, mut record: Option<Record>) -> Then {
        let decision = self.way.decide(refusal, &self.request, &self.head);
        if let Some(record) = &mut record {
            record.refused = Some((decision, refusal.reason));
        }
        if refusal.reason != Reason::Misdirected {
            return Then::Reset;
        }
        let mut flow = Flow::new(MISDIRECTED_ALERT.to_vec(), Content::Done, Framed::AsItCame);
        let down = &mut self.down.stream;
        match std::future::poll_fn(|cx| flow.poll_lead(down, cx)).await {
            Ok(()) => Then::Linger,
            Err(_) => Then::Reset,
        }
    }
}

impl From<Undialled> for Missed {
    fn from(why: Undialled) -> Self {
        match why {
            Undialled::Refused(refusal) => Self::Refused(refusal),
            Undialled::Unresolved(_) => Self::Failed("the host's name cannot be resolved"),
            Undialled::Unreachable => Self::Failed(UNREACHABLE_OUTSIDE),
        }
    }
}

const UNREACHABLE_OUTSIDE: &str = "no address of the host can be reached";
