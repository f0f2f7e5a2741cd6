//! The one writer of what is enforced.
//!
//! A change goes: convert, compile, swap, re-check live connections; the caller acknowledges only then. The keeper also knows how long ago
//! the control plane was heard, lets rules expire on live connections, and keeps the snapshot.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weft_daemon::{Readiness, files};
use weft_wire::xds;

use crate::Sidecar;
use crate::bootstrap::chain_of;
use crate::identity::OwnSvid;
use crate::received::{Problem, Received};
use crate::runtime::Runtime;
use crate::snapshot::{MacKey, Snapshot, is_stale};

pub(crate) struct Keeper {
    sidecar: Arc<Sidecar>,
    runtime: Runtime,
    readiness: Readiness,
    received: Received,
    connected: bool,
    /// `None`: not heard since this process started, and no snapshot says when.
    heard_at: Option<Timestamp>,
    /// A change, or a new key, that the snapshot lacks.
    dirty: bool,
    written_at: Option<tokio::time::Instant>,
    next_expiry: Option<Timestamp>,
    announced: bool,
}

impl Keeper {
    pub(crate) fn new(
        sidecar: Arc<Sidecar>,
        runtime: Runtime,
        readiness: Readiness,
        received: Received,
    ) -> Self {
        Self {
            sidecar,
            runtime,
            readiness,
            received,
            connected: false,
            heard_at: None,
            dirty: false,
            written_at: None,
            next_expiry: None,
            announced: false,
        }
    }

    /// Serves from the snapshot of an earlier process, if it is genuine and recent enough.
    pub(crate) fn restore(&mut self, previous: Option<MacKey>) {
        let content = match self.runtime.read_snapshot() {
            Ok(content) => content,
            Err(error) if error.is_not_found() => return,
            Err(error) => {
                return tracing::warn!(error = %chain_of(&error), "the snapshot is refused");
            }
        };
        let keys: Vec<MacKey> = mac_key(&self.sidecar.identity.load())
            .into_iter()
            .chain(previous)
            .collect();
        let now = Timestamp::now();
        let mut restored = Received::new(
            self.sidecar.config.own_id.clone(),
            Arc::clone(&self.sidecar.current.load().bundle),
        );
        let opened = Snapshot::open(&content, &keys).and_then(|snapshot| {
            restored.restore(snapshot.revision, snapshot.resources.clone());
            snapshot
                .check_age(restored.mesh().max_stale(), now)
                .map(|()| snapshot)
        });
        match opened {
            Ok(snapshot) => {
                tracing::info!(revision = snapshot.revision, heard_at = %snapshot.heard_at, "serving from the snapshot");
                self.heard_at = Some(snapshot.heard_at);
                self.received = restored;
                self.enforce(now);
            }
            Err(error) => tracing::warn!(%error, "the snapshot is refused"),
        }
    }

    /// Applies a response; when this returns, it is in force, and live connections were judged by it.
    pub(crate) fn apply(&mut self, response: xds::DeltaDiscoveryResponse) -> Vec<Problem> {
        let problems = self.received.take(response);
        self.heard_at = Some(Timestamp::now());
        self.dirty = true;
        self.enforce(Timestamp::now());
        problems
    }

