//! Accepts connections and hands each to the spine of its direction: [`crate::inbound`] or [`crate::outbound`].
//!
//! Invariant: no listener has more connections open than its limit; one too many is closed at once, so that the others are served.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weft_catalog::Protocol;
use weft_identity::ServicePort;

use crate::Sidecar;
use crate::balance::Balance;
use crate::config::{Config, Upstream};
use crate::dial::{DialError, Dialler};
use crate::flows::WorkerFlows;
use crate::handshakes::Handshakes;
use crate::http::HeadLimits;
use crate::http2::Limits as Http2Limits;
use crate::inbound;
use crate::metrics::ListenerLabel;
use crate::outbound::{self, Entrance};
use crate::outlets::{Outlets, SharedConnections, Target};
use crate::tls::Tls;

/// What every connection of this sidecar works with.
pub struct Shared {
    sidecar: Arc<Sidecar>,
    pub tls: Tls,
    pub outlets: Outlets,
    pub handshakes: Arc<Handshakes>,
    pub flows: Arc<WorkerFlows>,
}

/// Every bound socket that moves bytes. They are bound before anything is served, so that a taken port is found at the start.
pub struct Listeners {
    pub inbound: TcpListener,
    pub http_proxy: Option<TcpListener>,
    pub upstreams: Vec<(Upstream, TcpListener)>,
}

impl Listeners {
    pub async fn bind(config: &Config) -> io::Result<Self> {
        let inbound = bind(config.inbound).await?;
        let http_proxy = match config.http_proxy {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            upstreams.push((upstream.clone(), bind(upstream.listen).await?));
        }
        Ok(Self {
            inbound,
            http_proxy,
            upstreams,
        })
    }
}

/// The same sockets, of no runtime.
pub struct BoundListeners {
    inbound: std::net::TcpListener,
    http_proxy: Option<std::net::TcpListener>,
    upstreams: Vec<(Upstream, std::net::TcpListener)>,
}

impl Listeners {
    /// The same sockets for a runtime that accepts from them too.
    pub fn for_another_runtime(&self) -> io::Result<BoundListeners> {
        let another = |listener: &TcpListener| {
            let socket = listener.as_fd().try_clone_to_owned()?;
            io::Result::Ok(std::net::TcpListener::from(socket))
        };
        let upstreams = self
            .upstreams
            .iter()
            .map(|(upstream, listener)| io::Result::Ok((upstream.clone(), another(listener)?)));
        Ok(BoundListeners {
            inbound: another(&self.inbound)?,
            http_proxy: self.http_proxy.as_ref().map(another).transpose()?,
            upstreams: upstreams.collect::<io::Result<_>>()?,
        })
    }
}

impl BoundListeners {
    pub fn into_this_runtime(self) -> io::Result<Listeners> {
        let upstreams = self.upstreams.into_iter().map(|(upstream, listener)| {
            io::Result::Ok((upstream, TcpListener::from_std(listener)?))
        });
        Ok(Listeners {
            inbound: TcpListener::from_std(self.inbound)?,
            http_proxy: self.http_proxy.map(TcpListener::from_std).transpose()?,
            upstreams: upstreams.collect::<io::Result<_>>()?,
        })
    }
}

/// Serves the listeners until the process drains.
pub fn start(shared: &Arc<Shared>, listeners: Listeners) {
    let tasks = &shared.tasks;
    let inbound = Listener {
        name: "inbound",
        listener: listeners.inbound,
        shared: Arc::clone(shared),
    };
    tasks.vital("inbound listener", inbound.run(inbound::serve));
    if let Some(listener) = listeners.http_proxy {
        let proxy = Listener {
            name: "httpProxy",
            listener,
            shared: Arc::clone(shared),
        };
        let serve =
            |shared, stream, _, place| outbound::serve(shared, stream, Entrance::Proxy, place);
        tasks.vital("HTTP proxy listener", proxy.run(serve));
    }
    for (upstream, listener) in listeners.upstreams {
        let listener = Listener {
            name: "upstream",
            listener,
            shared: Arc::clone(shared),
        };
        let serve = move |shared, stream, _, place| {
            let entrance = Entrance::Upstream(upstream.target.clone());
            outbound::serve(shared, stream, entrance, place)
        };
        tasks.vital("upstream listener", listener.run(serve));
    }
    tasks.vital("upstream pool", keep_pool(Arc::clone(shared)));
}

impl Shared {
    pub fn new(sidecar: &Arc<Sidecar>) -> Arc<Self> {
        let tls = Tls::new(sidecar.identity.clone(), sidecar.current.clone());
        Self::with(sidecar, tls, Arc::default())
    }

    /// What another worker works with: pools of its own, and the same sessions and bounds of handshakes.
    pub fn of_another_worker(&self) -> Arc<Self> {
        Self::with(
            &self.sidecar,
            self.tls.clone(),
            Arc::clone(&self.handshakes),
        )
    }

    fn with(sidecar: &Arc<Sidecar>, tls: Tls, handshakes: Arc<Handshakes>) -> Arc<Self> {
        let balance = Balance::default();
        let dialler = Dialler::new(Arc::clone(sidecar), tls.clone());
        let streams = Arc::new(SharedConnections::new(Arc::clone(sidecar), dialler.clone()));
        let outlets = Outlets::new(Arc::clone(sidecar), dialler, streams, balance);
        Arc::new(Self {
            sidecar: Arc::clone(sidecar),
            tls,
            outlets,
            handshakes,
            flows: sidecar.flows.of_worker(),
        })
    }

