//! Streams to other sidecars and to the application, for one exchange at a time: taken from those that wait, opened on a shared
//! connection, or dialled.
//!
//! Invariant: a stream takes a request only while its connection is open, both SVIDs are valid for a while yet, and the peer would be
//! believed again under what is in force. Which endpoint is asked for is [`crate::balance`]'s.

mod http2;
mod shared;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_catalog::{Endpoint, Protocol};
use weft_identity::{ServicePort, SpiffeId, TrustDomain};

use crate::Sidecar;
use crate::balance::{Balance, Pending};
use crate::dial::{DialError, Dialler, MOST_ENDPOINTS_TRIED, Unreachable, is_usable};
use crate::mux::Carried;
use crate::stream::Stream;
use crate::tls::Peer;

use http2::Http2Apps;
use shared::Opened;
pub use shared::{Known, SharedConnections};

/// Streams that wait, and the way to new ones; clones share them.
#[derive(Clone)]
pub struct Outlets {
    inner: Arc<Inner>,
}

struct Inner {
    sidecar: Arc<Sidecar>,
    dialler: Dialler,
    balance: Balance,
    shared: Arc<SharedConnections>,
    http2_apps: Http2Apps,
    waiting: Mutex<HashMap<Key, Arc<Waiting>>>,
}

/// Streams that can stand for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    /// Absent for the application beside this sidecar.
    mesh: Option<(SpiffeId, ServicePort)>,
    protocol: Protocol,
}

/// The streams of one key that wait for their next exchange, the one that was used last at the end.
#[derive(Default)]
struct Waiting {
    streams: Mutex<Vec<Idle>>,
}

struct Idle {
    stream: Stream,
    peer: Option<Arc<Peer>>,
    since: Instant,
}

/// A service port, and what names it in handshakes and openings.
#[derive(Debug, Clone)]
pub struct Target {
    pub port: ServicePort,
    pub name: Arc<str>,
}

impl Target {
    pub fn of(port: ServicePort, trust_domain: &TrustDomain) -> Result<Self, DialError> {
        let name = weft_identity::server_name(&port, trust_domain).map_err(|_| DialError::Name)?;
        Ok(Self {
            port,
            name: name.into(),
        })
    }
}

/// A stream for one exchange.
pub struct Lease {
    pub stream: Stream,
    pub peer: Option<Arc<Peer>>,
    home: Home,
}

/// Where a stream came from, and goes back to.
pub struct Home {
    /// It served an exchange before, so the other side may have ended it meanwhile.
    reused: bool,
    place: Place,
    peer: Option<Arc<Peer>>,
    _pending: Option<Pending>,
}

enum Place {
    /// A connection of its own.
    Waiting { streams: Arc<Waiting>, limit: usize },
    /// The connection that it shares keeps it, for this server name.
    Parked(Arc<str>),
}

impl Outlets {
    pub fn new(
        sidecar: Arc<Sidecar>,
        dialler: Dialler,
        shared: Arc<SharedConnections>,
        balance: Balance,
    ) -> Self {
        let http2_apps = Http2Apps::new(Arc::clone(&sidecar), dialler.clone());
        Self {
            inner: Arc::new(Inner {
                sidecar,
                http2_apps,
                dialler,
                balance,
                shared,
                waiting: Mutex::default(),
            }),
        }
    }

    /// A stream to one of the endpoints for one exchange of HTTP/1.1; the next endpoint is tried when one cannot be used.
    pub async fn lease(
        &self,
        endpoints: &[Endpoint],
        target: &Target,
        known: &mut Known,
    ) -> Result<Lease, Unreachable> {
        let mut tried = Vec::new();
        while let Some((endpoint, pending)) = self.next_endpoint(endpoints, &tried) {
            match self.lease_at(endpoint, target, known).await {
                Ok(mut lease) => {
                    lease.home._pending = Some(pending);
                    return Ok(lease);
                }
                Err(error) => self.pass_over(endpoint, &error),
            }
            tried.push(endpoint);
        }
        Err(Unreachable)
    }

    /// A stream of its own to one of the endpoints, for bytes that the mesh does not look into.
    pub async fn connect(
        &self,
        endpoints: &[Endpoint],
        target: &Target,
    ) -> Result<(Stream, Arc<Peer>, Pending), Unreachable> {
        let mut tried = Vec::new();
        while let Some((endpoint, pending)) = self.next_endpoint(endpoints, &tried) {
            match Box::pin(
                self.inner
                    .shared
                    .open(endpoint.into(), target, Carried::Tcp),
            )
            .await
            {
                Ok(opened) => return Ok((opened.stream, opened.peer, pending)),
                Err(error) => self.pass_over(endpoint, &error),
            }
            tried.push(endpoint);
        }
        Err(Unreachable)
    }

