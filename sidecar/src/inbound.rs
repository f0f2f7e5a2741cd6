//! The spine of the inbound side: handshake, target, registration, verdict, application.
//!
//! This side is the authority. The verdict is about the service that the peer's server name names, never about `Host`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use weft_catalog::Protocol;
use weft_identity::SpiffeId;
use weft_policy::Reason;

use crate::access_log::Record;
use crate::connections::{Carries, Inlet, Live, Registered};
use crate::decisions::{Peer as RefusedPeer, Refused};
use crate::enforce::{self, Admission, Permit, Refusal, Side, Target};
use crate::http::exchange::{Exchange, Route};
use crate::http::server::{self, Aborted, Arrived, Handler};
use crate::http::{Body, Version, headers, refusal};
use crate::listener::{Place, Shared};
use crate::tcp::{self, Reset as _};
use crate::tls::{ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, Peer, TlsError};
use crate::upstream::version_of;

/// Serves one connection that the inbound listener accepted.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, place: Arc<Place>) {
    let Some((stream, peer)) = Box::pin(shake_hands(&shared, stream, from)).await else {
        return;
    };
    let connection = stream.get_ref().1;
    let speaks = Speaks::of(connection.alpn_protocol());
    let target = {
        let enforced = shared.current.load();
        enforce::inbound_target(&enforced, &shared.config, connection.server_name())
    };
    let inbound = Inbound {
        shared,
        stream,
        peer: Arc::new(peer),
        from,
        place,
    };
    match (target, speaks) {
        (target, Speaks::Http(version))
            if target
                .as_ref()
                .is_ok_and(|target| target.declared.protocol.is_http()) =>
        {
            Box::pin(inbound.http(target, version)).await;
        }
        (Ok(target), Speaks::Opaque) if !target.declared.protocol.is_http() => {
            Box::pin(inbound.tcp(target)).await
        }
        (Ok(target), Speaks::Unsaid) => match target.declared.protocol {
            Protocol::Tcp => Box::pin(inbound.tcp(target)).await,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
                Box::pin(inbound.http(Ok(target), Version::Http1)).await;
            }
        },
        (Ok(target), Speaks::Http(_) | Speaks::Opaque) => {
            inbound.refuse(&Refusal::new(Reason::WrongProtocol), Some(&target));
        }
        // Whoever speaks HTTP is told so in HTTP.
        (Err(refusal), Speaks::Http(version)) => {
            Box::pin(inbound.http(Err(refusal), version)).await
        }
        (Err(refusal), Speaks::Opaque | Speaks::Unsaid) => inbound.refuse(&refusal, None),
    }
}

/// What ALPN says is inside.
#[derive(Clone, Copy)]
enum Speaks {
    Http(Version),
    Opaque,
    /// No ALPN: a foreign client. It may speak what the port declares.
    Unsaid,
}

impl Speaks {
    fn of(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(ALPN_HTTP1) => Self::Http(Version::Http1),
            Some(ALPN_HTTP2) => Self::Http(Version::Http2),
            Some(ALPN_TCP) => Self::Opaque,
            Some(_) | None => Self::Unsaid,
        }
    }
}

struct Inbound {
    shared: Arc<Shared>,
    stream: TlsStream<TcpStream>,
    peer: Arc<Peer>,
    from: SocketAddr,
    place: Arc<Place>,
}

impl Inbound {
    /// Bytes: judged once, and again whenever policy changes.
    async fn tcp(self, target: Target) {
        let registered = self.register(&target, Carries::Bytes);
        self.note_trials(&target);
        let permit = match self.admit(&target) {
            Admission::Allow(permit) => permit,
            // Nothing here could meet HTTP conditions.
            Admission::NeedsHttp => {
                return self.refuse(&Refusal::new(Reason::NoRule), Some(&target));
            }
            Admission::Deny(refusal) => return self.refuse(&refusal, Some(&target)),
        };
        let app = match self.shared.upstreams.connect_app(target.app).await {
            Ok(app) => app,
            Err(error) => {
                tracing::warn!(%error, app = %target.app, "the application cannot be reached");
                self.stream.reset();
                return;
            }
        };
        let _record = self.record(&target, &permit);
        let ended = tcp::splice(self.stream, app, &permit, &registered).await;
        tracing::debug!(?ended, from = %self.from, "an inbound connection ended");
    }