    /// The service port with its name in handshakes.
    pub fn named(&self, port: &ServicePort) -> Result<Target, DialError> {
        Target::of(port.clone(), &self.current.load().trust_domain)
    }

    /// What one HTTP/1.1 head may cost.
    pub fn head_limits(&self) -> HeadLimits {
        let limits = &self.config.limits;
        HeadLimits {
            bytes: limits.head_bytes,
            time: Duration::from_secs(limits.head_seconds),
        }
    }

    /// What a client of HTTP/2 may ask for.
    pub fn http2_limits(&self, protocol: Protocol) -> Http2Limits {
        let limits = &self.config.limits;
        Http2Limits {
            streams: limits.streams,
            head_bytes: limits.head_bytes,
            has_trailers: protocol == Protocol::Grpc,
        }
    }

    /// Resolves when nothing new should begin: a moment after the drain did, so that peers have heard of it.
    pub async fn closing(&self) {
        self.tasks.draining().cancelled().await;
        tokio::time::sleep(LINGER.min(self.config.drain / 2)).await;
    }
}

impl Deref for Shared {
    type Target = Sidecar;

    fn deref(&self) -> &Sidecar {
        &self.sidecar
    }
}

struct Listener {
    name: &'static str,
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Listener {
    async fn run<S, F>(self, serve: S) -> Result<(), io::Error>
    where
        S: Fn(Arc<Shared>, TcpStream, SocketAddr, Arc<Place>) -> F + Send,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut closing = pin!(self.shared.closing());
        let door = Door::new(self.name, &self.shared);
        loop {
            let (stream, from) = tokio::select! {
                () = closing.as_mut() => break,
                taken = self.listener.accept() => match taken {
                    Ok(taken) => taken,
                    Err(error) => {
                        // Out of descriptors, or the peer is gone already: neither ends the listener.
                        tracing::warn!(listener = self.name, %error, "cannot accept");
                        tokio::time::sleep(AFTER_ACCEPT_FAILED).await;
                        continue;
                    }
                },
            };
            door.take(stream, |stream, place| {
                serve(Arc::clone(&self.shared), stream, from, place)
            });
        }
        for (stream, from) in waiting(self.listener)? {
            door.take(stream, |stream, place| {
                serve(Arc::clone(&self.shared), stream, from, place)
            });
        }
        Ok(())
    }
}

/// Closes a listener; gives those who have connected to it and were not accepted yet. Closing alone would reset them.
fn waiting(listener: TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    // Asked of the system itself: the runtime may not have heard of them yet.
    let listener = listener.into_std()?;
    std::iter::from_fn(|| listener.accept().ok())
        .take(MOST_WAITING)
        .map(|(stream, from)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, from))
        })
        .collect()
}

/// Counts the connections of one listener, and lets in as many as its limit allows.
struct Door {
    name: &'static str,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    accepted: Counter,
    over_limit: Counter,
    open: Gauge,
}

impl Door {
    fn new(name: &'static str, shared: &Arc<Shared>) -> Self {
        let label = ListenerLabel { listener: name };
        let metrics = &shared.metrics;
        Self {
            name,
            shared: Arc::clone(shared),
            places: Arc::new(Semaphore::new(shared.config.limits.connections)),
            accepted: metrics.accepted.get_or_create(&label).clone(),
            over_limit: metrics.over_limit.get_or_create(&label).clone(),
            open: metrics.open.get_or_create(&label).clone(),
        }
    }

    fn take<F>(&self, stream: TcpStream, serve: impl FnOnce(TcpStream, Arc<Place>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.accepted.inc();
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            self.over_limit.inc();
            return;
        };
        let place = Arc::new(Place::of(permit, &self.open));
        let served = serve(stream, Arc::clone(&place));
        self.shared.tasks.connection(
            self.name,
            Box::pin(async move {
                let _place = place;
                served.await;
            }),
        );
    }
}

/// One of a listener's places, held by whatever a connection became.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Place {
    pub(crate) fn of(permit: OwnedSemaphorePermit, open: &Gauge) -> Self {
        open.inc();
        Self {
            _permit: permit,
            open: open.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Sweeps the pool, at once when the own SVID or the view changes, and empties it when the process drains.
async fn keep_pool(shared: Arc<Shared>) -> Result<(), io::Error> {
    let mut closing = pin!(shared.closing());
    let mut changes = shared.current.subscribe();
    let mut watching = true;
    loop {
        tokio::select! {
            () = closing.as_mut() => {
                shared.outlets.close();
                shared.connections.end();
                return Ok(());
            }
            changed = changes.changed(), if watching => watching = changed.is_ok(),
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        shared.outlets.sweep();
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })?;
    // Those that are accepted have it from their listener. Only latency suffers where it cannot be set.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&bound, true);
    Ok(bound)
}

const AFTER_ACCEPT_FAILED: Duration = Duration::from_millis(100);
/// How long connections are still taken when the process drains.
const LINGER: Duration = Duration::from_millis(500);
/// More than a system queues.
const MOST_WAITING: usize = 4096;
const SWEEP_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_connected_when_a_listener_closes_is_served_and_who_comes_later_is_refused() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let early: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let mut expected: Vec<_> = early.iter().map(|one| one.local_addr().unwrap()).collect();
        let mut found: Vec<_> = waiting(listener)
            .unwrap()
            .iter()
            .map(|(_, from)| *from)
            .collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        let late = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    }
}
