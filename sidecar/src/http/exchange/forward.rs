//! The way of a permitted request to its upstream, and of the response back.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version as HttpVersion, request, response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_identity::ServicePort;
use weft_policy::Reason;

use super::Exchange;
use crate::access_log::Record;
use crate::connections::Registered;
use crate::enforce::{Permit, Refusal, Side};
use crate::http::client::await_continue;
use crate::http::refusal;
use crate::http::server::Aborted;
use crate::http::upgrade::{self, Tunnel, Upgrade};
use crate::http::{Body, Kept, Version, headers};
use crate::metrics::SideLabel;
use crate::proof::Proof;
use crate::tcp::{self, Reset};
use crate::upstream::{Lease, Unreachable};
use crate::view::OutboundService;

/// An exchange that policy permits.
pub struct Permitted {
    pub(super) exchange: Exchange,
    pub(super) registered: Arc<Registered>,
    pub(super) permit: Permit,
    pub(super) record: Option<Record>,
}

/// Where a permitted request goes.
pub enum Route {
    /// To an endpoint of a service.
    Mesh {
        service: Arc<OutboundService>,
        target: ServicePort,
        version: Version,
    },
    /// To the application beside this sidecar.
    App {
        address: SocketAddr,
        version: Version,
    },
}

impl Permitted {
    /// The request's head, for what a side adds to it.
    pub fn head_mut(&mut self) -> &mut request::Parts {
        &mut self.exchange.head
    }

    /// The other end is verified now; check it afterwards.
    pub fn verified(&self, peer: Arc<Proof>) {
        self.registered.verified(peer);
    }

    /// Answers that the request could not be delivered.
    pub fn fail(&mut self, code: StatusCode, why: &'static str) -> Response<Body> {
        self.note_status(code);
        self.exchange.fail(code, why)
    }

    /// Answers a CONNECT with 200 and copies between the client and a connection that was made for it, which `kept` belongs to.
    pub fn connect_to<U, K>(mut self, upstream: U, kept: K) -> Response<Body>
    where
        U: AsyncRead + AsyncWrite + Reset + Send + Unpin + 'static,
        K: Send + 'static,
    {
        let Some(downstream) = self.exchange.become_tunnel() else {
            return self.fail(StatusCode::NOT_IMPLEMENTED, "CONNECT is not possible here");
        };
        self.note_status(StatusCode::OK);
        let (registered, permit, record) = (self.registered, self.permit, self.record);
        self.exchange.shared.tasks.connection(
            "tunnel",
            Box::pin(async move {
                let _kept = (kept, record);
                if let Some(downstream) = downstream.await {
                    tcp::splice(downstream, upstream, &permit, &registered).await;
                }
            }),
        );
        Response::new(Body::empty())
    }

    /// Passes the request on and its response back, unless it is cut meanwhile.
    pub async fn forward(self, route: Route) -> Result<Response<Body>, Aborted> {
        let registered = Arc::clone(&self.registered);
        tokio::select! {
            biased;
            _ = registered.cut() => Err(Aborted),
            response = Box::pin(self.pass(route)) => Ok(response),
        }
    }

    async fn pass(mut self, route: Route) -> Response<Body> {
        let side = match self.exchange.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        self.exchange
            .shared
            .metrics
            .requests
            .get_or_create(&SideLabel { side })
            .inc();
        let version = route.version();
        let Some(request) = self.request(version) else {
            return self.fail(
                StatusCode::NOT_IMPLEMENTED,
                "the upgrade is not possible over HTTP/2",
            );
        };
        match self.send(request, &route).await {
            Ok((lease, response)) => self.respond(lease, response),
            Err(Undelivered::Unreachable) => self.fail(
                StatusCode::SERVICE_UNAVAILABLE,
                "no endpoint of the service can be reached",
            ),
            Err(Undelivered::NoResponse) => self.no_response(),
        }
    }