    /// A connection to the application beside this sidecar or to the world outside, or what looks like one.
    pub async fn lease_app(
        &self,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<Lease, DialError> {
        let waiting = self.waiting(Key {
            address,
            mesh: None,
            protocol,
        });
        if let Some(lease) = self.take(&waiting) {
            return Ok(lease);
        }
        let (stream, is_reused) = match protocol {
            Protocol::Http | Protocol::Tcp | Protocol::Tls => {
                let stream = Stream::Tcp(self.inner.dialler.dial(address).await?);
                (stream, false)
            }
            Protocol::Http2 | Protocol::Grpc => {
                let opening = self.inner.http2_apps.open(address, protocol);
                let (stream, is_fresh) = Box::pin(opening).await?;
                (Stream::Http2(stream), !is_fresh)
            }
        };
        Ok(Lease::of(stream, None, self.place(waiting), is_reused))
    }

    /// A connection of its own to the application.
    pub async fn connect_app(&self, address: SocketAddr) -> Result<Stream, DialError> {
        self.inner.dialler.dial(address).await.map(Stream::Tcp)
    }

    /// Ends what waits too long or may take no further exchange.
    pub fn sweep(&self) {
        let limit = Duration::from_secs(self.inner.sidecar.config.limits.idle_seconds);
        self.all_waiting().retain(|_, waiting| {
            let mut streams = waiting.streams();
            streams.retain_mut(|idle| idle.since.elapsed() < limit && self.is_usable(idle));
            !streams.is_empty() || Arc::strong_count(waiting) > 1
        });
        self.inner.shared.sweep(limit);
        self.inner.http2_apps.sweep(limit);
    }

    /// Keeps nothing from now on; what is in use ends with its exchange.
    pub fn close(&self) {
        let mut all = self.all_waiting();
        all.values().for_each(|waiting| waiting.streams().clear());
        all.clear();
        drop(all);
        self.inner.shared.close();
        self.inner.http2_apps.close();
    }

    async fn lease_at(
        &self,
        endpoint: &Endpoint,
        target: &Target,
        known: &mut Known,
    ) -> Result<Lease, DialError> {
        let parked = || Place::Parked(Arc::clone(&target.name));
        if let Some((stream, peer)) = self.inner.shared.reuse(endpoint.into(), target, known) {
            return Ok(Lease::of(stream, Some(peer), parked(), true));
        }
        let key = || Key {
            address: endpoint.address,
            mesh: Some((endpoint.identity.clone(), target.port.clone())),
            protocol: Protocol::Http,
        };
        if let Some(waiting) = self.known(&key())
            && let Some(lease) = self.take(&waiting)
        {
            return Ok(lease);
        }
        let opening = self
            .inner
            .shared
            .open(endpoint.into(), target, Carried::Http1);
        let Opened {
            stream,
            peer,
            is_fresh,
        } = Box::pin(opening).await?;
        let place = match &stream {
            Stream::Mux(_) => parked(),
            Stream::Tcp(_) | Stream::TlsClient(_) | Stream::TlsServer(_) | Stream::Http2(_) => {
                self.place(self.waiting(key()))
            }
            #[cfg(test)]
            Stream::Memory(_) => self.place(self.waiting(key())),
        };
        Ok(Lease::of(stream, Some(peer), place, !is_fresh))
    }

    fn place(&self, streams: Arc<Waiting>) -> Place {
        Place::Waiting {
            streams,
            limit: self.inner.sidecar.config.limits.idle_per_endpoint,
        }
    }

    /// A stream that waits and can be used at once. What is found to be of no use goes.
    fn take(&self, waiting: &Arc<Waiting>) -> Option<Lease> {
        let mut streams = waiting.streams();
        while let Some(mut idle) = streams.pop() {
            if self.is_usable(&mut idle) {
                let place = self.place(Arc::clone(waiting));
                return Some(Lease::of(idle.stream, idle.peer, place, true));
            }
        }
        None
    }

    fn is_usable(&self, idle: &mut Idle) -> bool {
        idle.stream.is_quiet()
            && idle
                .peer
                .as_ref()
                .is_none_or(|peer| is_usable(&self.inner.sidecar, peer))
    }

    fn next_endpoint<'e>(
        &self,
        endpoints: &'e [Endpoint],
        tried: &[&Endpoint],
    ) -> Option<(&'e Endpoint, Pending)> {
        if tried.len() >= MOST_ENDPOINTS_TRIED {
            return None;
        }
        self.inner.balance.pick(endpoints, tried)
    }

    fn pass_over(&self, endpoint: &Endpoint, error: &DialError) {
        self.inner.balance.failed(endpoint);
        self.inner.sidecar.metrics.endpoint_failures.inc();
        error.tell_of(endpoint);
    }

    fn known(&self, key: &Key) -> Option<Arc<Waiting>> {
        self.all_waiting().get(key).cloned()
    }

    fn waiting(&self, key: Key) -> Arc<Waiting> {
        Arc::clone(self.all_waiting().entry(key).or_default())
    }

    fn all_waiting(&self) -> MutexGuard<'_, HashMap<Key, Arc<Waiting>>> {
        // Every change of the map is whole before it can panic.
        self.inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn streams(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    fn of(stream: Stream, peer: Option<Arc<Peer>>, place: Place, reused: bool) -> Self {
        Self {
            stream,
            peer: peer.clone(),
            home: Home {
                reused,
                place,
                peer,
                _pending: None,
            },
        }
    }

    pub fn into_parts(self) -> (Stream, Home) {
        (self.stream, self.home)
    }

    pub fn is_reused(&self) -> bool {
        self.home.reused
    }
}

impl Home {
    /// The exchange came to its end: the stream may wait for another one.
    pub fn take_back(self, stream: Stream) {
        match (self.place, stream) {
            (Place::Parked(name), Stream::Mux(stream)) => stream.park(&name),
            (Place::Waiting { streams, limit }, stream) => {
                let mut streams = streams.streams();
                if streams.len() < limit {
                    streams.push(Idle {
                        stream,
                        peer: self.peer,
                        since: Instant::now(),
                    });
                }
            }
            (Place::Parked(_), _) => {}
        }
    }
}
