//! Connections between sidecars that many streams share, by endpoint and expected identity.
//!
//! Where the other side does not speak `weft/1`, each stream is a connection of its own.

#[cfg(test)]
mod planted;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use weft_identity::SpiffeId;

use super::Target;
use crate::Sidecar;
use crate::dial::{DialError, Dialler, Whom, is_usable};
use crate::mux::{self, Carried, Mux, Role};
use crate::stream::Stream;
use crate::tls::{ALPN_HTTP1, ALPN_MUX, ALPN_TCP, Peer, TlsError};

pub struct SharedConnections {
    sidecar: Arc<Sidecar>,
    dialler: Dialler,
    peers: Mutex<HashMap<(SocketAddr, SpiffeId), Arc<Connections>>>,
    /// Nothing is kept any more: a connection lives as long as what it was dialled for.
    closed: AtomicBool,
}

/// What a client found last, so that it need not be looked up for each request.
#[derive(Default)]
pub struct Known(Option<(SocketAddr, SpiffeId, Arc<Connections>)>);

impl Known {
    fn of(
        &mut self,
        whom: Whom<'_>,
        look_up: impl FnOnce() -> Arc<Connections>,
    ) -> Arc<Connections> {
        match &self.0 {
            Some((address, identity, connections))
                if *address == whom.address && identity == whom.identity =>
            {
                Arc::clone(connections)
            }
            _ => {
                let connections = look_up();
                let known = (
                    whom.address,
                    whom.identity.clone(),
                    Arc::clone(&connections),
                );
                self.0 = Some(known);
                connections
            }
        }
    }
}

/// The connections to one endpoint.
struct Connections {
    open: Mutex<Vec<Shared>>,
    /// One dials for all that wait for a stream.
    dialling: Semaphore,
    /// When one last dialled in vain.
    failed_at: Mutex<Option<Instant>>,
}

/// A new stream.
pub struct Opened {
    pub stream: Stream,
    pub peer: Arc<Peer>,
    /// Its connection is new too. One that served others may have been closed by the peer meanwhile.
    pub is_fresh: bool,
}

struct Shared {
    mux: Mux,
    peer: Arc<Peer>,
    used: Instant,
    /// As the last sweep found them.
    uses: u64,
}

impl SharedConnections {
    pub fn new(sidecar: Arc<Sidecar>, dialler: Dialler) -> Self {
        Self {
            sidecar,
            dialler,
            peers: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// A stream for HTTP that waits for its next use by the same target.
    pub fn reuse(
        &self,
        whom: Whom<'_>,
        target: &Target,
        known: &mut Known,
    ) -> Option<(Stream, Arc<Peer>)> {
        let connections = known.of(whom, || self.connections(whom));
        let open = connections.open();
        let mut usable = open.iter().filter(|shared| self.is_usable(shared));
        usable.find_map(|shared| {
            let stream = shared.mux.reuse(&target.name)?;
            Some((Stream::Mux(stream), Arc::clone(&shared.peer)))
        })
    }

    /// A new stream to an endpoint.
    pub async fn open(
        &self,
        whom: Whom<'_>,
        target: &Target,
        carried: Carried,
    ) -> Result<Opened, DialError> {
        let server_name = &target.name;
        let connections = self.connections(whom);
        if let Some(opened) = self.open_at_once(&connections, carried, server_name) {
            return Ok(opened);
        }
        let asked = Instant::now();
        // Nobody closes the semaphore.
        let _dialling = connections.dialling.acquire().await;
        if let Some(opened) = self.open_at_once(&connections, carried, server_name) {
            return Ok(opened);
        }
        // Who waited while another one failed would only fail the same way, one after the other.
        if connections.failed_since(asked) {
            return Err(DialError::Neighbour);
        }
        let dialled = Box::pin(self.dial(whom, server_name, carried, &connections)).await;
        if dialled.is_err() {
            connections.note_failure();
        }
        dialled
    }

    /// Drops connections that nobody used for so long, and asks those that may take no further stream to end.
    pub fn sweep(&self, limit: Duration) {
        self.peers().retain(|_, connections| {
            let mut open = connections.open();
            open.retain_mut(|shared| {
                let uses = shared.mux.uses();
                if shared.mux.busy() > 0 || uses != shared.uses {
                    shared.uses = uses;
                    shared.used = Instant::now();
                }
                let stays = shared.used.elapsed() < limit && self.is_usable(shared);
                if !stays {
                    shared.mux.go_away();
                }
                stays
            });
            !open.is_empty() || Arc::strong_count(connections) > 1
        });
    }

    /// Opens nothing more on what is open, and keeps nothing that is dialled from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for (_, connections) in self.peers().drain() {
            connections
                .open()
                .drain(..)
                .for_each(|shared| shared.mux.go_away());
        }
    }

