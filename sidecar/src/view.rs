//! What this sidecar enforces: one immutable snapshot behind an atomic swap, with one writer (the keeper).
//!
//! Invariant: what could not be read is here too, as a service that is unreadable in its direction, so that nobody mistakes it for absent
//! policy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use tokio::sync::watch;
use weft_catalog::Mesh;
use weft_identity::{DnsLabel, Revocations, ServiceName, SpiffeId, TrustBundle, TrustDomain};
use weft_policy::PolicySet;
use weft_wire::{InboundView, OutboundView};

/// Everything that a verdict depends on, as of one revision.
pub struct Enforced {
    /// Tells it from every other one.
    pub generation: Generation,
    /// The store's revision that the control plane sent last.
    pub revision: u64,
    pub trust_domain: TrustDomain,
    /// The identity of the workload beside this sidecar.
    pub own_id: SpiffeId,
    /// Services that the workload may call.
    pub outbound: HashMap<ServiceName, Arc<OutboundService>>,
    /// Those of them that are outside of the mesh.
    pub external: Vec<Arc<OutboundService>>,
    /// Services that the workload offers.
    pub inbound: HashMap<ServiceName, Arc<InboundService>>,
    /// Services that the workload may perhaps call; their resource could not be read: calls to them are denied.
    pub unreadable_outbound: HashSet<ServiceName>,
    /// Services that the workload offers; their resource could not be read: calls of them are denied.
    pub unreadable_inbound: HashSet<ServiceName>,
    /// The revocations could not be read: nobody can be believed.
    pub revocations_unreadable: bool,
    pub revocations: Arc<Revocations>,
    pub bundle: Arc<TrustBundle>,
    pub mesh: Mesh,
    /// There is no complete first view, or no control plane was heard for `maxStale`: everything is denied.
    pub stale: bool,
}

/// A service that the workload may call, and the compiled policy for it.
pub struct OutboundService {
    pub view: OutboundView,
    pub policy: PolicySet,
}

/// A service that the workload offers, and the compiled policy for it.
pub struct InboundService {
    pub view: InboundView,
    pub policy: PolicySet,
}

impl Enforced {
    /// Before anything was heard: everything is denied.
    pub fn nothing_heard(own_id: SpiffeId, bundle: Arc<TrustBundle>) -> Self {
        Self {
            generation: Generation::next(),
            revision: 0,
            trust_domain: own_id.trust_domain(),
            own_id,
            outbound: HashMap::new(),
            external: Vec::new(),
            inbound: HashMap::new(),
            unreadable_outbound: HashSet::new(),
            unreadable_inbound: HashSet::new(),
            revocations_unreadable: false,
            revocations: Arc::new(Revocations::default()),
            bundle,
            mesh: Mesh::default(),
            stale: true,
        }
    }

    /// Whether a namespace is one that this view knows, so that `name.namespace` is a mesh name and not a name of the outside.
    pub fn knows_namespace(&self, is_it: impl Fn(&DnsLabel) -> bool) -> bool {
        let own = self
            .own_id
            .workload()
            .is_some_and(|workload| is_it(&workload.namespace));
        own || self
            .inbound
            .keys()
            .chain(self.outbound.keys())
            .any(|service| is_it(&service.namespace))
    }

    /// The next moment after `now` at which a rule expires, and with it what it alone allowed.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let outbound = self.outbound.values().map(|service| &service.policy);
        let inbound = self.inbound.values().map(|service| &service.policy);
        outbound
            .chain(inbound)
            .filter_map(|policy| policy.next_expiry(now))
            .min()
    }
}

/// A number that no other snapshot of this process has: the revision may stay while what is enforced changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

impl Generation {
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The one `Enforced` that is in force; clones share it.
#[derive(Clone)]
pub struct Current {
    shared: Arc<Shared>,
}

struct Shared {
    enforced: ArcSwap<Enforced>,
    revision: watch::Sender<u64>,
}

impl Current {
    pub fn new(first: Enforced) -> Self {
        let revision = watch::Sender::new(first.revision);
        Self {
            shared: Arc::new(Shared {
                enforced: ArcSwap::from_pointee(first),
                revision,
            }),
        }
    }

    /// What is in force now. Hold it for one decision, not for a connection.
    pub fn load(&self) -> Guard<Arc<Enforced>> {
        self.shared.enforced.load()
    }

    /// What is in force now, to keep for longer than a decision.
    pub fn load_full(&self) -> Arc<Enforced> {
        self.shared.enforced.load_full()
    }

    /// Changes at each swap, also when the revision stays the same.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Puts a snapshot in force. Whoever calls this re-checks live connections afterwards.
    pub(crate) fn publish(&self, enforced: Arc<Enforced>) {
        let revision = enforced.revision;
        self.shared.enforced.store(enforced);
        self.shared.revision.send_replace(revision);
    }
}
