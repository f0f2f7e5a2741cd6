//! The spine of the outbound side: target, registration, early verdict, endpoint.
//!
//! The workload's own sidecar refuses what policy does not allow, so that the answer is early and clear. That no endpoint can be
//! reached, or that none proves its identity, is never told as a refusal.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_catalog::{HostName, Protocol};
use weft_identity::ServicePort;
use weft_policy::Reason;

use crate::access_log::Record;
use crate::connections::{Carries, InTurn, Live};
use crate::decisions::{Peer as RefusedPeer, Refused};
use crate::enforce::{self, Permit, Refusal, Side};
use crate::external;
use crate::flows::Judged;
use crate::http::sniff::{Sniffed, sniff};
use crate::http::{IDLE_TIMEOUT, Version};
use crate::http1;
use crate::http1::proxy::{Guide, declared};
use crate::http2::{self, Http2, Role};
use crate::listener::{Place, Shared};
use crate::stream::Stream;
use crate::tcp::{self, Reset as _};
use crate::view::OutboundService;

/// Which listener a connection came in by.
#[derive(Clone)]
pub enum Entrance {
    /// It names one service port.
    Upstream(ServicePort),
    /// Each request names its own.
    Proxy,
    /// It came through a CONNECT for this host of an external service, whose requests follow.
    Inside(ServicePort, HostName),
}

/// Serves one connection of the application.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream, entrance: Entrance, place: Arc<Place>) {
    let side = http1::Side::new(Stream::Tcp(stream));
    serve_side(shared, side, entrance, place).await;
}

async fn serve_side(
    shared: Arc<Shared>,
    mut side: http1::Side,
    entrance: Entrance,
    place: Arc<Place>,
) {
    let protocol = match &entrance {
        Entrance::Proxy => Some(Protocol::Http),
        Entrance::Upstream(target) | Entrance::Inside(target, _) => {
            declared(&shared.current.load(), target)
        }
    };
    match (protocol, entrance) {
        (Some(Protocol::Tcp | Protocol::Tls), Entrance::Upstream(target)) => {
            let is_outside = external::port(&shared.current.load(), &target).is_some();
            match is_outside {
                true => Box::pin(external::serve_opaque(shared, side, target)).await,
                false => Box::pin(serve_tcp(shared, side, target)).await,
            }
        }
        (protocol, entrance) => {
            // What no rule opens has no known protocol: it is refused in the words that the client speaks.
            let patience = if protocol.is_some() {
                IDLE_TIMEOUT
            } else {
                UNKNOWN_PROTOCOL_TIMEOUT
            };
            match (sniff(&mut side, patience).await, entrance) {
                (Some(Sniffed::Http(Version::Http1)), entrance) => {
                    Box::pin(serve_http1(shared, side, entrance, place)).await;
                }
                (Some(Sniffed::Http(Version::Http2)), entrance) => {
                    // Trailers of the proxy's messages must be announced: their targets differ.
                    let protocol = protocol.unwrap_or(Protocol::Http2);
                    Box::pin(serve_http2(shared, side, entrance, place, protocol)).await;
                }
                (_, Entrance::Upstream(target)) if protocol.is_none() => {
                    Box::pin(serve_tcp(shared, side, target)).await;
                }
                (
                    Some(Sniffed::Opaque),
                    Entrance::Upstream(target) | Entrance::Inside(target, _),
                ) => {
                    refuse_new(&shared, &Refusal::new(Reason::WrongProtocol), &target);
                }
                (_, _) => {}
            }
        }
    }
}

/// Requests of HTTP/2: each of its streams like a connection of HTTP/1.1.
async fn serve_http2(
    shared: Arc<Shared>,
    side: http1::Side,
    entrance: Entrance,
    place: Arc<Place>,
    protocol: Protocol,
) {
    let http2 = Http2::new(Role::Server, shared.http2_limits(protocol));
    http2::start(&shared, &http2, side, shared.head_limits().time);
    let mut closing = pin!(shared.closing());
    let mut is_closing = false;
    loop {
        let stream = tokio::select! {
            stream = http2.accept() => stream,
            () = closing.as_mut(), if !is_closing => {
                is_closing = true;
                http2.go_away();
                continue;
            }
        };
        let Some(stream) = stream else { return };
        let side = http1::Side::new(Stream::Http2(stream));
        let (of_stream, place) = (Arc::clone(&shared), Arc::clone(&place));
        let served = serve_http1(of_stream, side, entrance.clone(), place);
        shared.tasks.connection("http/2 stream", Box::pin(served));
    }
}