    /// Requests: each is judged.
    async fn http(self, target: Result<Target, Refusal>, version: Version) {
        let shared = Arc::clone(&self.shared);
        let registered = target
            .as_ref()
            .ok()
            .map(|target| self.register(target, Carries::Requests));
        // Whoever no rule names is refused request by request, with an answer, and not for long; what was allowed once is cut when
        // that ends.
        let is_admitted = target
            .as_ref()
            .is_ok_and(|target| !matches!(self.admit(target), Admission::Deny(_)));
        let handler = Arc::new(InboundHttp {
            shared: Arc::clone(&shared),
            peer: Arc::clone(&self.peer),
            target,
        });
        let life = if is_admitted {
            None
        } else {
            Some(REFUSED_LIFE)
        };
        let ending = end_of_requests(Arc::clone(&shared), Arc::clone(&self.peer), life);
        let serving = server::serve(
            self.stream,
            version,
            shared.terms(self.place),
            handler,
            ending,
        );
        tokio::select! {
            () = Box::pin(serving) => {}
            () = cut(registered.filter(|_| is_admitted)) => {}
        }
    }

    fn register(&self, target: &Target, carries: Carries) -> Registered {
        self.shared.connections.register(Live {
            side: Side::Server,
            source: self.peer.id().clone(),
            peer: Some(Arc::clone(&self.peer.proof)),
            target: target.service_port(),
            declared: Some(target.declared),
            carries,
        })
    }

    fn admit(&self, target: &Target) -> Admission {
        let enforced = self.shared.current.load();
        let service_port = target.service_port();
        let still = self
            .peer
            .proof
            .admit(&enforced)
            .and_then(|()| enforce::admit_port(&enforced, &service_port, target.declared));
        if let Err(refusal) = still {
            return Admission::Deny(refusal);
        }
        let source = self.peer.id();
        enforce::admit_connection(
            &enforced,
            enforce::Parties {
                side: Side::Server,
                source,
                target: &service_port,
            },
            Timestamp::now(),
        )
    }

    fn note_trials(&self, target: &Target) {
        let (enforced, target) = (self.shared.current.load(), target.service_port());
        let parties = enforce::Parties {
            side: Side::Server,
            source: self.peer.id(),
            target: &target,
        };
        enforce::audit_matches(&enforced, parties, None, Timestamp::now(), |rule| {
            self.shared.trials.note(rule, self.peer.id(), &target);
        });
    }

    fn refuse(&self, refusal: &Refusal, target: Option<&Target>) {
        let service = target
            .map(|target| target.service.to_string())
            .unwrap_or_default();
        let port = target
            .map(|target| target.port.as_str())
            .unwrap_or_default();
        let source = RefusedPeer::Verified(self.peer.id());
        log_refusal(&self.shared, source, refusal, &service, port);
    }

    fn record(&self, target: &Target, permit: &Permit) -> Option<Record> {
        self.shared.config.access_log.then(|| {
            let mut record = Record::new(
                Side::Server,
                self.peer.id().to_string(),
                target.service_port().to_string(),
            );
            record.rule = permit.rule().to_string();
            record
        })
    }
}

/// Judges and forwards the requests of one connection.
struct InboundHttp {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    target: Result<Target, Refusal>,
}

