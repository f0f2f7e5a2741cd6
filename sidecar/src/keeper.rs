//! The one writer of what is enforced.
//!
//! A change goes: convert, compile, swap, re-check live connections; the caller acknowledges only then. The keeper also knows how long ago
//! the control plane was heard, lets rules expire on live connections, and keeps the snapshot.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use weft_daemon::{Readiness, files};
use weft_wire::xds;

use crate::Sidecar;
use crate::bootstrap::chain_of;
use crate::identity::OwnSvid;
use crate::received::{Problem, Received};
use crate::runtime::Runtime;
use crate::snapshot::{Hearing, MacKey, Moment, Seal, Snapshot};

pub(crate) struct Keeper {
    sidecar: Arc<Sidecar>,
    runtime: Runtime,
    readiness: Readiness,
    received: Received,
    connected: bool,
    /// When the house was last kept, by the clock since boot; and until when a connection is not taken for hearing somebody.
    kept: Duration,
    doubtful_until: Duration,
    /// `None`: not heard since this process started, and no snapshot says when.
    heard: Option<Moment>,
    /// A change, or a new key, that the snapshot lacks.
    dirty: bool,
    /// Of the snapshot that this process wrote last.
    seal: Option<Seal>,
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
            kept: Duration::ZERO,
            doubtful_until: Duration::ZERO,
            heard: None,
            dirty: false,
            seal: None,
            written_at: None,
            next_expiry: None,
            announced: false,
        }
    }

    /// Serves from the snapshot of an earlier process, if it is genuine and recent enough.
    pub(crate) fn restore(&mut self, previous: Option<MacKey>) {
        let refuse = |error| tracing::warn!(error = %chain_of(&error), "the snapshot is refused");
        let content = match self.runtime.read_snapshot() {
            Ok(content) => content,
            Err(error) if error.is_not_found() => return,
            Err(error) => return refuse(error),
        };
        let hearing = match self.runtime.read_hearing() {
            Ok(hearing) => Some(hearing),
            Err(error) if error.is_not_found() => None,
            Err(error) => return refuse(error),
        };
        let keys: Vec<MacKey> = mac_key(&self.sidecar.identity.load())
            .into_iter()
            .chain(previous)
            .collect();
        let now = Moment::now();
        let mut restored = Received::new(
            self.sidecar.config.own_id.clone(),
            Arc::clone(&self.sidecar.current.load().bundle),
        );
        let opened =
            Snapshot::open(&content, hearing.as_deref(), &keys).and_then(|mut snapshot| {
                restored.restore(snapshot.revision, std::mem::take(&mut snapshot.resources));
                snapshot
                    .check_age(restored.mesh().max_stale(), now)
                    .map(|()| (snapshot.revision, snapshot.heard))
            });
        match opened {
            Ok((revision, heard)) => {
                tracing::info!(revision, heard_at = %heard.wall, "serving from the snapshot");
                self.heard = Some(heard);
                self.received = restored;
                self.enforce(now);
            }
            Err(error) => tracing::warn!(%error, "the snapshot is refused"),
        }
    }

    /// Applies a response; when this returns, it is in force, and live connections were judged by it.
    pub(crate) fn apply(&mut self, response: xds::DeltaDiscoveryResponse) -> Vec<Problem> {
        let problems = self.received.take(response);
        let now = Moment::now();
        if self.connected {
            self.heard = Some(now);
        }
        self.dirty = true;
        self.enforce(now);
        problems
    }

    /// The control plane is heard from now on, or no longer. Heard is who has told everything: what was told before a silence, together
    /// with a part of what is true now, is no view.
    pub(crate) fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
        self.sidecar
            .metrics
            .control_plane_connected
            .set(connected.into());
        if connected {
            let now = Moment::now();
            self.kept = now.since_boot;
            self.heard = Some(now);
            if self.sidecar.current.load().stale {
                self.enforce(now);
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
        let now = Moment::now();
        self.note_hearing(now);
        let turned_stale = !self.sidecar.current.load().stale && self.is_stale(now);
        let expired = self.next_expiry.is_some_and(|expiry| expiry <= now.wall);
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

    /// A connection is a hearing, but for one that slept with its host: whether it is alive shows a while after waking.
    fn note_hearing(&mut self, now: Moment) {
        let gap = now.since_boot.saturating_sub(self.kept);
        self.kept = now.since_boot;
        if gap > LONGEST_NAP * 2 {
            self.doubtful_until = now.since_boot + PROOF_OF_LIFE;
        }
        if self.connected && now.since_boot >= self.doubtful_until {
            self.heard = Some(now);
        }
    }

    /// Swap first, then re-check: whoever registers in between is judged by the new policy by itself.
    fn enforce(&mut self, now: Moment) {
        let enforced = Arc::new(self.received.enforced(self.is_stale(now)));
        self.next_expiry = enforced.next_expiry(now.wall);
        self.sidecar.current.publish(Arc::clone(&enforced));
        let cut = self.sidecar.connections.recheck(&enforced, now.wall);
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

    fn is_stale(&self, now: Moment) -> bool {
        let max_stale = self.received.mesh().max_stale();
        self.heard
            .is_none_or(|heard| heard.is_stale(max_stale, now))
    }

    fn write_snapshot(&mut self, now: Moment) {
        self.written_at = Some(tokio::time::Instant::now());
        let (Some(key), Some(heard)) = (mac_key(&self.sidecar.identity.load()), self.heard) else {
            return;
        };
        if !self.received.is_complete() {
            return;
        }
        // The folder is in memory, so that this does not wait for a disk.
        let written = match self.seal.filter(|_| !self.dirty) {
            Some(of) => {
                let written = now;
                let hearing = Hearing { heard, written, of };
                self.runtime.write_hearing(&hearing.seal(&key))
            }
            None => {
                let snapshot = Snapshot {
                    heard,
                    written: now,
                    revision: self.received.revision(),
                    resources: self.received.stored(),
                };
                let (content, seal) = snapshot.seal(&key);
                let written = self.runtime.write_snapshot(&content);
                if written.is_ok() {
                    // What was heard before is told by the snapshot itself, and may be under a key that is gone.
                    self.runtime.forget_hearing();
                }
                self.seal = written.is_ok().then_some(seal);
                written
            }
        };
        self.dirty = false;
        if let Err(error) = written {
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
        let now = Moment::now();
        let stale_in = self
            .heard
            .filter(|_| !self.connected && !self.sidecar.current.load().stale)
            .map(|heard| {
                let left = self.received.mesh().max_stale();
                left.saturating_sub(heard.silence(now)) + JUST_AFTER
            });
        let expires_in = self
            .next_expiry
            .map(|expiry| Duration::try_from(expiry.duration_since(now.wall)).unwrap_or_default());
        [stale_in, expires_in]
            .into_iter()
            .flatten()
            .chain([self.snapshot_due(), LONGEST_NAP])
            .min()
            .unwrap_or(LONGEST_NAP)
    }
}

/// The snapshot's key under this SVID, on this boot of this host. Without a boot id no snapshot is kept.
pub(crate) fn mac_key(svid: &OwnSvid) -> Option<MacKey> {
    files::boot_id().map(|boot| MacKey::derive(&svid.key_pkcs8, &boot, &files::host_id()))
}

/// What turns stale is stale after the moment, not at it.
const JUST_AFTER: Duration = Duration::from_millis(1);
/// Changes that come close together are written once.
const COALESCE: Duration = Duration::from_millis(200);
const REWRITE_EVERY: Duration = Duration::from_secs(10);
const LONGEST_NAP: Duration = Duration::from_secs(10);
/// A dead connection is noticed within this.
const PROOF_OF_LIFE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