/// Requests of HTTP/1.1.
pub(crate) async fn serve_http1(
    shared: Arc<Shared>,
    side: http1::Side,
    entrance: Entrance,
    place: Arc<Place>,
) {
    let (target, inside, guide) = match entrance {
        Entrance::Upstream(target) => (Some(target), None, None),
        Entrance::Inside(target, host) => (Some(target), Some(host), None),
        Entrance::Proxy => (None, None, Some(Guide::new(&shared))),
    };
    let in_turn = InTurn::new(false);
    let registered = shared.connections.register(Live {
        side: Side::Client,
        source: shared.config.own_id.clone(),
        peer: None,
        declared: None,
        target: target.clone(),
        carries: Carries::InTurn(Arc::clone(&in_turn)),
    });
    let terms = http1::connection::Terms {
        registered,
        in_turn,
        heads: shared.head_limits(),
        life: Instant::now() + LIFE,
        is_refused: false,
        guide,
    };
    let way = match (target, inside) {
        (Some(target), Some(host)) => http1::Way::inside(&shared, target, host),
        (Some(target), None) => http1::Way::out(&shared, target),
        (None, _) => http1::Way::unknown(&shared, Refusal::new(Reason::UnknownTarget)),
    };
    let inside = http1::Connection::new(way, side, terms).serve().await;
    if let Some(inside) = inside {
        serve_inside(shared, inside, place).await;
    }
}

/// What follows a CONNECT is served like a connection of its own, once: a type that names itself needs a box.
fn serve_inside(
    shared: Arc<Shared>,
    inside: http1::Inside,
    place: Arc<Place>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let entrance = Entrance::Inside(inside.target, inside.host);
    Box::pin(serve_side(shared, inside.down, entrance, place))
}

/// Bytes that the mesh does not look into.
async fn serve_tcp(shared: Arc<Shared>, stream: http1::Side, target: ServicePort) {
    let registered = shared.connections.register(Live {
        side: Side::Client,
        source: shared.config.own_id.clone(),
        peer: None,
        declared: None,
        target: Some(target.clone()),
        carries: Carries::Bytes,
    });
    let (permit, service) = match admit_tcp(&shared, &target) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            stream.reset();
            return refuse_new(&shared, &refusal, &target);
        }
    };
    let Ok(named) = shared.named(&target) else {
        return stream.reset();
    };
    let connected = Box::pin(shared.outlets.connect(&service.view.endpoints, &named)).await;
    let Ok((upstream, peer, _pending)) = connected else {
        tracing::warn!(%target, "no endpoint of the service can be reached");
        stream.reset();
        return;
    };
    registered.verified(Arc::clone(&peer.proof));
    if peer.proof.admit(&shared.current.load()).is_err() {
        stream.reset();
        return;
    }
    shared.metrics.note_learned(&permit);
    let _record = record(&shared, &target, &permit);
    let ended = tcp::splice(stream, http1::Side::new(upstream), &permit, &registered).await;
    match ended {
        tcp::Ended::Refused(decision) => shared.decisions.told_by_peer(decision, &target),
        tcp::Ended::Cut(refusal) => refuse_connection(&shared, &refusal, &target),
        tcp::Ended::Closed(_) | tcp::Ended::Idle | tcp::Ended::Failed(_) => {
            tracing::debug!(?ended, %target, "an outbound connection ended");
        }
    }
}

fn admit_tcp(
    shared: &Shared,
    target: &ServicePort,
) -> Result<(Permit, Arc<OutboundService>), Refusal> {
    let enforced = shared.current.load();
    let source = &shared.config.own_id;
    let parties = enforce::Parties {
        side: Side::Client,
        source,
        target,
    };
    let permit = enforce::admit_bytes(&enforced, parties, Timestamp::now())?;
    let service = enforced
        .outbound
        .get(&target.service)
        .ok_or_else(|| Refusal::new(Reason::NoRule))?;
    Ok((permit, Arc::clone(service)))
}

/// Refuses what no server gets to see: so it is counted here.
pub(crate) fn refuse_new(shared: &Shared, refusal: &Refusal, target: &ServicePort) {
    let judged = Judged::Denied(refusal.reason);
    shared
        .flows
        .connection(&shared.config.own_id, target, judged);
    refuse_connection(shared, refusal, target);
}

pub(crate) fn refuse_connection(shared: &Shared, refusal: &Refusal, target: &ServicePort) {
    let decision = shared.decisions.refuse(&Refused {
        side: Side::Client,
        source: RefusedPeer::Verified(&shared.config.own_id),
        service: &target.service.to_string(),
        port: target.port.as_str(),
        method: "",
        path: "",
        host: "",
        upgrade: "",
        reason: refusal.reason,
        revision: shared.current.load().revision,
        detail: &refusal.detail,
    });
    if shared.config.access_log {
        let source = shared.config.own_id.to_string();
        let mut record = Record::new(Side::Client, source, target.to_string());
        record.refused = Some((decision, refusal.reason));
    }
}

pub(crate) fn record(shared: &Shared, target: &ServicePort, permit: &Permit) -> Option<Record> {
    shared.config.access_log.then(|| {
        let mut record = Record::new(
            Side::Client,
            shared.config.own_id.to_string(),
            target.to_string(),
        );
        record.permitted_by(permit);
        record
    })
}

/// An application's connection is not ended for its age.
const LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long the first bytes of a connection to an unknown port are waited for.
const UNKNOWN_PROTOCOL_TIMEOUT: Duration = Duration::from_secs(1);
