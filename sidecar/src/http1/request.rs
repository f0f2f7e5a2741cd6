//! What is asked about one request before any of it leaves: is it well formed, may its connection still begin one, does policy allow it.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use weft_catalog::{HostName, Protocol};
use weft_identity::{ServicePort, SpiffeId};
use weft_policy::{HttpRequest, Reason};

use super::head::RequestHead;
use super::proxy::declared;
use super::upgrade::Upgrade;
use crate::access_log::Record;
use crate::connections::DeclaredPort;
use crate::decisions::{DecisionId, Peer as RefusedPeer, Refused};
use crate::enforce::{self, Parties, Permit, Refusal, Side};
use crate::external;
use crate::flows::{Asked, Judged, Recent};
use crate::http::client_cert;
use crate::listener::Shared;
use crate::metrics::SideLabel;
use crate::outlets::Target;
use crate::tls::Peer;
use crate::view::Enforced;

/// Which way the requests of one connection go. Everything that is the same for all of them is made once.
pub struct Way {
    pub shared: Arc<Shared>,
    pub side: Side,
    pub source: SpiffeId,
    /// An unknown target is refused request by request.
    pub target: Result<ServicePort, Refusal>,
    /// On the server side.
    pub inlet: Option<Inlet>,
    /// On the client side: what names the target; none if it has no name.
    pub named: Option<Target>,
    /// Lines that each forwarded request gets.
    pub added: Vec<u8>,
    /// The request itself named the target.
    is_named_by_request: bool,
    /// What the CONNECT named that it came through: its requests are for this host.
    inside: Option<HostName>,
    requests: Counter,
}

/// How a request may go on.
pub enum Admitted {
    Permit(Permit),
    /// The rules allow it, and it leads outside: it is counted when the address of its host was judged too.
    Outside(Permit),
    /// It is a CONNECT, and requests to this host follow.
    Inside(ServicePort, HostName),
}

/// What requests came over, and where they go.
pub struct Inlet {
    pub peer: Arc<Peer>,
    pub declared: DeclaredPort,
    pub app: SocketAddr,
}

impl Way {
    /// From the application beside this sidecar to a service.
    pub fn out(shared: &Arc<Shared>, target: ServicePort) -> Self {
        Self {
            shared: Arc::clone(shared),
            side: Side::Client,
            source: shared.config.own_id.clone(),
            named: shared.named(&target).ok(),
            target: Ok(target),
            inlet: None,
            added: Vec::new(),
            is_named_by_request: false,
            inside: None,
            requests: counter(shared, "client"),
        }
    }

    /// The same for a request that came to the HTTP proxy.
    pub fn by_request(shared: &Arc<Shared>, target: ServicePort) -> Self {
        Self {
            is_named_by_request: true,
            ..Self::out(shared, target)
        }
    }

    /// The same for requests that came through a CONNECT for this host.
    pub fn inside(shared: &Arc<Shared>, target: ServicePort, host: HostName) -> Self {
        Self {
            inside: Some(host),
            ..Self::out(shared, target)
        }
    }

    /// From the application beside this sidecar to what is no service.
    pub fn unknown(shared: &Arc<Shared>, refusal: Refusal) -> Self {
        Self {
            side: Side::Client,
            requests: counter(shared, "client"),
            ..Self::nowhere(shared, shared.config.own_id.clone(), refusal)
        }
    }

    /// From a verified peer to the application beside this sidecar, which is told who asks.
    pub fn into_app(shared: &Arc<Shared>, target: ServicePort, inlet: Inlet) -> Self {
        let source = inlet.peer.id().clone();
        let own = &shared.config.own_id;
        Self {
            shared: Arc::clone(shared),
            side: Side::Server,
            added: client_cert::line(own, &source, &inlet.peer.leaf_sha256),
            source,
            target: Ok(target),
            inlet: Some(inlet),
            named: None,
            is_named_by_request: false,
            inside: None,
            requests: counter(shared, "server"),
        }
    }

    /// From a verified peer to what cannot be reached.
    pub fn nowhere(shared: &Arc<Shared>, source: SpiffeId, refusal: Refusal) -> Self {
        Self {
            shared: Arc::clone(shared),
            side: Side::Server,
            source,
            target: Err(refusal),
            inlet: None,
            named: None,
            added: Vec::new(),
            is_named_by_request: false,
            inside: None,
            requests: counter(shared, "server"),
        }
    }

