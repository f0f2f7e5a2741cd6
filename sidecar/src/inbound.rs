//! The spine of the inbound side: handshake, target, registration, verdict, application.
//!
//! This side is the authority. The verdict is about the service that the peer's server name names, never about `Host`.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use weft_catalog::Protocol;
use weft_identity::ServicePort;
use weft_policy::Reason;

use crate::access_log::Record;
use crate::connections::{Carries, InTurn, Live, Registered};
use crate::decisions::{DecisionId, Peer as RefusedPeer, Refused};
use crate::enforce::{self, Admission, Permit, Refusal, Target};
use crate::flows::Judged;
use crate::http::Version;
use crate::http1::{self, Side};
use crate::http2::{self, Http2};
use crate::listener::{Place, Shared};
use crate::mux::{self, Carried, Mux, Role};
use crate::read_ahead::ReadAhead;
use crate::stream::Stream;
use crate::tcp::{self, Reset as _};
use crate::tls::{ALPN_HTTP1, ALPN_HTTP2, ALPN_MUX, ALPN_TCP, Peer};
use crate::view::Enforced;

/// Serves one connection that the inbound listener accepted.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, place: Arc<Place>) {
    let Some((mut stream, peer)) = Box::pin(shake_hands(&shared, stream, from)).await else {
        return;
    };
    let connection = stream.get_ref().1;
    let peer = Arc::new(peer);
    if connection.alpn_protocol() == Some(ALPN_MUX) {
        stream
            .get_mut()
            .1
            .set_buffer_limit(Some(mux::WRITTEN_AT_ONCE));
        return Box::pin(serve_streams(shared, stream, peer, from, place)).await;
    }
    let speaks = Speaks::of(connection.alpn_protocol());
    let server_name = connection.server_name().map(ToOwned::to_owned);
    let inbound = Inbound {
        shared,
        stream: Stream::TlsServer(Box::new(stream)),
        peer,
        from,
        place,
    };
    inbound.serve(server_name.as_deref(), speaks).await;
}

