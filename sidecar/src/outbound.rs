//! The spine of the outbound side: target, registration, early verdict, endpoint.
//!
//! The workload's own sidecar refuses what policy does not allow, so that the answer is early and clear. That no endpoint can be
//! reached, or that none proves its identity, is never told as a refusal.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_catalog::{Port, Protocol};
use weft_identity::{DnsLabel, ServiceName, ServicePort, parse_mesh_host};
use weft_policy::Reason;

use crate::access_log::Record;
use crate::connections::{Carries, InTurn, Live};
use crate::decisions::{Peer as RefusedPeer, Refused};
use crate::enforce::{self, Admission, Permit, Refusal, Side};
use crate::http::exchange::{Exchange, Route};
use crate::http::guard::IDLE_TIMEOUT;
use crate::http::server::{self, Aborted, Arrived, Handler, Sniffed};
use crate::http::upgrade::Upgrade;
use crate::http::{Body, Version};
use crate::http1;
use crate::http2::{self, Http2, Role};
use crate::listener::{Place, Shared};
use crate::stream::Stream;
use crate::tcp::{self, Reset as _};
use crate::upstream::version_of;
use crate::view::{Enforced, OutboundService};

/// Which listener a connection came in by.
#[derive(Clone)]
pub enum Entrance {
    /// It names one service port.
    Upstream(ServicePort),
    /// Each request names its own.
    Proxy,
}