    /// Whether the next hop can carry what the request asks to become.
    pub fn can_become(&self, upgrade: &Upgrade) -> bool {
        let speaks_http2 = self
            .inlet
            .as_ref()
            .is_some_and(|inlet| inlet.declared.protocol != Protocol::Http);
        *upgrade == Upgrade::None || !speaks_http2
    }

    /// A CONNECT to a port of bytes, for which the mesh itself opens the tunnel.
    pub fn is_tunnel(&self, upgrade: &Upgrade) -> bool {
        self.is_named_by_request && upgrade.is_connect()
    }

    /// Who names a target in a request opens a tunnel to ports of bytes, and to no other.
    fn fits(
        &self,
        enforced: &Enforced,
        target: &ServicePort,
        request: &RequestHead,
    ) -> Result<(), Refusal> {
        let upgrade = &request.upgrade;
        if *upgrade == Upgrade::Ambiguous {
            return Err(
                Refusal::new(Reason::UpgradeNotAllowed).because("several protocols at once")
            );
        }
        if self.is_outside(enforced, target) {
            // Who asks for TLS must not get a request in the clear; and through a tunnel nobody could see the host any more.
            let is_tunnel_unasked = !self.is_named_by_request && upgrade.is_connect();
            if request.wants_tls || is_tunnel_unasked {
                return Err(Refusal::new(Reason::WrongProtocol));
            }
        }
        if !self.is_named_by_request {
            return Ok(());
        }
        let is_fit = match declared(enforced, target) {
            Some(Protocol::Tcp | Protocol::Tls) => upgrade.is_connect(),
            Some(Protocol::Http | Protocol::Http2 | Protocol::Grpc) => !upgrade.is_connect(),
            // Unknown and forbidden answer alike: with the verdict.
            None => true,
        };
        if is_fit {
            Ok(())
        } else {
            Err(Refusal::new(Reason::WrongProtocol))
        }
    }

    pub fn count_request(&self) {
        self.requests.inc();
    }

    /// Whether the connection may begin a request: it may have outlived an SVID.
    fn may_begin(&self, now: Timestamp) -> Result<(), Refusal> {
        let Some(inlet) = &self.inlet else {
            return Ok(());
        };
        if inlet.peer.is_expired(now) {
            self.shared.metrics.requests_on_expired_connection.inc();
        }
        let may_begin = inlet.peer.may_begin(&self.shared.current.load(), now);
        may_begin.map_err(|error| error.refusal())
    }

    /// Whether the connection may begin no further request.
    pub fn is_over(&self) -> bool {
        self.inlet.as_ref().is_some_and(|inlet| {
            let enforced = self.shared.current.load();
            inlet.peer.may_begin(&enforced, Timestamp::now()).is_err()
        })
    }

    /// The verdict, counted among the flows of its target where nobody judges after it. The request is registered already.
    pub fn admit(
        &self,
        request: &RequestHead,
        head: &[u8],
        recent: &mut Recent,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        let target = match &self.target {
            Ok(target) => target,
            Err(refusal) => {
                self.may_begin(now)?;
                return Err(refusal.clone());
            }
        };
        let headers = request.headers(head);
        let asked = request.asked(head, &headers);
        let enforced = self.shared.current.load();
        let verdict = self.may_begin(now).and_then(|()| {
            match self.leads_inside(&enforced, target, &request.upgrade) {
                true => self.judge_inside(&enforced, target, &asked, now),
                false => self
                    .fits(&enforced, target, request)
                    .and_then(|()| self.judge(&enforced, target, &asked, now))
                    .map(Admitted::Permit),
            }
        });
        let is_outside = self.is_outside(&enforced, target);
        let judged = match &verdict {
            // What reaches a server is counted there.
            Ok(Admitted::Permit(permit)) if self.side == Side::Server => {
                Some(Judged::of(Ok(permit)))
            }
            // Of what goes inside, the requests that follow are counted.
            Ok(Admitted::Permit(_) | Admitted::Outside(_) | Admitted::Inside(..)) => None,
            Err(refusal) => Some(Judged::of(Err(refusal))),
        };
        if let Some(judged) = judged {
            let flow = self.flow(&enforced, target, &asked, judged);
            self.shared.flows.request(recent, &flow, now);
        }
        match verdict? {
            Admitted::Permit(permit) if is_outside => Ok(Admitted::Outside(permit)),
            admitted => Ok(admitted),
        }
    }