    fn open_at_once(
        &self,
        connections: &Connections,
        carried: Carried,
        server_name: &str,
    ) -> Option<Opened> {
        let open = connections.open();
        let usable = open.iter().filter(|shared| self.is_usable(shared));
        let best = usable.min_by_key(|shared| shared.mux.busy())?;
        let stream = best.mux.open(carried, server_name)?;
        Some(Opened {
            stream: Stream::Mux(stream),
            peer: Arc::clone(&best.peer),
            is_fresh: false,
        })
    }

    fn is_usable(&self, shared: &Shared) -> bool {
        shared.mux.is_open() && is_usable(&self.sidecar, &shared.peer)
    }

    async fn dial(
        &self,
        whom: Whom<'_>,
        name: &str,
        carried: Carried,
        connections: &Connections,
    ) -> Result<Opened, DialError> {
        let alone = match carried {
            Carried::Http1 => ALPN_HTTP1,
            Carried::Tcp => ALPN_TCP,
        };
        let protocols = &[ALPN_MUX, alone];
        let (mut tls, peer) = self.dialler.dial_mesh(whom, name, protocols).await?;
        let peer = Arc::new(peer);
        if tls.get_ref().1.alpn_protocol() != Some(ALPN_MUX) {
            let stream = Stream::TlsClient(Box::new(tls));
            return Ok(Opened {
                stream,
                peer,
                is_fresh: true,
            });
        }
        tls.get_mut().1.set_buffer_limit(Some(mux::WRITTEN_AT_ONCE));
        let mux = Mux::new(Role::Client);
        let stream = mux.open(carried, name).ok_or(DialError::Name)?;
        mux::start(&self.sidecar, &mux, Box::new(tls));
        let (watched, registered) = (
            mux.clone(),
            self.sidecar
                .connections
                .register_peer(Arc::clone(&peer.proof)),
        );
        self.sidecar
            .tasks
            .connection("upstream weft/1 watch", async move {
                tokio::select! {
                    _ = registered.cut() => watched.abort(),
                    _ = watched.accept() => {}
                }
            });
        peer.proof
            .admit(&self.sidecar.current.load())
            .map_err(|refusal| DialError::Tls(TlsError::Refused(refusal)))?;
        connections.open().push(Shared {
            mux: mux.clone(),
            peer: Arc::clone(&peer),
            used: Instant::now(),
            uses: 0,
        });
        // Asked after it can be found: whoever closes finds it, or is found here.
        if self.closed.load(Ordering::Acquire) {
            mux.go_away();
        }
        let stream = Stream::Mux(stream);
        Ok(Opened {
            stream,
            peer,
            is_fresh: true,
        })
    }

    fn connections(&self, whom: Whom<'_>) -> Arc<Connections> {
        let key = (whom.address, whom.identity.clone());
        let mut peers = self.peers();
        let connections = peers.entry(key).or_insert_with(|| {
            Arc::new(Connections {
                open: Mutex::default(),
                dialling: Semaphore::new(1),
                failed_at: Mutex::default(),
            })
        });
        Arc::clone(connections)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<(SocketAddr, SpiffeId), Arc<Connections>>> {
        // Every change of the map is whole before it can panic.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
}
