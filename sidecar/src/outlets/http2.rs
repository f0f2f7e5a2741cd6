//! Connections of HTTP/2 to the application beside this sidecar, each for many requests at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use weft_catalog::Protocol;

use crate::Sidecar;
use crate::dial::{DialError, Dialler};
use crate::http1::Side;
use crate::http2::{self, Http2, Http2Stream, Limits, Role};
use crate::stream::Stream;

pub(super) struct Http2Apps {
    sidecar: Arc<Sidecar>,
    dialler: Dialler,
    apps: Mutex<HashMap<(SocketAddr, Protocol), Arc<App>>>,
    /// Nothing is kept any more: a connection lives as long as what it was dialled for.
    closed: AtomicBool,
}

/// The connections to one address.
struct App {
    open: Mutex<Vec<Kept>>,
    /// One dials for all that wait.
    dialling: Semaphore,
}

struct Kept {
    http2: Http2,
    used: Instant,
}

impl Http2Apps {
    pub(super) fn new(sidecar: Arc<Sidecar>, dialler: Dialler) -> Self {
        Self {
            sidecar,
            dialler,
            apps: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// A place for requests one after the other, and whether its connection is new.
    pub(super) async fn open(
        &self,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<(Http2Stream, bool), DialError> {
        let app = Arc::clone(self.apps().entry((address, protocol)).or_default());
        if let Some(stream) = app.open_at_once() {
            return Ok((stream, false));
        }
        // Nobody closes the semaphore.
        let _dialling = app.dialling.acquire().await;
        if let Some(stream) = app.open_at_once() {
            return Ok((stream, false));
        }
        let socket = self.dialler.dial(address).await?;
        let limits = Limits {
            streams: 0,
            head_bytes: MOST_HEAD,
            has_trailers: protocol == Protocol::Grpc,
        };
        let http2 = Http2::new(Role::Client, limits);
        let stream = http2.open().ok_or(DialError::Neighbour)?;
        let patience = Duration::from_secs(self.sidecar.config.limits.head_seconds);
        let side = Side::new(Stream::Tcp(socket));
        http2::start(&self.sidecar, &http2, side, patience);
        app.kept().push(Kept {
            http2: http2.clone(),
            used: Instant::now(),
        });
        // Asked after it can be found: whoever closes finds it, or is found here.
        if self.closed.load(Ordering::Acquire) {
            http2.go_away();
        }
        Ok((stream, true))
    }

    /// Ends connections that nobody used for so long.
    pub(super) fn sweep(&self, limit: Duration) {
        self.apps().retain(|_, app| {
            let mut kept = app.kept();
            kept.retain_mut(|kept| {
                if kept.http2.held() > 0 {
                    kept.used = Instant::now();
                }
                let stays = kept.http2.is_open() && kept.used.elapsed() < limit;
                if !stays {
                    kept.http2.go_away();
                }
                stays
            });
            !kept.is_empty() || Arc::strong_count(app) > 1
        });
    }

    /// Keeps nothing from now on; what is in use ends with its exchange.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for (_, app) in self.apps().drain() {
            app.kept().drain(..).for_each(|kept| kept.http2.go_away());
        }
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<(SocketAddr, Protocol), Arc<App>>> {
        // Every change of the map is whole before it can panic.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            dialling: Semaphore::new(1),
        }
    }
}

impl App {
    fn open_at_once(&self) -> Option<Http2Stream> {
        self.kept().iter().find_map(|kept| kept.http2.open())
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest head of a response.
const MOST_HEAD: usize = 64 * 1024;
