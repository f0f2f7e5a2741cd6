//! The listeners: the mTLS API (15012) and first contact (15010).
//!
//! A connection is verified by its handshake, lives while its SVID is valid and not revoked, and each request on it passes
//! [`crate::authorize`]. What a peer does wrong ends that peer's connection and nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;
use weft_daemon::{Executor, Tasks};
use weft_identity::{TrustDomain, Verified};

use crate::audit::{Auditor, Event};
use crate::authorize::{self, Caller};
use crate::ca::Ca;
use crate::lineages;
use crate::metrics::Metrics;
use crate::revocations::Distrust;
use crate::store::Store;

/// What serves the mTLS API.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) tls: TlsAcceptor,
    pub(crate) routes: Routes,
    pub(crate) ca: Arc<Ca>,
    pub(crate) store: Store,
    pub(crate) distrust: Distrust,
    pub(crate) auditor: Auditor,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
}

/// What serves first contact.
#[derive(Clone)]
pub(crate) struct FirstContact {
    pub(crate) tls: TlsAcceptor,
    pub(crate) routes: Routes,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
}

impl Api {
    pub(crate) async fn serve(self, listener: TcpListener) -> Result<(), Infallible> {
        let tasks = self.tasks.clone();
        accept(
            listener,
            tasks,
            API_CONNECTIONS,
            "API connection",
            move |socket| self.clone().connection(socket),
        )
        .await
    }

    async fn connection(self, socket: TcpStream) {
        let peer_address = socket.peer_addr().ok();
        let stream = match tokio::time::timeout(HANDSHAKE, self.tls.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handshake_failed(&error, peer_address).await,
            Err(_) => {
                self.metrics.handshakes_failed.inc();
                return;
            }
        };
        let chain = stream.get_ref().1.peer_certificates();
        let verified = match crate::tls::peer(chain, self.ca.bundle(), Timestamp::now()) {
            Ok(verified) => verified,
            Err(error) => return self.handshake_failed(&error, peer_address).await,
        };
        if let Err(error) = lineages::seen_in_use(&self.store, verified.serial.clone()).await {
            tracing::error!(%error, "a serial's use could not be noted");
            return;
        }
        self.metrics.connections.inc();
        let gate = Gate {
            trust_domain: self.ca.trust_domain().clone(),
            routes: self.routes.clone(),
            auditor: self.auditor.clone(),
            caller: Caller {
                id: verified.id.clone(),
                serial: verified.serial.clone(),
            },
        };
        let cut = self.cut(verified);
        http2(stream, gate, &self.tasks, cut).await;
        self.metrics.connections.dec();
    }

    /// Resolves when the connection must end at once.
    async fn cut(&self, peer: Verified) {
        let revoked = async {
            self.distrust.revoked(&peer).await;
            tracing::info!(id = %peer.id, serial = %peer.serial, "a revoked caller's connection is cut");
        };
        tokio::select! {
            () = revoked => (),
            () = expired(&peer) => (),
        }
    }

    async fn handshake_failed(
        &self,
        error: &(dyn std::error::Error + Sync),
        address: Option<std::net::SocketAddr>,
    ) {
        self.metrics.handshakes_failed.inc();
        let from = address
            .map(|address| address.ip().to_string())
            .unwrap_or_default();
        self.auditor
            .refused(Event {
                actor: String::new(),
                action: "call",
                subject: format!("handshake from {from}"),
                detail: error.to_string(),
            })
            .await;
    }
}

impl FirstContact {
    pub(crate) async fn serve(self, listener: TcpListener) -> Result<(), Infallible> {
        let tasks = self.tasks.clone();
        accept(
            listener,
            tasks,
            FIRST_CONTACTS,
            "first contact",
            move |socket| self.clone().connection(socket),
        )
        .await
    }

    async fn connection(self, socket: TcpStream) {
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, self.tls.accept(socket)).await else {
            self.metrics.handshakes_failed.inc();
            return;
        };
        // One exchange takes milliseconds; whoever stays longer holds the door for others.
        let cut = tokio::time::sleep(FIRST_CONTACT_LIFE);
        http2(stream, self.routes, &self.tasks, cut).await;
    }
}

/// Accepts until the process drains, with a bound on what is open at a time.
async fn accept<F>(
    listener: TcpListener,
    tasks: Tasks,
    limit: usize,
    name: &'static str,
    serve: impl Fn(TcpStream) -> F,
) -> Result<(), Infallible>
where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limit));
    let draining = tasks.draining();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = draining.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((socket, _)) => {
                let _ = socket.set_nodelay(true);
                let served = serve(socket);
                tasks.connection(name, async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, listener = name, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one HTTP/2 connection until its peer ends it, `cut` resolves, or a drain has taken long enough.
pub(crate) async fn http2<IO, S>(io: IO, service: S, tasks: &Tasks, cut: impl Future<Output = ()>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    // Calls end with their connection: whoever is cut has none running.
    let (executor, _ends_calls) = Executor::of_connection(tasks, "API call");
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let mut cut = std::pin::pin!(cut);
    let draining = tasks.draining();
    let drain_over = async {
        draining.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let mut drain_over = std::pin::pin!(drain_over);
    let mut is_leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = cut.as_mut() => return,
            () = drain_over.as_mut() => return,
            () = draining.cancelled(), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Sleeps in short steps: a clock may be set.
async fn expired(peer: &Verified) {
    while !peer.is_expired(Timestamp::now()) {
        let left = peer.not_after.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        tokio::time::sleep(left.clamp(Duration::from_millis(100), Duration::from_secs(30))).await;
    }
}

/// Lets through what the table allows to this caller.
#[derive(Clone)]
struct Gate {
    /// The mesh's own: nobody else's identities may call.
    trust_domain: TrustDomain,
    routes: Routes,
    auditor: Auditor,
    caller: Caller,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Answer {
        if authorize::is_allowed(request.uri().path(), &self.caller.id, &self.trust_domain) {
            request.extensions_mut().insert(self.caller.clone());
            return Box::pin(self.routes.call(request));
        }
        let auditor = self.auditor.clone();
        let refusal = Event {
            actor: self.caller.id.to_string(),
            action: "call",
            subject: request.uri().path().to_owned(),
            detail: "this identity may not call this method".to_owned(),
        };
        Box::pin(async move {
            auditor.refused(refusal).await;
            Ok(Status::permission_denied("this identity may not call this method").into_http())
        })
    }
}

const API_CONNECTIONS: usize = 8192;
const FIRST_CONTACTS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const FIRST_CONTACT_LIFE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Concurrent calls on one connection.
const STREAMS: u32 = 64;
const HEADER_BYTES: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BUFFER: usize = 256 << 10;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(15);
/// Open streams end with the connection, this long after a drain began.
const DRAIN: Duration = Duration::from_millis(500);
