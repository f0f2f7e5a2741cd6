//! Who enforces which revision: what every connected sidecar must have, what it acknowledged, when it was last heard.
//!
//! A sidecar that was lost (not one that left) stays listed for a while, so that nobody takes its silence for consent.

mod wait;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use weft_daemon::CancellationToken;
use weft_identity::SpiffeId;
use weft_wire::{v1, write_timestamp};

use crate::hub::Hub;
use crate::streams;
use crate::views::Subscription;
pub(crate) use wait::wait;

/// One sidecar process: several of one identity are its replicas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SidecarKey {
    pub id: SpiffeId,
    pub instance: String,
}

/// What a sidecar must enforce: the view of its identity.
pub trait Required: Send + Sync {
    /// Whether it changed after one revision and up to another.
    fn has_changed(&self, after: u64, until: u64) -> bool;
}

impl Required for Subscription {
    fn has_changed(&self, after: u64, until: u64) -> bool {
        Subscription::has_changed(self, after, until)
    }
}

/// What a sidecar says about itself when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub version: String,
    pub policy_schema: u32,
}

/// All sidecars that are connected or were lost a short while ago.
#[derive(Clone)]
pub struct Rollouts {
    shared: Arc<Shared>,
}

struct Shared {
    sidecars: Mutex<Sidecars>,
    /// Moves with everything that a waiter could wait for.
    changes: watch::Sender<u64>,
    /// Before then, sidecars of an earlier process may live that are not known yet.
    settled_at: Instant,
}

#[derive(Default)]
struct Sidecars {
    by_key: BTreeMap<SidecarKey, Sidecar>,
    /// When to forget whom.
    gone: BTreeSet<(Timestamp, SidecarKey)>,
}

#[derive(Clone)]
struct Sidecar {
    stream: u64,
    /// Cancelled when a newer stream of the sidecar begins.
    replaced: CancellationToken,
    announced: Announced,
    /// Held as long as the sidecar is remembered, so that what a lost one misses is known.
    required: Arc<dyn Required>,
    acknowledged: u64,
    nack: String,
    last_heard: Timestamp,
    lost_at: Option<Timestamp>,
    forget_at: Option<Timestamp>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The sidecar closed it: it is going away, or is about to open another.
    Left,
    Lost,
}

/// A sidecar's stream while it lives. Dropped, it counts as lost.
pub struct Tracked {
    shared: Arc<Shared>,
    key: SidecarKey,
    stream: u64,
    replaced: CancellationToken,
    ended: Ended,
}

/// Why a sidecar cannot be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {SIDECARS_PER_IDENTITY} sidecars of one identity")]
pub struct TooManySidecars;

impl Rollouts {
    /// Of a mesh that has no sidecars yet, or some that are about to come back: a restarted control plane knows nobody.
    pub fn new(has_sidecars: bool) -> Self {
        let (changes, _) = watch::channel(0);
        let settling = if has_sidecars {
            SETTLING
        } else {
            Duration::ZERO
        };
        Self {
            shared: Arc::new(Shared {
                sidecars: Mutex::default(),
                changes,
                settled_at: Instant::now() + settling,
            }),
        }
    }

    pub fn connect(
        &self,
        key: SidecarKey,
        announced: Announced,
        required: impl Required + 'static,
    ) -> Result<Tracked, TooManySidecars> {
        let now = Timestamp::now();
        let replaced = CancellationToken::new();
        let stream = {
            let mut sidecars = self.shared.lock();
            sidecars.forget_gone(now);
            let replicas = sidecars
                .replicas(&key.id)
                .filter(|(known, _)| **known != key)
                .count();
            if replicas >= SIDECARS_PER_IDENTITY && !sidecars.forget_longest_lost(&key.id) {
                return Err(TooManySidecars);
            }
            let stream = streams::next();
            let nack = String::new();
            let sidecar = Sidecar {
                stream,
                replaced: replaced.clone(),
                announced,
                required: Arc::new(required),
                acknowledged: 0,
                nack,
                last_heard: now,
                lost_at: None,
                forget_at: None,
            };
            if let Some(older) = sidecars.by_key.insert(key.clone(), sidecar) {
                older.replaced.cancel();
                sidecars.not_gone(&key, &older);
            }
            stream
        };
        self.shared.changed();
        Ok(Tracked {
            shared: Arc::clone(&self.shared),
            key,
            stream,
            replaced,
            ended: Ended::Lost,
        })
    }

    /// A connected sidecar of one of these identities that cannot read this schema.
    pub fn cannot_read<'a>(
        &self,
        schema: u32,
        ids: impl IntoIterator<Item = &'a SpiffeId>,
    ) -> Option<SidecarKey> {
        let sidecars = self.shared.lock();
        ids.into_iter().find_map(|id| {
            let mut replicas = sidecars.replicas(id);
            let cannot = |sidecar: &Sidecar| {
                sidecar.lost_at.is_none() && sidecar.announced.policy_schema < schema
            };
            replicas
                .find(|(_, sidecar)| cannot(sidecar))
                .map(|(key, _)| key.clone())
        })
    }

    /// When every sidecar that lives has had the time to come back; in the past for a control plane that runs.
    fn settled_at(&self) -> Instant {
        self.shared.settled_at
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Everyone who is known, lost ones included.
    fn snapshot(&self) -> BTreeMap<SidecarKey, Sidecar> {
        let mut sidecars = self.shared.lock();
        sidecars.forget_gone(Timestamp::now());
        sidecars.by_key.clone()
    }
}

impl Tracked {
    /// Resolves when the sidecar has begun a newer stream.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// The sidecar said something.
    pub fn touch(&self) {
        self.update(|sidecar| sidecar.last_heard = Timestamp::now());
    }