    /// The request as the upstream gets it; none if its protocol cannot carry the upgrade.
    fn request(&mut self, version: Version) -> Option<Request<Body>> {
        let placeholder = Request::new(()).into_parts().0;
        let mut head = std::mem::replace(&mut self.exchange.head, placeholder);
        // Refusals still want to know what was asked.
        self.exchange.head.method = head.method.clone();
        self.exchange.head.uri = head.uri.clone();
        if headers::is_grpc(&head.headers)
            && let Some(kind) = head.headers.get(http::header::CONTENT_TYPE)
        {
            self.exchange
                .head
                .headers
                .insert(http::header::CONTENT_TYPE, kind.clone());
        }
        match (&self.exchange.upgrade, version) {
            (Upgrade::None, Version::Http1) => headers::target_for_http1(&mut head),
            (Upgrade::None, Version::Http2) => headers::target_for_http2(&mut head).ok()?,
            (Upgrade::To(protocol), Version::Http1) => {
                headers::target_for_http1(&mut head);
                upgrade::write(&mut head.headers, protocol);
            }
            (Upgrade::Connect, Version::Http1) => head.version = HttpVersion::HTTP_11,
            (Upgrade::ExtendedConnect(_) | Upgrade::Ambiguous, _)
            | (Upgrade::To(_) | Upgrade::Connect, Version::Http2) => return None,
        }
        let content = self.exchange.content.take();
        let has_content = content
            .as_ref()
            .is_some_and(|content| !http_body::Body::is_end_stream(content));
        if version == Version::Http1 && has_content && !head.headers.contains_key(CONTENT_LENGTH) {
            // Of some methods hyper would take the content away, unseen, where nothing says that there is one.
            let chunked = HeaderValue::from_static("chunked");
            head.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let body = content.map_or_else(Body::empty, |content| {
            Body::passing(content, &self.registered)
        });
        let mut request = Request::from_parts(head, body);
        if version == Version::Http1 {
            await_continue(&mut request);
        }
        Some(request)
    }

    /// Sends the request, never over a connection whose SVIDs have expired. It is sent again only when nothing of it left, or when it is
    /// bodyless and idempotent (RFC 9110 §9.2.2) and was lost in a way that allows it without a route's word.
    async fn send(
        &self,
        mut request: Request<Body>,
        route: &Route,
    ) -> Result<(Lease, Response<Incoming>), Undelivered> {
        let mut repeatable = is_repeatable(&request).then(|| request_copy(&request));
        for _ in 0..MOST_SENDS {
            let mut lease = self.lease(route).await?;
            if lease.is_expired() {
                let metrics = &self.exchange.shared.metrics;
                metrics.requests_on_expired_connection.inc();
                continue;
            }
            let error = match lease.sender.send(request, &self.permit).await {
                Ok(response) => return Ok((lease, response)),
                Err(error) => error,
            };
            tracing::debug!(error = %error.source, reused = lease.reused, "no response from the upstream");
            let may_repeat = error.may_repeat(lease.reused);
            request = match (error.unsent, repeatable.take()) {
                (Some(unsent), _) => *unsent,
                (None, Some(head)) if may_repeat => Request::from_parts(head, Body::empty()),
                (None, _) => return Err(Undelivered::NoResponse),
            };
        }
        Err(Undelivered::NoResponse)
    }

    async fn lease(&self, route: &Route) -> Result<Lease, Undelivered> {
        let upstreams = &self.exchange.shared.upstreams;
        let lease = match route {
            Route::Mesh {
                service,
                target,
                version,
            } => {
                upstreams
                    .lease(&service.view.endpoints, target, *version)
                    .await?
            }
            Route::App { address, version } => {
                match upstreams.lease_app(*address, *version).await {
                    Ok(lease) => lease,
                    Err(error) => {
                        tracing::debug!(%error, %address, "the application cannot be reached");
                        return Err(Undelivered::Unreachable);
                    }
                }
            }
        };
        if let Some(peer) = lease.peer() {
            self.registered.verified(Arc::clone(&peer.proof));
            let enforced = self.exchange.shared.current.load();
            let admitted = peer.proof.admit(&enforced);
            admitted.map_err(|_| Undelivered::Unreachable)?;
        }
        Ok(lease)
    }

    fn respond(mut self, lease: Lease, response: Response<Incoming>) -> Response<Body> {
        let asked_connect =
            self.exchange.upgrade == Upgrade::Connect && response.status().is_success();
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched || asked_connect {
            return self.open_tunnel(response);
        }
        if let Some(framing) = &self.exchange.framing
            && framing.holds
        {
            framing.control.resume();
        }
        let (mut head, content) = response.into_parts();
        clean_response(&mut head);
        self.note_status(head.status);
        let kept = Kept {
            lease: Some(lease),
            registered: Some(Arc::clone(&self.registered)),
            open: self
                .exchange
                .framing
                .as_mut()
                .and_then(|framing| framing.open.take()),
            record: self.record.take(),
        };
        Response::from_parts(head, Body::passing(content, &self.registered).keeping(kept))
    }

    /// Copies between both sides after 101, or after a CONNECT succeeded.
    fn open_tunnel(mut self, mut response: Response<Incoming>) -> Response<Body> {
        let protocol = self.exchange.upgrade.protocol().map(ToOwned::to_owned);
        let asked = protocol.is_some() || self.exchange.upgrade == Upgrade::Connect;
        let downstream = asked.then(|| self.exchange.become_tunnel()).flatten();
        let Some(downstream) = downstream else {
            // A response that switches without being asked leaves no way to go on.
            return refusal::closing(self.fail(
                StatusCode::BAD_GATEWAY,
                "the upstream switched protocols unasked",
            ));
        };
        self.note_status(response.status());
        let upstream = hyper::upgrade::on(&mut response);
        let (mut head, _) = response.into_parts();
        clean_response(&mut head);
        if let Some(protocol) = protocol {
            upgrade::write(&mut head.headers, &protocol);
        }
        let (registered, permit, record) = (self.registered, self.permit, self.record);
        self.exchange.shared.tasks.connection(
            "tunnel",
            Box::pin(async move {
                let _record = record;
                let (Some(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) else {
                    return;
                };
                let upstream = Tunnel::new(upstream, None);
                tcp::splice(downstream, upstream, &permit, &registered).await;
            }),
        );
        Response::from_parts(head, Body::empty())
    }

    /// The upstream was reached and did not answer; the cause may be that the client's own message is malformed.
    fn no_response(&mut self) -> Response<Body> {
        let fault = self
            .exchange
            .framing
            .as_ref()
            .and_then(|framing| framing.control.fault());
        match fault {
            Some(why) => {
                self.note_status(StatusCode::BAD_REQUEST);
                let refusal = Refusal::new(Reason::Malformed).because(why.to_string());
                self.exchange.refuse(&refusal, "", "")
            }
            None => self.fail(StatusCode::BAD_GATEWAY, "the upstream gave no response"),
        }
    }

    fn note_status(&mut self, code: StatusCode) {
        if let Some(record) = &mut self.record {
            record.status = code.as_u16();
        }
    }
}

impl Route {
    fn version(&self) -> Version {
        match self {
            Self::Mesh { version, .. } | Self::App { version, .. } => *version,
        }
    }
}

/// Why there is no response of the upstream.
enum Undelivered {
    Unreachable,
    NoResponse,
}

impl From<Unreachable> for Undelivered {
    fn from(_: Unreachable) -> Self {
        Self::Unreachable
    }
}

fn clean_response(head: &mut response::Parts) {
    headers::remove_hop_by_hop(&mut head.headers);
    headers::remove_client_cert(&mut head.headers);
    head.version = HttpVersion::HTTP_11;
}

fn is_repeatable(request: &Request<Body>) -> bool {
    let is_idempotent = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    is_idempotent
        && http_body::Body::is_end_stream(request.body())
        && !request.headers().contains_key(http::header::UPGRADE)
}

fn request_copy(request: &Request<Body>) -> request::Parts {
    let mut copy = Request::new(()).into_parts().0;
    copy.method = request.method().clone();
    copy.uri = request.uri().clone();
    copy.version = request.version();
    copy.headers = request.headers().clone();
    copy.extensions = request.extensions().clone();
    copy
}

/// How often a request is put on a connection at most.
const MOST_SENDS: usize = 3;