impl Handler for InboundHttp {
    async fn handle(self: Arc<Self>, arrived: Arrived) -> Result<Response<Body>, Aborted> {
        let inlet = self.target.as_ref().ok().map(|target| Inlet {
            peer: Arc::clone(&self.peer.proof),
            declared: target.declared,
        });
        let source = self.peer.id().clone();
        let exchange = Exchange::begin(&self.shared, source, arrived).over(inlet);
        let target = match &self.target {
            Ok(target) => target,
            // A fault of the request comes first, as it does where the target is known: no answer tells the two apart.
            Err(refusal) => {
                let refusal = exchange.malformed().unwrap_or_else(|| refusal.clone());
                // The target may be known a moment later: a connection that was refused for it is not kept.
                return Ok(refusal::closing(exchange.refuse(&refusal, "", "")));
            }
        };
        if let Err(error) = self.may_begin() {
            let refusal = error.refusal();
            let answer =
                exchange.refuse(&refusal, &target.service.to_string(), target.port.as_str());
            return Ok(refusal::closing(answer));
        }
        let mut permitted = match exchange.judge(&target.service_port()) {
            Ok(permitted) => permitted,
            Err(answer) => return Ok(*answer),
        };
        let own: &SpiffeId = &self.shared.config.own_id;
        let headers = &mut permitted.head_mut().headers;
        headers::write_client_cert(headers, own, self.peer.id(), &self.peer.leaf_sha256);
        // An HTTP port of the workload always speaks one version.
        let version = version_of(target.declared.protocol).unwrap_or(Version::Http1);
        permitted
            .forward(Route::App {
                address: target.app,
                version,
            })
            .await
    }
}

impl InboundHttp {
    /// Asked at the start of each request: its connection may have outlived an SVID.
    fn may_begin(&self) -> Result<(), TlsError> {
        let now = Timestamp::now();
        if self.peer.is_expired(now) {
            self.shared.metrics.requests_on_expired_connection.inc();
        }
        self.peer.may_begin(&self.shared.current.load(), now)
    }
}

/// Handshakes, with bounds on how many at a time and how long.
async fn shake_hands(
    shared: &Shared,
    stream: TcpStream,
    from: SocketAddr,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    let Some(_place) = shared.handshakes.enter(from.ip()).await else {
        shared.metrics.handshake_failures.inc();
        return None;
    };
    match Box::pin(shared.tls.accept(stream)).await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            shared.metrics.handshake_failures.inc();
            if error.is_of_the_peer() {
                let refusal = error.refusal();
                log_refusal(
                    shared,
                    RefusedPeer::Unauthenticated(from.ip()),
                    &refusal,
                    "",
                    "",
                );
            }
            None
        }
    }
}

fn log_refusal(
    shared: &Shared,
    source: RefusedPeer<'_>,
    refusal: &Refusal,
    service: &str,
    port: &str,
) {
    let decision = shared.decisions.refuse(&Refused {
        side: Side::Server,
        source,
        service,
        port,
        method: "",
        path: "",
        host: "",
        reason: refusal.reason,
        revision: shared.current.load().revision,
        detail: &refusal.detail,
    });
    if shared.config.access_log {
        let source = match source {
            RefusedPeer::Verified(id) => id.to_string(),
            RefusedPeer::Unauthenticated(address) => address.to_string(),
        };
        let mut record = Record::new(Side::Server, source, format!("{service}:{port}"));
        record.refused = Some((decision, refusal.reason));
    }
}

/// Resolves when the connection should take no further request: the process drains, an SVID is about to expire, or its time is over.
async fn end_of_requests(shared: Arc<Shared>, peer: Arc<Peer>, life: Option<Duration>) {
    let left = Timestamp::now().duration_until(peer.expires());
    let left = Duration::try_from(left)
        .unwrap_or_default()
        .saturating_sub(BEFORE_EXPIRY)
        .min(life.unwrap_or(Duration::MAX));
    tokio::select! {
        () = shared.closing() => {}
        () = tokio::time::sleep(left) => {}
    }
}

async fn cut(registered: Option<Registered>) {
    match registered {
        Some(registered) => {
            registered.cut().await;
        }
        None => std::future::pending().await,
    }
}

/// How long whoever is refused as a whole may keep a place: long enough to be told why.
const REFUSED_LIFE: Duration = Duration::from_secs(10);
/// The client's side stops earlier, so that this rarely surprises anyone.
const BEFORE_EXPIRY: Duration = Duration::from_secs(2);