/// Serves the streams of one shared connection, each like a connection of its own.
pub(crate) async fn serve_streams<S>(
    shared: Arc<Shared>,
    stream: S,
    peer: Arc<Peer>,
    from: SocketAddr,
    place: Arc<Place>,
) where
    S: AsyncBufRead + AsyncWrite + Send + Unpin + 'static,
{
    let registered = shared.connections.register_peer(Arc::clone(&peer.proof));
    if peer.proof.admit(&shared.current.load()).is_err() {
        return;
    }
    let mux = Mux::new(Role::Server);
    mux::start(&shared, &mux, Box::new(stream));
    let mut ending = pin!(end_of_requests(
        Arc::clone(&shared),
        Arc::clone(&peer),
        None
    ));
    let mut is_ending = false;
    loop {
        let accepted = tokio::select! {
            accepted = mux.accept() => accepted,
            _ = registered.cut() => return mux.abort(),
            () = ending.as_mut(), if !is_ending => {
                is_ending = true;
                mux.go_away();
                continue;
            }
        };
        let Some(accepted) = accepted else { return };
        let inbound = Inbound {
            shared: Arc::clone(&shared),
            stream: Stream::Mux(accepted.stream),
            peer: Arc::clone(&peer),
            from,
            place: Arc::clone(&place),
        };
        let speaks = match accepted.carried {
            Carried::Http1 => Speaks::Http(Version::Http1),
            Carried::Tcp => Speaks::Opaque,
        };
        shared.tasks.connection("weft/1 stream", async move {
            inbound.serve(Some(&accepted.server_name), speaks).await;
        });
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
    stream: Stream,
    peer: Arc<Peer>,
    from: SocketAddr,
    place: Arc<Place>,
}

impl Inbound {
    async fn serve(self, server_name: Option<&str>, speaks: Speaks) {
        let target = {
            let enforced = self.shared.current.load();
            enforce::inbound_target(&enforced, &self.shared.config, server_name)
        };
        match (target, speaks) {
            (target, Speaks::Http(version))
                if target
                    .as_ref()
                    .is_ok_and(|target| target.declared.protocol.is_http()) =>
            {
                Box::pin(self.http(target, version)).await;
            }
            (Ok(target), Speaks::Opaque) if !target.declared.protocol.is_http() => {
                Box::pin(self.tcp(target)).await
            }
            (Ok(target), Speaks::Unsaid) => match target.declared.protocol {
                Protocol::Tcp | Protocol::Tls => Box::pin(self.tcp(target)).await,
                Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
                    Box::pin(self.http(Ok(target), Version::Http1)).await;
                }
            },
            (Ok(target), Speaks::Http(_) | Speaks::Opaque) => {
                self.refuse(&Refusal::new(Reason::WrongProtocol), Some(&target));
            }
            // Whoever speaks HTTP is told so in HTTP.
            (Err(refusal), Speaks::Http(version)) => {
                Box::pin(self.http(Err(refusal), version)).await
            }
            (Err(refusal), Speaks::Opaque | Speaks::Unsaid) => self.refuse(&refusal, None),
        }
    }

    /// Bytes: judged once, and again whenever policy changes.
    async fn tcp(self, target: Target) {
        let registered = self.register(&target, Carries::Bytes);
        // A stream of a shared connection may begin long after its handshake.
        let enforced = self.shared.current.load_full();
        if let Err(error) = self.peer.may_begin(&enforced, Timestamp::now()) {
            return self.refuse(&error.refusal(), Some(&target));
        }
        self.note_trials(&target);
        let permit = match self.admit_bytes(&target) {
            Ok(permit) => permit,
            Err(refusal) => return self.refuse(&refusal, Some(&target)),
        };
        self.count(&target, permit.judged());
        let app = match self.shared.outlets.connect_app(target.app).await {
            Ok(app) => app,
            Err(error) => {
                tracing::warn!(%error, app = %target.app, "the application cannot be reached");
                self.stream.reset();
                return;
            }
        };
        self.shared.metrics.note_learned(&permit);
        let _record = self.record(&target, &permit);
        let ended = tcp::splice(Side::new(self.stream), Side::new(app), &permit, &registered).await;
        if let tcp::Ended::Cut(refusal) = &ended {
            let source = RefusedPeer::Verified(self.peer.id());
            let (service, port) = (target.service.to_string(), target.port.as_str());
            log_refusal(&self.shared, source, refusal, &service, port);
        }
        tracing::debug!(?ended, from = %self.from, "an inbound connection ended");
    }

    /// Requests of HTTP/1.1, also to a target that is not known: each is judged.
    async fn http1(self, target: Result<Target, Refusal>) {
        let in_turn = InTurn::new(true);
        let (registered, is_admitted) = match &target {
            Ok(target) => {
                let registered = self.register(target, Carries::InTurn(Arc::clone(&in_turn)));
                (
                    registered,
                    !matches!(self.admit(target), Admission::Deny(_)),
                )
            }
            Err(_) => {
                let proof = Arc::clone(&self.peer.proof);
                (self.shared.connections.register_peer(proof), false)
            }
        };
        // Whoever no rule names is refused request by request, with an answer, and not for long; what was allowed once is cut when
        // that ends.
        if !is_admitted {
            in_turn.spare_connection();
        }
        let life = life_of(&self.peer, (!is_admitted).then_some(REFUSED_LIFE));
        let terms = http1::connection::Terms {
            registered,
            in_turn,
            heads: self.shared.head_limits(),
            life: Instant::now() + life,
            is_refused: !is_admitted,
            guide: None,
        };
        let way = match target {
            Ok(target) => {
                let inlet = http1::Inlet {
                    peer: Arc::clone(&self.peer),
                    declared: target.declared,
                    app: target.app,
                };
                http1::Way::into_app(&self.shared, target.service_port(), inlet)
            }
            Err(refusal) => http1::Way::nowhere(&self.shared, self.peer.id().clone(), refusal),
        };
        let connection = http1::Connection::new(way, Side::new(self.stream), terms);
        // Nothing goes outside from here.
        let _none = connection.serve().await;
    }

    /// Requests: each is judged.
    async fn http(self, target: Result<Target, Refusal>, version: Version) {
        match version {
            Version::Http1 => Box::pin(self.http1(target)).await,
            Version::Http2 => Box::pin(self.http2(target)).await,
        }
    }

    /// Requests of HTTP/2: each of its streams like a connection of HTTP/1.1.
    async fn http2(self, target: Result<Target, Refusal>) {
        // Whoever no rule names is refused request by request, with an answer, and not for long; what was allowed once is cut when
        // that ends.
        let known = target.as_ref().ok();
        let registered = known.map(|target| self.register(target, Carries::Requests));
        let is_admitted =
            known.is_some_and(|known| !matches!(self.admit(known), Admission::Deny(_)));
        let registered = registered.filter(|_| is_admitted);
        let life = (!is_admitted).then_some(REFUSED_LIFE);
        let shared = self.shared;
        let protocol = target
            .as_ref()
            .map_or(Protocol::Http2, |target| target.declared.protocol);
        let inbound = |stream| Inbound {
            shared: Arc::clone(&shared),
            stream,
            peer: Arc::clone(&self.peer),
            from: self.from,
            place: Arc::clone(&self.place),
        };
        let http2 = Http2::new(http2::Role::Server, shared.http2_limits(protocol));
        let patience = shared.head_limits().time;
        http2::start(&shared, &http2, Side::new(self.stream), patience);
        let mut ending = pin!(end_of_requests(
            Arc::clone(&shared),
            Arc::clone(&self.peer),
            life
        ));
        let mut is_ending = false;
        loop {
            let stream = tokio::select! {
                stream = http2.accept() => stream,
                () = cut(registered.as_ref()) => return http2.abort(),
                () = ending.as_mut(), if !is_ending => {
                    is_ending = true;
                    http2.go_away();
                    continue;
                }
            };
            let Some(stream) = stream else { return };
            let served = inbound(Stream::Http2(stream)).http1(target.clone());
            shared.tasks.connection("http/2 stream", Box::pin(served));
        }
    }

    fn register(&self, target: &Target, carries: Carries) -> Registered {
        self.shared.connections.register(Live {
            side: enforce::Side::Server,
            source: self.peer.id().clone(),
            peer: Some(Arc::clone(&self.peer.proof)),
            target: Some(target.service_port()),
            declared: Some(target.declared),
            carries,
        })
    }

    fn admit(&self, target: &Target) -> Admission {
        let enforced = self.shared.current.load();
        let target_port = target.service_port();
        match self.admit_peer(&enforced, target, &target_port) {
            Ok(parties) => enforce::admit_connection(&enforced, parties, Timestamp::now()),
            Err(refusal) => Admission::Deny(refusal),
        }
    }

    fn admit_bytes(&self, target: &Target) -> Result<Permit, Refusal> {
        let enforced = self.shared.current.load();
        let target_port = target.service_port();
        let parties = self.admit_peer(&enforced, target, &target_port)?;
        enforce::admit_bytes(&enforced, parties, Timestamp::now())
    }

    /// Whether the peer may be spoken with, and the port is declared as before; then the question to put to policy.
    fn admit_peer<'a>(
        &'a self,
        enforced: &Enforced,
        target: &Target,
        target_port: &'a ServicePort,
    ) -> Result<enforce::Parties<'a>, Refusal> {
        self.peer.proof.admit(enforced)?;
        enforce::admit_port(enforced, target_port, target.declared)?;
        Ok(enforce::Parties {
            side: enforce::Side::Server,
            source: self.peer.id(),
            target: target_port,
        })
    }

    fn note_trials(&self, target: &Target) {
        let (enforced, target) = (self.shared.current.load(), target.service_port());
        let parties = enforce::Parties {
            side: enforce::Side::Server,
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
        if let Some(target) = target {
            self.count(target, Judged::Denied(refusal.reason));
        }
        let source = RefusedPeer::Verified(self.peer.id());
        let decision = log_refusal(&self.shared, source, refusal, &service, port);
        self.stream.refuse(decision);
    }

    /// A connection counts once, by the verdict that it began with.
    fn count(&self, target: &Target, judged: Judged<'_>) {
        let target = target.service_port();
        self.shared
            .flows
            .connection(self.peer.id(), &target, judged);
    }

    fn record(&self, target: &Target, permit: &Permit) -> Option<Record> {
        self.shared.config.access_log.then(|| {
            let mut record = Record::new(
                enforce::Side::Server,
                self.peer.id().to_string(),
                target.service_port().to_string(),
            );
            record.permitted_by(permit);
            record
        })
    }
}

