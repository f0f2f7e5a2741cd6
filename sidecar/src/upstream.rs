//! Connections that wait for their next request, by endpoint, expected identity, target and protocol.
//!
//! Invariant: a connection takes a request only while it is open, both SVIDs are valid for a while yet, this side would present the same
//! SVID today, and the peer would be believed again under what is in force. Which endpoint is asked for is [`crate::balance`]'s.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;
use weft_catalog::{Endpoint, Protocol};
use weft_identity::{ServicePort, SpiffeId};

use crate::Sidecar;
use crate::balance::{Balance, Pending};
use crate::http::Version;
use crate::http::client::Sender;
use crate::mux::Carried;
use crate::outlets::{SharedConnections, Target};
use crate::read_ahead::ReadAhead;
use crate::stream::Stream;
use crate::tls::{ALPN_HTTP2, Expected, Peer, Tls, TlsError};

/// The pool, and the way to new connections; clones share them.
#[derive(Clone)]
pub struct Upstreams {
    shared: Arc<Shared>,
}

struct Shared {
    sidecar: Arc<Sidecar>,
    dialler: Dialler,
    streams: Arc<SharedConnections>,
    balance: Balance,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    closed: AtomicBool,
}

/// Connections that can stand for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    version: Version,
    /// Absent for the application beside this sidecar.
    mesh: Option<(SpiffeId, ServicePort)>,
}

struct Slot {
    connections: Mutex<Vec<Pooled>>,
    /// One dials for all that wait for a shared connection.
    dialling: Semaphore,
    /// When one last dialled in vain.
    failed_at: Mutex<Option<Instant>>,
}

struct Pooled {
    sender: Sender,
    peer: Option<Arc<Peer>>,
    open: Arc<AtomicUsize>,
    idle_since: Instant,
}

/// A connection for one request.
pub struct Lease {
    pub sender: Sender,
    /// The connection served a request before, so it may have been closed meanwhile.
    pub reused: bool,
    peer: Option<Arc<Peer>>,
    _in_use: InUse,
    key: Key,
    pool: Upstreams,
    pending: Option<Pending>,
}