    /// The control plane is heard from now on, or no longer.
    pub(crate) fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
        self.sidecar
            .metrics
            .control_plane_connected
            .set(connected.into());
        if connected {
            self.heard_at = Some(Timestamp::now());
            if self.sidecar.current.load().stale {
                self.enforce(Timestamp::now());
            }
        }
    }

    /// The own key changed: the snapshot needs a new MAC.
    pub(crate) fn key_changed(&mut self) {
        self.dirty = true;
    }

    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    /// Waits for a future and keeps the house meanwhile.
    pub(crate) async fn while_keeping<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let nap = self.until_due();
            tokio::select! {
                biased;
                output = &mut future => return output,
                () = tokio::time::sleep(nap) => self.keep(),
            }
        }
    }

    fn keep(&mut self) {
        let now = Timestamp::now();
        if self.connected {
            self.heard_at = Some(now);
        }
        let turned_stale = !self.sidecar.current.load().stale && self.is_stale(now);
        let expired = self.next_expiry.is_some_and(|expiry| expiry <= now);
        if turned_stale {
            tracing::error!(
                "no control plane was heard for maxStale: everything is denied until one is"
            );
        }
        if turned_stale || expired {
            self.enforce(now);
        }
        if self.snapshot_due() == Duration::ZERO {
            self.write_snapshot(now);
        }
    }

    /// Swap first, then re-check: whoever registers in between is judged by the new policy by itself.
    fn enforce(&mut self, now: Timestamp) {
        let enforced = Arc::new(self.received.enforced(self.is_stale(now)));
        self.next_expiry = enforced.next_expiry(now);
        self.sidecar.current.publish(Arc::clone(&enforced));
        let cut = self.sidecar.connections.recheck(&enforced, now);
        let metrics = &self.sidecar.metrics;
        metrics.cut.inc_by(u64::try_from(cut).unwrap_or(u64::MAX));
        metrics
            .enforced_revision
            .set(i64::try_from(enforced.revision).unwrap_or(i64::MAX));
        metrics.stale.set(enforced.stale.into());
        if cut > 0 {
            tracing::info!(
                revision = enforced.revision,
                cut,
                "a change of policy cut what it no longer allows"
            );
        }
        // Once: who drains says that it is no longer ready, and that stands.
        if self.received.is_complete() && !self.announced {
            self.announced = true;
            self.readiness.set(true);
        }
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        let max_stale = self.received.mesh().max_stale();
        self.heard_at
            .is_none_or(|heard_at| is_stale(heard_at, max_stale, now))
    }

    fn write_snapshot(&mut self, now: Timestamp) {
        self.written_at = Some(tokio::time::Instant::now());
        let (Some(key), Some(heard_at)) = (mac_key(&self.sidecar.identity.load()), self.heard_at)
        else {
            return;
        };
        if !self.received.is_complete() {
            return;
        }
        self.dirty = false;
        let snapshot = Snapshot {
            heard_at,
            written_at: now,
            revision: self.received.revision(),
            resources: self.received.stored(),
        };
        // The folder is in memory, so that this does not wait for a disk.
        if let Err(error) = self.runtime.write_snapshot(&snapshot.seal(&key)) {
            tracing::warn!(error = %chain_of(&error), "the snapshot cannot be written");
        }
    }

    /// How long the snapshot may stay as it is.
    fn snapshot_due(&self) -> Duration {
        let between = match (self.dirty, self.connected) {
            (true, _) => COALESCE,
            (false, true) => REWRITE_EVERY,
            // Nothing new to say: the control plane was heard when it says.
            (false, false) => return LONGEST_NAP,
        };
        self.written_at
            .map_or(Duration::ZERO, |at| between.saturating_sub(at.elapsed()))
    }

    fn until_due(&self) -> Duration {
        let now = Timestamp::now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let stale_at = self
            .heard_at
            .filter(|_| !self.connected && !self.sidecar.current.load().stale)
            .and_then(|heard| {
                let max_stale = SignedDuration::try_from(self.received.mesh().max_stale()).ok()?;
                heard
                    .checked_add(max_stale)
                    .ok()?
                    .checked_add(SignedDuration::from_millis(1))
                    .ok()
            });
        [stale_at, self.next_expiry]
            .into_iter()
            .flatten()
            .map(until)
            .chain([self.snapshot_due(), LONGEST_NAP])
            .min()
            .unwrap_or(LONGEST_NAP)
    }
}

/// The snapshot's key under this SVID, on this boot of this host. Without a boot id no snapshot is kept.
pub(crate) fn mac_key(svid: &OwnSvid) -> Option<MacKey> {
    files::boot_id().map(|boot| MacKey::derive(&svid.key_pkcs8, &boot, &files::host_id()))
}

/// Changes that come close together are written once.
const COALESCE: Duration = Duration::from_millis(200);
const REWRITE_EVERY: Duration = Duration::from_secs(10);
const LONGEST_NAP: Duration = Duration::from_secs(10);