/// Serves one connection of the application.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream, entrance: Entrance, place: Arc<Place>) {
    let protocol = match &entrance {
        Entrance::Proxy => Some(Protocol::Http),
        Entrance::Upstream(target) => declared(&shared.current.load(), target),
    };
    match (protocol, entrance) {
        (Some(Protocol::Tcp), Entrance::Upstream(target)) => {
            let side = http1::Side::new(Stream::Tcp(stream));
            Box::pin(serve_tcp(shared, side, target)).await
        }
        (protocol, entrance) => {
            // What no rule opens has no known protocol: it is refused in the words that the client speaks.
            let patience = if protocol.is_some() {
                IDLE_TIMEOUT
            } else {
                UNKNOWN_PROTOCOL_TIMEOUT
            };
            let mut side = http1::Side::new(Stream::Tcp(stream));
            match (server::sniff(&mut side, patience).await, entrance) {
                (Some(Sniffed::Http(version)), Entrance::Upstream(target))
                    if let Some(protocol) = protocol.filter(|protocol| protocol.is_http()) =>
                {
                    match version {
                        Version::Http1 => Box::pin(serve_http1(shared, side, target, place)).await,
                        Version::Http2 => {
                            Box::pin(serve_http2(shared, side, target, place, protocol)).await
                        }
                    }
                }
                (Some(Sniffed::Http(version)), entrance) => {
                    let handler = Arc::new(OutboundHttp {
                        shared: Arc::clone(&shared),
                        entrance,
                    });
                    let ending = {
                        let shared = Arc::clone(&shared);
                        async move { shared.closing().await }
                    };
                    Box::pin(server::serve(
                        side,
                        version,
                        shared.terms(place),
                        handler,
                        ending,
                    ))
                    .await;
                }
                (_, Entrance::Upstream(target)) if protocol.is_none() => {
                    Box::pin(serve_tcp(shared, side, target)).await;
                }
                (Some(Sniffed::Opaque), Entrance::Upstream(target)) => {
                    refuse_connection(&shared, &Refusal::new(Reason::WrongProtocol), &target);
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
    target: ServicePort,
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
        let served = serve_http1(
            Arc::clone(&shared),
            side,
            target.clone(),
            Arc::clone(&place),
        );
        shared.tasks.connection("http/2 stream", served);
    }
}

/// Requests of HTTP/1.1.
pub(crate) async fn serve_http1(
    shared: Arc<Shared>,
    side: http1::Side,
    target: ServicePort,
    place: Arc<Place>,
) {
    let _place = place;
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
    };
    let way = http1::Way::out(&shared, target);
    http1::Connection::new(way, side, terms).serve().await;
}

/// Bytes that the mesh does not look into.
async fn serve_tcp(shared: Arc<Shared>, stream: http1::Side, target: ServicePort) {
    let registered = shared.connections.register(Live {
        side: Side::Client,
        source: shared.config.own_id.clone(),
        peer: None,
        declared: None,
        target: target.clone(),
        carries: Carries::Bytes,
    });
    let (permit, service) = match admit_tcp(&shared, &target) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            stream.reset();
            return refuse_connection(&shared, &refusal, &target);
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
    let _record = record(&shared, &target, &permit);
    let ended = tcp::splice_sides(stream, http1::Side::new(upstream), &permit, &registered).await;
    tracing::debug!(?ended, %target, "an outbound connection ended");
}

/// Judges and routes the requests of one connection.
struct OutboundHttp {
    shared: Arc<Shared>,
    entrance: Entrance,
}

impl Handler for OutboundHttp {
    async fn handle(self: Arc<Self>, arrived: Arrived) -> Result<Response<Body>, Aborted> {
        let source = self.shared.config.own_id.clone();
        let exchange = Exchange::begin(&self.shared, source, arrived);
        let target = match &self.entrance {
            Entrance::Upstream(target) => target.clone(),
            Entrance::Proxy => match named(&self.shared.current.load(), &exchange) {
                Some(target) => target,
                None => {
                    let host = exchange.authority().unwrap_or_default().to_owned();
                    // What cannot be read names nobody; that is its fault, not the name's.
                    let malformed = exchange.malformed();
                    let refusal = malformed.unwrap_or(Refusal::new(Reason::UnknownTarget));
                    return Ok(exchange.refuse(&refusal, &host, ""));
                }
            },
        };
        let known = {
            let enforced = self.shared.current.load();
            enforced
                .outbound
                .get(&target.service)
                .cloned()
                .zip(declared(&enforced, &target))
        };
        match known {
            Some((service, Protocol::Tcp)) => {
                Ok(Box::pin(self.connect(exchange, service, target)).await)
            }
            Some((service, protocol)) => {
                let proxied_connect =
                    exchange.upgrade.is_connect() && matches!(self.entrance, Entrance::Proxy);
                let version = version_of(protocol).filter(|_| !proxied_connect);
                let Some(version) = version else {
                    return Ok(refuse(
                        &exchange,
                        &Refusal::new(Reason::WrongProtocol),
                        &target,
                    ));
                };
                match exchange.judge(&target) {
                    Ok(permitted) => {
                        permitted
                            .forward(Route::Mesh {
                                service,
                                target,
                                version,
                            })
                            .await
                    }
                    Err(answer) => Ok(*answer),
                }
            }
            // Unknown and forbidden answer alike: with the verdict.
            None => match exchange.judge(&target) {
                Ok(mut permitted) => {
                    Ok(permitted.fail(StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE))
                }
                Err(answer) => Ok(*answer),
            },
        }
    }
}

impl OutboundHttp {
    /// CONNECT to a port of bytes: the mesh opens the tunnel itself.
    async fn connect(
        &self,
        exchange: Exchange,
        service: Arc<OutboundService>,
        target: ServicePort,
    ) -> Response<Body> {
        if exchange.upgrade != Upgrade::Connect {
            return refuse(&exchange, &Refusal::new(Reason::WrongProtocol), &target);
        }
        let mut permitted = match exchange.judge(&target) {
            Ok(permitted) => permitted,
            Err(answer) => return *answer,
        };
        let Ok(named) = self.shared.named(&target) else {
            return permitted.fail(StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE);
        };
        let outlets = &self.shared.outlets;
        let Ok((upstream, peer, pending)) = outlets.connect(&service.view.endpoints, &named).await
        else {
            return permitted.fail(StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE);
        };
        permitted.verified(Arc::clone(&peer.proof));
        if peer.proof.admit(&self.shared.current.load()).is_err() {
            return permitted.fail(StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE);
        }
        permitted.connect_to(upstream, pending)
    }
}

fn admit_tcp(
    shared: &Shared,
    target: &ServicePort,
) -> Result<(Permit, Arc<OutboundService>), Refusal> {
    let enforced = shared.current.load();
    let source = &shared.config.own_id;
    match enforce::admit_connection(
        &enforced,
        enforce::Parties {
            side: Side::Client,
            source,
            target,
        },
        Timestamp::now(),
    ) {
        Admission::Allow(permit) => {
            let service = enforced
                .outbound
                .get(&target.service)
                .ok_or_else(|| Refusal::new(Reason::NoRule))?;
            Ok((permit, Arc::clone(service)))
        }
        // Nothing here could meet HTTP conditions.
        Admission::NeedsHttp => Err(Refusal::new(Reason::NoRule)),
        Admission::Deny(refusal) => Err(refusal),
    }
}

/// The service port that a request to the proxy names: `<service>.<namespace>[.<trust domain>][:<port>]`.
fn named(enforced: &Enforced, exchange: &Exchange) -> Option<ServicePort> {
    let authority = exchange.authority()?.to_ascii_lowercase();
    let (host, number) = match authority.rsplit_once(':') {
        Some((host, number)) => (host, number.parse().ok()?),
        None => (authority.as_str(), DEFAULT_PORT),
    };
    let service = parse_mesh_host(host, &enforced.trust_domain)?;
    let port = port_of(enforced, &service, |port| port.port == number);
    let name: DnsLabel = match port {
        Some(port) => port.name.clone(),
        // A port that is not seen is refused under its number.
        None => number.to_string().parse().ok()?,
    };
    Some(ServicePort {
        service,
        port: name,
    })
}

fn declared(enforced: &Enforced, target: &ServicePort) -> Option<Protocol> {
    port_of(enforced, &target.service, |port| port.name == target.port).map(|port| port.protocol)
}

fn port_of<'e>(
    enforced: &'e Enforced,
    service: &ServiceName,
    is_it: impl Fn(&Port) -> bool,
) -> Option<&'e Port> {
    enforced
        .outbound
        .get(service)?
        .view
        .ports
        .iter()
        .find(|port| is_it(port))
}

fn refuse(exchange: &Exchange, refusal: &Refusal, target: &ServicePort) -> Response<Body> {
    exchange.refuse(refusal, &target.service.to_string(), target.port.as_str())
}

fn refuse_connection(shared: &Shared, refusal: &Refusal, target: &ServicePort) {
    let decision = shared.decisions.refuse(&Refused {
        side: Side::Client,
        source: RefusedPeer::Verified(&shared.config.own_id),
        service: &target.service.to_string(),
        port: target.port.as_str(),
        method: "",
        path: "",
        host: "",
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

fn record(shared: &Shared, target: &ServicePort, permit: &Permit) -> Option<Record> {
    shared.config.access_log.then(|| {
        let mut record = Record::new(
            Side::Client,
            shared.config.own_id.to_string(),
            target.to_string(),
        );
        record.rule = permit.rule().to_string();
        record
    })
}

const UNREACHABLE: &str = "no endpoint of the service can be reached";
const DEFAULT_PORT: u16 = 80;
/// An application's connection is not ended for its age.
const LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long the first bytes of a connection to an unknown port are waited for.
const UNKNOWN_PROTOCOL_TIMEOUT: Duration = Duration::from_secs(1);