/// Counts the requests that a connection serves now.
struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why one endpoint could not be used. Never a denial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("connecting took too long")]
    Timeout,
    #[error("no mutual TLS with the endpoint")]
    Tls(#[source] TlsError),
    #[error("no HTTP with the endpoint")]
    Http(#[source] hyper::Error),
    #[error("the connection that others waited for too could not be made")]
    Neighbour,
    #[error("the service port has no server name")]
    Name,
}

/// No endpoint of the service could be used.
#[derive(Debug, thiserror::Error)]
#[error("no endpoint of the service can be reached")]
pub struct Unreachable;

impl Upstreams {
    pub fn new(dialler: Dialler, streams: Arc<SharedConnections>, balance: Balance) -> Self {
        let sidecar = Arc::clone(&dialler.sidecar);
        let (slots, closed) = (Mutex::default(), AtomicBool::new(false));
        Self {
            shared: Arc::new(Shared {
                sidecar,
                dialler,
                streams,
                balance,
                slots,
                closed,
            }),
        }
    }

    /// A connection to one of the endpoints for one request; the next endpoint is tried when one cannot be used.
    pub async fn lease(
        &self,
        endpoints: &[Endpoint],
        target: &ServicePort,
        version: Version,
    ) -> Result<Lease, Unreachable> {
        let mut tried = Vec::new();
        while let Some((endpoint, pending)) = self.next_endpoint(endpoints, &tried) {
            let key = Key {
                address: endpoint.address,
                version,
                mesh: Some((endpoint.identity.clone(), target.clone())),
            };
            match self.lease_by(key).await {
                Ok(mut lease) => {
                    lease.pending = Some(pending);
                    return Ok(lease);
                }
                Err(error) => self.pass_over(endpoint, &error),
            }
            tried.push(endpoint);
        }
        Err(Unreachable)
    }

    /// A connection to the application beside this sidecar.
    pub async fn lease_app(
        &self,
        address: SocketAddr,
        version: Version,
    ) -> Result<Lease, DialError> {
        let key = Key {
            address,
            version,
            mesh: None,
        };
        self.lease_by(key).await
    }

    /// Drops what waits too long or may take no further request.
    pub fn sweep(&self) {
        let mut slots = self.slots();
        let idle_limit = Duration::from_secs(self.shared.sidecar.config.limits.idle_seconds);
        slots.retain(|_, slot| {
            let mut connections = slot.connections();
            connections.retain(|pooled| {
                let is_busy = pooled.open.load(Ordering::Relaxed) > 0;
                (is_busy || pooled.idle_since.elapsed() < idle_limit) && self.is_usable(pooled)
            });
            !connections.is_empty() || Arc::strong_count(slot) > 1
        });
    }

    /// Keeps no connection from now on; those in use end with their requests.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.slots().clear();
    }

    fn next_endpoint<'e>(
        &self,
        endpoints: &'e [Endpoint],
        tried: &[&Endpoint],
    ) -> Option<(&'e Endpoint, Pending)> {
        if tried.len() >= MOST_ENDPOINTS_TRIED {
            return None;
        }
        self.shared.balance.pick(endpoints, tried)
    }

    fn pass_over(&self, endpoint: &Endpoint, error: &DialError) {
        self.shared.balance.failed(endpoint);
        self.shared.sidecar.metrics.endpoint_failures.inc();
        error.tell_of(endpoint);
    }

    async fn lease_by(&self, key: Key) -> Result<Lease, DialError> {
        let slot = self.slot(&key);
        match self.take(&slot, &key) {
            Some(lease) => Ok(lease),
            // Rare, and large.
            None => Box::pin(self.lease_at(&slot, key)).await,
        }
    }

    async fn lease_at(&self, slot: &Slot, key: Key) -> Result<Lease, DialError> {
        if key.version == Version::Http1 {
            return self.lease_new(slot, key).await;
        }
        let asked = Instant::now();
        // Closed semaphores do not exist here: nobody closes it.
        let _dialling = slot.dialling.acquire().await;
        if let Some(lease) = self.take(slot, &key) {
            return Ok(lease);
        }
        // Who waited while another one failed would only fail the same way, one after the other.
        if slot.failed_since(asked) {
            return Err(DialError::Neighbour);
        }
        let dialled = self.lease_new(slot, key).await;
        if dialled.is_err() {
            slot.note_failure();
        }
        dialled
    }

    /// A pooled connection that takes a request at once, the one that was used last before others. What is found to be of no use goes.
    fn take(&self, slot: &Slot, key: &Key) -> Option<Lease> {
        let mut connections = slot.connections();
        let most_streams = usize::try_from(self.shared.sidecar.config.limits.streams)
            .unwrap_or(usize::MAX)
            .min(MOST_STREAMS);
        let mut at = connections.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            let pooled = connections.get(at)?;
            if !self.is_usable(pooled) {
                connections.swap_remove(at);
                continue;
            }
            let has_room = match &pooled.sender {
                Sender::Http1(..) => pooled.sender.is_ready(),
                Sender::Http2(_) => pooled.open.load(Ordering::Relaxed) < most_streams,
            };
            if !has_room {
                continue;
            }
            let pooled = match pooled.share() {
                Some(shared) => shared,
                None => connections.swap_remove(at),
            };
            return Some(self.lease_of(pooled, key.clone(), true));
        }
        None
    }

    async fn lease_new(&self, slot: &Slot, key: Key) -> Result<Lease, DialError> {
        let (sender, peer) = match &key.mesh {
            None => {
                let stream = self.shared.dialler.dial(key.address).await?;
                (self.start(key.version, stream).await?, None)
            }
            Some((identity, target)) => {
                let whom = Whom {
                    address: key.address,
                    identity,
                };
                let (stream, peer) = self.new_stream(whom, target, key.version).await?;
                (self.start(key.version, stream).await?, Some(peer))
            }
        };
        let pooled = Pooled {
            sender,
            peer,
            open: Arc::default(),
            idle_since: Instant::now(),
        };
        if let Some(kept) = pooled.share()
            && !self.shared.closed.load(Ordering::Acquire)
        {
            slot.connections().push(kept);
        }
        Ok(self.lease_of(pooled, key, false))
    }

    async fn new_stream(
        &self,
        whom: Whom<'_>,
        target: &ServicePort,
        version: Version,
    ) -> Result<(Stream, Arc<Peer>), DialError> {
        let target = self.shared.dialler.target(target.clone())?;
        if version == Version::Http1 {
            let opened = self
                .shared
                .streams
                .open(whom, &target, Carried::Http1)
                .await?;
            return Ok((opened.stream, opened.peer));
        }
        let dialler = &self.shared.dialler;
        let (tls, peer) = dialler.dial_mesh(whom, &target.name, &[ALPN_HTTP2]).await?;
        Ok((Stream::TlsClient(Box::new(tls)), Arc::new(peer)))
    }

    fn lease_of(&self, pooled: Pooled, key: Key, reused: bool) -> Lease {
        pooled.open.fetch_add(1, Ordering::Relaxed);
        Lease {
            sender: pooled.sender,
            reused,
            peer: pooled.peer,
            _in_use: InUse(pooled.open),
            key,
            pool: self.clone(),
            pending: None,
        }
    }

    fn is_usable(&self, pooled: &Pooled) -> bool {
        if pooled.sender.is_closed() {
            return false;
        }
        pooled
            .peer
            .as_ref()
            .is_none_or(|peer| is_usable(&self.shared.sidecar, peer))
    }

    async fn start<S>(&self, version: Version, stream: S) -> Result<Sender, DialError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        Sender::start(version, stream, &self.shared.sidecar.tasks)
            .await
            .map_err(DialError::Http)
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            connections: Mutex::default(),
            dialling: Semaphore::new(1),
            failed_at: Mutex::default(),
        });
        slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        // Every change of the map is whole before it can panic.
        self.shared
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address, and the one identity that may answer there.
#[derive(Debug, Clone, Copy)]
pub struct Whom<'a> {
    pub address: SocketAddr,
    pub identity: &'a SpiffeId,
}