    /// Counts a request that leads outside among the flows of its target, now that all of it was judged.
    pub fn count_outside(
        &self,
        (request, head): (&RequestHead, &[u8]),
        judged: Judged<'_>,
        recent: &mut Recent,
        now: Timestamp,
    ) {
        let Ok(target) = &self.target else { return };
        let headers = request.headers(head);
        let asked = request.asked(head, &headers);
        let enforced = self.shared.current.load();
        let flow = self.flow(&enforced, target, &asked, judged);
        self.shared.flows.request(recent, &flow, now);
    }

    fn flow<'a>(
        &'a self,
        enforced: &'a Enforced,
        target: &'a ServicePort,
        request: &'a HttpRequest<'a>,
        judged: Judged<'a>,
    ) -> Asked<'a> {
        Asked {
            source: &self.source,
            target,
            request,
            judged,
            enforced,
            side: self.side,
        }
    }

    /// Whether the target is outside of the mesh: then nobody judges after this sidecar.
    fn is_outside(&self, enforced: &Enforced, target: &ServicePort) -> bool {
        self.side == Side::Client && external::port(enforced, target).is_some()
    }

    /// A CONNECT for HTTP of an external service opens no tunnel: what comes through it is judged request by request.
    fn leads_inside(&self, enforced: &Enforced, target: &ServicePort, upgrade: &Upgrade) -> bool {
        let is_http = |port: external::OutsidePort<'_>| port.port.protocol.is_http();
        self.is_tunnel(upgrade) && external::port(enforced, target).is_some_and(is_http)
    }

    fn judge_inside(
        &self,
        enforced: &Enforced,
        target: &ServicePort,
        asked: &HttpRequest<'_>,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        let parties = Parties {
            side: self.side,
            source: &self.source,
            target,
        };
        let host = enforce::admit_inside(enforced, parties, asked.authority, now)?;
        Ok(Admitted::Inside(target.clone(), host))
    }

    fn judge(
        &self,
        enforced: &Enforced,
        target: &ServicePort,
        asked: &HttpRequest<'_>,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        let parties = Parties {
            side: self.side,
            source: &self.source,
            target,
        };
        if let Some(inside) = &self.inside {
            let named = asked.authority.and_then(external::read_authority);
            if named.is_none_or(|(host, _)| host != *inside) {
                let why = "`Host` is not the host of the CONNECT";
                return Err(Refusal::new(Reason::Misdirected).because(why));
            }
        }
        if let Some(inlet) = &self.inlet {
            inlet.peer.proof.admit(enforced)?;
            enforce::admit_port(enforced, target, inlet.declared)?;
            enforce::audit_matches(enforced, parties, Some(asked), now, |rule| {
                self.shared.trials.note(rule, &self.source, target);
            });
        }
        enforce::admit_request(enforced, parties, asked, now)
    }

    /// Counts a refusal. A head that could not be read is empty here.
    pub fn decide(&self, refusal: &Refusal, request: &RequestHead, head: &[u8]) -> DecisionId {
        let target = self.target.as_ref().ok();
        let host = request.authority(head).unwrap_or_default();
        let service = match (target, self.side) {
            (Some(target), _) => target.service.to_string(),
            (None, Side::Client) => host.to_owned(),
            (None, Side::Server) => String::new(),
        };
        self.shared.decisions.refuse(&Refused {
            side: self.side,
            source: RefusedPeer::Verified(&self.source),
            service: &service,
            port: target
                .map(|target| target.port.as_str())
                .unwrap_or_default(),
            method: request.method(head),
            path: request.path(head),
            host,
            upgrade: request.upgrade.protocol().unwrap_or_default(),
            reason: refusal.reason,
            revision: self.shared.current.load().revision,
            detail: &refusal.detail,
        })
    }

    /// The event of one exchange, where it is asked for.
    pub fn record(&self, request: &RequestHead, head: &[u8]) -> Option<Record> {
        self.shared.config.access_log.then(|| {
            let target = self
                .target
                .as_ref()
                .map_or_else(|_| ":".to_owned(), ToString::to_string);
            let mut record = Record::new(self.side, self.source.to_string(), target);
            record.method = request.method(head).to_owned();
            record.path = request.path(head).to_owned();
            record
        })
    }
}

fn counter(shared: &Shared, side: &'static str) -> Counter {
    let label = SideLabel { side };
    shared.metrics.requests.get_or_create(&label).clone()
}