/// Handshakes, with bounds on how many at a time and how long.
async fn shake_hands(
    shared: &Shared,
    stream: TcpStream,
    from: SocketAddr,
) -> Option<(TlsStream<ReadAhead>, Peer)> {
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
) -> DecisionId {
    let decision = shared.decisions.refuse(&Refused {
        side: enforce::Side::Server,
        source,
        service,
        port,
        method: "",
        path: "",
        host: "",
        upgrade: "",
        reason: refusal.reason,
        revision: shared.current.load().revision,
        detail: &refusal.detail,
    });
    if shared.config.access_log {
        let source = match source {
            RefusedPeer::Verified(id) => id.to_string(),
            RefusedPeer::Unauthenticated(address) => address.to_string(),
        };
        let mut record = Record::new(enforce::Side::Server, source, format!("{service}:{port}"));
        record.refused = Some((decision, refusal.reason));
    }
    decision
}

/// Resolves when the connection should take no further request: the process drains, an SVID is about to expire, or its time is over.
async fn end_of_requests(shared: Arc<Shared>, peer: Arc<Peer>, life: Option<Duration>) {
    tokio::select! {
        () = shared.closing() => {}
        () = tokio::time::sleep(life_of(&peer, life)) => {}
    }
}

/// How long a connection takes requests: until a moment before an SVID expires.
fn life_of(peer: &Peer, at_most: Option<Duration>) -> Duration {
    let left = Timestamp::now().duration_until(peer.expires());
    Duration::try_from(left)
        .unwrap_or_default()
        .saturating_sub(BEFORE_EXPIRY)
        .min(at_most.unwrap_or(Duration::MAX))
}

async fn cut(registered: Option<&Registered>) {
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