impl<'a> From<&'a Endpoint> for Whom<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            address: endpoint.address,
            identity: &endpoint.identity,
        }
    }
}

/// The way to new connections.
#[derive(Clone)]
pub struct Dialler {
    sidecar: Arc<Sidecar>,
    tls: Tls,
}

impl Dialler {
    pub fn new(sidecar: Arc<Sidecar>, tls: Tls) -> Self {
        Self { sidecar, tls }
    }

    /// What names a target in a handshake, or in the opening of a stream.
    pub fn target(&self, port: ServicePort) -> Result<Target, DialError> {
        Target::of(port, &self.sidecar.current.load().trust_domain)
    }

    /// Mutual TLS with an endpoint, and one of the protocols.
    pub async fn dial_mesh(
        &self,
        whom: Whom<'_>,
        server_name: &str,
        protocols: &[&'static [u8]],
    ) -> Result<(TlsStream<ReadAhead>, Peer), DialError> {
        let stream = self.dial(whom.address).await?;
        let expected = Expected {
            identity: whom.identity,
            server_name,
            protocols,
        };
        Box::pin(self.tls.connect(stream, &expected))
            .await
            .map_err(DialError::Tls)
    }

    pub async fn dial(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        let limit = Duration::from_secs(self.sidecar.config.limits.connect_seconds);
        let connecting = tokio::time::timeout(limit, TcpStream::connect(address));
        let stream = connecting
            .await
            .map_err(|_| DialError::Timeout)?
            .map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        Ok(stream)
    }
}

/// Whether a connection to the peer may take something new: both SVIDs last, this side would present the same one, and the peer would be
/// believed again.
pub fn is_usable(sidecar: &Sidecar, peer: &Peer) -> bool {
    let now = Timestamp::now();
    let lasts = now
        .checked_add(EXPIRY_MARGIN)
        .is_ok_and(|then| then < peer.expires());
    lasts
        && peer.is_of(&sidecar.identity.load())
        && peer.may_begin(&sidecar.current.load(), now).is_ok()
}

impl DialError {
    /// Tells the log that an endpoint is passed over.
    pub fn tell_of(&self, endpoint: &Endpoint) {
        let cause = std::error::Error::source(self)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::warn!(address = %endpoint.address, identity = %endpoint.identity, error = %self, cause, "an endpoint is passed over");
    }
}

impl Pooled {
    /// The same connection for one more request, where it takes several at a time.
    fn share(&self) -> Option<Self> {
        Some(Self {
            sender: self.sender.share()?,
            peer: self.peer.clone(),
            open: Arc::clone(&self.open),
            idle_since: Instant::now(),
        })
    }
}

impl Slot {
    fn failed_since(&self, asked: Instant) -> bool {
        let failed_at = self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|failed_at| failed_at > asked)
    }

    fn note_failure(&self) {
        let mut failed_at = self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *failed_at = Some(Instant::now());
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Whom the connection leads to; none for the application.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_deref()
    }

    /// Whether no request may begin on the connection any more.
    pub fn is_expired(&self) -> bool {
        let now = Timestamp::now();
        self.peer.as_ref().is_some_and(|peer| peer.is_expired(now))
    }

    /// The exchange came to its end: the connection may wait for another request.
    pub fn finish(mut self) {
        self.pending = None;
        let Sender::Http1(sender, _) = &self.sender else {
            return;
        };
        let pool = self.pool.clone();
        if sender.is_closed() || pool.shared.closed.load(Ordering::Acquire) {
            return;
        }
        let (key, peer) = (self.key.clone(), self.peer.clone());
        let slot = pool.slot(&key);
        let mut connections = slot.connections();
        if connections.len() < pool.shared.sidecar.config.limits.idle_per_endpoint {
            connections.push(self.into_pooled(peer));
        }
    }

    fn into_pooled(self, peer: Option<Arc<Peer>>) -> Pooled {
        Pooled {
            sender: self.sender,
            peer,
            open: Arc::default(),
            idle_since: Instant::now(),
        }
    }
}

/// The protocol that connections to such a port speak.
pub fn version_of(protocol: Protocol) -> Option<Version> {
    match protocol {
        Protocol::Http => Some(Version::Http1),
        Protocol::Http2 | Protocol::Grpc => Some(Version::Http2),
        Protocol::Tcp => None,
    }
}

/// A request is not begun so shortly before an SVID expires.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// Requests at a time on one HTTP/2 connection, whatever the configuration says: what nearly every server takes (RFC 9113 §6.5.2
/// recommends at least 100). One more than the other side takes would wait unseen.
const MOST_STREAMS: usize = 100;
/// Endpoints that are tried for one request.
pub const MOST_ENDPOINTS_TRIED: usize = 5;