    /// Where the sidecar stands now.
    pub fn heard(&self, acknowledged: u64, nack: String) {
        let has_changed = self.update(|sidecar| {
            let has_changed = sidecar.acknowledged != acknowledged || sidecar.nack != nack;
            sidecar.acknowledged = acknowledged;
            sidecar.nack = nack;
            has_changed
        });
        if has_changed == Some(true) {
            self.shared.changed();
        }
    }

    pub fn end(mut self, ended: Ended) {
        self.ended = ended;
    }

    fn update<T>(&self, change: impl FnOnce(&mut Sidecar) -> T) -> Option<T> {
        let mut sidecars = self.shared.lock();
        let sidecar = sidecars
            .by_key
            .get_mut(&self.key)
            .filter(|sidecar| sidecar.stream == self.stream)?;
        Some(change(sidecar))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let now = Timestamp::now();
        self.shared
            .lock()
            .end(&self.key, self.stream, self.ended, now);
        self.shared.changed();
    }
}

impl Sidecar {
    /// It is here and said so, and nothing is in its way: what it refused denies instead.
    fn enforces(&self, revision: u64) -> bool {
        self.lost_at.is_none() && self.nack.is_empty() && !self.lacks(revision)
    }

    /// Whether something that it must enforce at a revision is not acknowledged.
    fn lacks(&self, revision: u64) -> bool {
        self.required.has_changed(self.acknowledged, revision)
    }

    /// It is connected, or may be about to come back.
    fn may_answer(&self, now: Timestamp) -> bool {
        self.lost_at
            .is_none_or(|lost_at| now.duration_since(lost_at) < RETURN_GRACE)
    }
}

impl Sidecars {
    fn end(&mut self, key: &SidecarKey, stream: u64, ended: Ended, now: Timestamp) {
        let Some(sidecar) = self
            .by_key
            .get_mut(key)
            .filter(|sidecar| sidecar.stream == stream)
        else {
            return;
        };
        let forget_at = now
            + match ended {
                Ended::Left => LEFT_KEPT,
                Ended::Lost => LOST_KEPT,
            };
        sidecar.lost_at = Some(now);
        sidecar.forget_at = Some(forget_at);
        self.gone.insert((forget_at, key.clone()));
    }

    fn replicas(&self, id: &SpiffeId) -> impl Iterator<Item = (&SidecarKey, &Sidecar)> + use<'_> {
        let first = SidecarKey {
            id: id.clone(),
            instance: String::new(),
        };
        let id = id.clone();
        self.by_key
            .range(first..)
            .take_while(move |(key, _)| key.id == id)
    }

    fn forget_gone(&mut self, now: Timestamp) {
        while self
            .gone
            .first()
            .is_some_and(|(forget_at, _)| *forget_at <= now)
        {
            let Some((_, key)) = self.gone.pop_first() else {
                return;
            };
            self.by_key.remove(&key);
        }
    }

    /// Makes room for another sidecar of an identity; answers whether one was lost.
    fn forget_longest_lost(&mut self, id: &SpiffeId) -> bool {
        let lost = self
            .replicas(id)
            .filter_map(|(key, sidecar)| Some((sidecar.lost_at?, key)));
        let Some(key) = lost.min().map(|(_, key)| key.clone()) else {
            return false;
        };
        if let Some(sidecar) = self.by_key.remove(&key) {
            self.not_gone(&key, &sidecar);
        }
        true
    }

    /// Keeps `gone` to those who are listed as gone.
    fn not_gone(&mut self, key: &SidecarKey, sidecar: &Sidecar) {
        if let Some(forget_at) = sidecar.forget_at {
            self.gone.remove(&(forget_at, key.clone()));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sidecars> {
        // Every change is one assignment, so a panic elsewhere left nothing half done.
        self.sidecars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes
            .send_modify(|change| *change = change.wrapping_add(1));
    }
}

/// Every sidecar that is known, for operators.
pub fn list(hub: &Hub) -> v1::ListSidecarsResponse {
    let mut required: HashMap<SpiffeId, u64> = HashMap::new();
    let sidecars = hub.rollouts.snapshot().into_iter().map(|(key, sidecar)| {
        let required_revision = *required
            .entry(key.id.clone())
            .or_insert_with(|| hub.views.required(&key.id).unwrap_or_default());
        v1::Sidecar {
            instance: key.instance,
            spiffe_id: key.id.to_string(),
            connected: sidecar.lost_at.is_none(),
            acknowledged_revision: sidecar.acknowledged,
            required_revision,
            last_heard: Some(write_timestamp(sidecar.last_heard)),
            nack: sidecar.nack,
            version: sidecar.announced.version,
            policy_schema: sidecar.announced.policy_schema,
        }
    });
    v1::ListSidecarsResponse {
        sidecars: sidecars.collect(),
        revision: hub.views.revision(),
    }
}

/// How long sidecars take to find a control plane that was started again.
const SETTLING: Duration = Duration::from_secs(5);
/// How long a lost sidecar stays listed: one that cannot reach the control plane enforces what it has.
const LOST_KEPT: SignedDuration = SignedDuration::from_secs(600);
/// How long one that left does: a renewed SVID makes a sidecar close its stream and open another.
const LEFT_KEPT: SignedDuration = SignedDuration::from_secs(3);
/// How long a lost sidecar is waited for: it may be about to come back, with a new SVID or after a hiccup.
const RETURN_GRACE: SignedDuration = SignedDuration::from_secs(5);
const SIDECARS_PER_IDENTITY: usize = 1000;

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
