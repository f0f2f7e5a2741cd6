//! Every connected identity's view, kept up to date by what changed.
//!
//! A view is computed once, when the first sidecar of an identity connects, and shared by its replicas. From then on a
//! commit recomputes only the resources of identities that the index names; the counter says how many that were.

mod compute;
mod index;
mod plan;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::watch;
use weft_identity::{DnsLabel, RuleName, ServiceName, SpiffeId, WorkloadName};
use weft_policy::Rule;

pub(crate) use compute::{local_workload, rules_for};
use index::Index;
use plan::Work;
pub use view::{Item, Kind, View};
use weft_wire::{resource_name, v1};

use crate::world::{Changes, World};

/// All views; clones share them.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    world: ArcSwap<World>,
    /// The revision whose views are out.
    revision: watch::Sender<u64>,
    recomputed: AtomicU64,
}

struct State {
    world: Arc<World>,
    index: Index,
    connected: BTreeMap<SpiffeId, Connected>,
    /// The same for everyone.
    bundle: Arc<Item>,
    mesh: Arc<Item>,
    /// Which identities a revision touched, newest last.
    touched: VecDeque<(u64, Arc<[SpiffeId]>)>,
    expiries: BTreeSet<(Timestamp, RuleName, ServiceName)>,
    learning_ends: BTreeSet<(Timestamp, DnsLabel)>,
}

struct Connected {
    view: watch::Sender<Arc<View>>,
    streams: usize,
}

/// A sidecar's hold on its identity's view, which lives as long as somebody holds it.
pub struct Subscription {
    shared: Arc<Shared>,
    id: SpiffeId,
    view: watch::Receiver<Arc<View>>,
}

impl Views {
    pub fn new(world: World) -> Self {
        let revision = world.revision;
        let world = Arc::new(world);
        let state = State::of(Arc::clone(&world));
        let shared = Shared {
            state: Mutex::new(state),
            world: ArcSwap::new(world),
            revision: watch::Sender::new(revision),
            recomputed: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The mesh as views show it now.
    pub fn world(&self) -> Arc<World> {
        self.shared.world.load_full()
    }

    /// The revision that every view has taken in.
    pub fn revision(&self) -> u64 {
        *self.shared.revision.borrow()
    }

    /// Resolves when every view has taken in this revision.
    pub async fn reached(&self, revision: u64) {
        let mut revisions = self.shared.revision.subscribe();
        // The sender is in `self`, so the wait cannot be cut off.
        let _ = revisions.wait_for(|reached| *reached >= revision).await;
    }

    /// How many resources of views have been computed.
    pub fn recomputed(&self) -> u64 {
        self.shared.recomputed.load(Ordering::Relaxed)
    }

    /// Number of identities with a connected sidecar.
    pub fn connected(&self) -> usize {
        self.shared.lock().connected.len()
    }

    /// Holds on to the view of an identity, computing it if nobody else does.
    pub fn subscribe(&self, id: &SpiffeId) -> Subscription {
        let mut state = self.shared.lock();
        if !state.connected.contains_key(id) {
            let counted = state.connect(id, Timestamp::now());
            self.shared.count(counted);
        }
        let view = match state.connected.get_mut(id) {
            Some(connected) => {
                connected.streams += 1;
                connected.view.subscribe()
            }
            // Unreachable: `connect` has just put it. An empty view is a closed one.
            None => watch::Sender::new(Arc::default()).subscribe(),
        };
        Subscription {
            shared: Arc::clone(&self.shared),
            id: id.clone(),
            view,
        }
    }

    /// Takes in what one commit changed.
    pub fn update(&self, world: World, changes: &Changes) {
        self.change(|state| {
            let plan = state.take_in(Arc::new(world), changes);
            (state.carry_out(plan, Timestamp::now()), true)
        });
    }

    /// Takes in a world of which it is not known what changed.
    pub fn replace(&self, world: World) {
        self.change(|state| {
            let ids = state.restart(Arc::new(world));
            let plan = ids.into_iter().map(|id| (id, Work::everything())).collect();
            (state.carry_out(plan, Timestamp::now()), true)
        });
    }

    /// Closes what rules, and namespaces that learnt, opened whose time is over.
    pub fn expire(&self, now: Timestamp) {
        self.change(|state| {
            let plan = state.expired(now);
            (state.carry_out(plan, now), false)
        });
    }

    /// When the next rule expires, or the next namespace learns no longer.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let state = self.shared.lock();
        let rule = state.expiries.first().map(|(expires, ..)| *expires);
        let namespace = state.learning_ends.first().map(|(until, _)| *until);
        rule.into_iter().chain(namespace).min()
    }

    /// The last revision that changed an identity's view; `None`: no sidecar of it is connected.
    pub fn required(&self, id: &SpiffeId) -> Option<u64> {
        let state = self.shared.lock();
        state
            .connected
            .get(id)
            .map(|connected| connected.view.borrow().revision)
    }

    /// Connected identities whose view a revision changed, in order. For a revision of long ago: all whose view is as new.
    pub fn touched_by(&self, revision: u64) -> Vec<SpiffeId> {
        let state = self.shared.lock();
        if state
            .touched
            .front()
            .is_some_and(|(oldest, _)| *oldest <= revision)
            || revision >= state.world.revision
        {
            let entries = state
                .touched
                .iter()
                .filter(|(touched, _)| *touched == revision);
            let ids: BTreeSet<&SpiffeId> = entries.flat_map(|(_, ids)| ids.iter()).collect();
            return ids.into_iter().cloned().collect();
        }
        let is_newer = |connected: &Connected| connected.view.borrow().revision >= revision;
        state
            .connected
            .iter()
            .filter(|(_, connected)| is_newer(connected))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Connected identities that a rule names as its sources.
    pub fn sources_of(&self, rule: &Rule) -> BTreeSet<SpiffeId> {
        let state = self.shared.lock();
        state.index.sources_among(rule, &state.connected)
    }

    /// Connected identities that may offer a service now, or that an edit lets offer it.
    pub fn offering(&self, service: &ServiceName, also: &[WorkloadName]) -> BTreeSet<SpiffeId> {
        let state = self.shared.lock();
        let trust_domain = &state.world.trust_domain;
        let also = also
            .iter()
            .map(|workload| SpiffeId::for_workload(trust_domain, workload))
            .filter(|id| state.connected.contains_key(id));
        also.chain(state.offering(service)).collect()
    }

    /// Connected identities that a namespace in learn mode is open to.
    pub fn learners(&self) -> BTreeSet<SpiffeId> {
        let state = self.shared.lock();
        let local = |id: &&SpiffeId| state.index.is_local_workload(id);
        state.connected.keys().filter(local).cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut State) -> (u64, bool)) {
        let mut state = self.shared.lock();
        let (counted, is_new_world) = change(&mut state);
        self.shared.count(counted);
        if is_new_world {
            self.shared.world.store(Arc::clone(&state.world));
            self.shared.revision.send_replace(state.world.revision);
        }
    }
}

impl Subscription {
    /// Whether the view changed after one revision and up to another. What is no longer known counts as changed, and for
    /// whoever has nothing (0) everything is new.
    pub fn has_changed(&self, after: u64, until: u64) -> bool {
        if after >= until.min(self.view.borrow().revision) {
            return false;
        }
        after == 0 || self.shared.lock().has_touched(&self.id, after, until)
    }

    pub fn current(&mut self) -> Arc<View> {
        Arc::clone(&self.view.borrow_and_update())
    }

    /// Resolves when there is a view that [`Subscription::current`] has not shown.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            // The sender lives as long as this hold does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let Some(connected) = state.connected.get_mut(&self.id) else {
            return;
        };
        connected.streams -= 1;
        if connected.streams == 0 {
            state.disconnect(&self.id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while a view is computed is a defect of that view; the next change computes it anew.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, counted: u64) {
        self.recomputed.fetch_add(counted, Ordering::Relaxed);
    }
}

impl State {
    fn of(world: Arc<World>) -> Self {
        let index = Index::of(&world);
        let rules = world.services().flat_map(|(_, entry)| entry.rules.values());
        let expiries = rules.filter_map(|rule| expiry(rule)).collect();
        let learning = world.learning();
        let learning_ends = learning.map(|(namespace, until)| (until, namespace.clone()));
        let learning_ends = learning_ends.collect();
        Self {
            index,
            connected: BTreeMap::new(),
            bundle: Item::new(world.bundle.as_ref()),
            mesh: Item::new(&v1::MeshSettings::from(&world.mesh)),
            touched: VecDeque::new(),
            expiries,
            learning_ends,
            world,
        }
    }

    /// Begins anew with another world; answers who is connected.
    fn restart(&mut self, world: Arc<World>) -> Vec<SpiffeId> {
        let connected = std::mem::take(&mut self.connected);
        *self = Self::of(world);
        for (id, connected) in &connected {
            let view = connected.view.borrow();
            for name in view
                .of(Kind::Outbound)
                .keys()
                .filter_map(|name| name.parse().ok())
            {
                self.index.set_seen(&name, id, true);
            }
        }
        self.connected = connected;
        self.connected.keys().cloned().collect()
    }

    fn connect(&mut self, id: &SpiffeId, now: Timestamp) -> u64 {
        let view = Arc::new(View::new(self.world.revision));
        self.connected.insert(
            id.clone(),
            Connected {
                view: watch::Sender::new(view),
                streams: 0,
            },
        );
        let (view, counted) = self.computed(id, &Work::everything(), now);
        if let (Some(view), Some(connected)) = (view, self.connected.get(id)) {
            connected.view.send_replace(Arc::new(view));
        }
        counted
    }

    fn disconnect(&mut self, id: &SpiffeId) {
        let Some(connected) = self.connected.remove(id) else {
            return;
        };
        let view = connected.view.borrow();
        for name in view
            .of(Kind::Outbound)
            .keys()
            .filter_map(|name| name.parse().ok())
        {
            self.index.set_seen(&name, id, false);
        }
    }

    fn has_touched(&self, id: &SpiffeId, after: u64, until: u64) -> bool {
        let oldest = self.touched.front().map(|(oldest, _)| *oldest);
        if oldest.is_none_or(|oldest| oldest > after + 1) {
            return true;
        }
        let first = self
            .touched
            .partition_point(|(touched, _)| *touched <= after);
        let asked = self.touched.range(first..);
        let mut asked = asked.take_while(|(touched, _)| *touched <= until);
        asked.any(|(_, ids)| ids.contains(id))
    }

    /// Recomputes what the plan says, publishes the views that differ, and answers how much was computed.
    fn carry_out(&mut self, plan: BTreeMap<SpiffeId, Work>, now: Timestamp) -> u64 {
        let mut counted = 0;
        let mut touched = Vec::new();
        for (id, work) in plan {
            let (view, computed) = self.computed(&id, &work, now);
            counted += computed;
            if let (Some(view), Some(connected)) = (view, self.connected.get(&id)) {
                connected.view.send_replace(Arc::new(view));
                touched.push(id);
            }
        }
        if !touched.is_empty() || self.touched.is_empty() {
            self.touched
                .push_back((self.world.revision, touched.into()));
        }
        if self.touched.len() > TOUCHED_KEPT {
            self.touched.pop_front();
        }
        counted
    }

    /// The view of an identity after some work, if that changes it, and how many resources were computed.
    fn computed(&mut self, id: &SpiffeId, work: &Work, now: Timestamp) -> (Option<View>, u64) {
        let Some(connected) = self.connected.get(id) else {
            return (None, 0);
        };
        let mut view = View::clone(&connected.view.borrow());
        let mut has_changed = false;
        let mut counted = 0;
        for name in work.outbound_of(&view, &self.index, id) {
            let item =
                compute::outbound(&self.world, id, &name, now).map(|outbound| Item::new(&outbound));
            self.index.set_seen(&name, id, item.is_some());
            has_changed |= view.put(Kind::Outbound, &name.to_string(), item);
            counted += 1;
        }
        for name in work.inbound_of(&view, &self.index, id) {
            let item = compute::inbound(&self.world, id, &name).map(|inbound| Item::new(&inbound));
            has_changed |= view.put(Kind::Inbound, &name.to_string(), item);
            counted += 1;
        }
        if work.has_revocations {
            let (seen, offered) = (names(&view, Kind::Outbound), names(&view, Kind::Inbound));
            let met = (seen.as_slice(), offered.as_slice());
            let item = Item::new(&compute::revocations(&self.world, id, met, now));
            has_changed |= view.put(Kind::Revocations, resource_name::REVOCATIONS, Some(item));
        }
        // Before the CA was made there is nothing to trust, and nobody can connect.
        has_changed |= view.put(
            Kind::Bundle,
            resource_name::BUNDLE,
            Some(Arc::clone(&self.bundle)),
        );
        has_changed |= view.put(
            Kind::Mesh,
            resource_name::MESH,
            Some(Arc::clone(&self.mesh)),
        );
        view.revision = self.world.revision;
        (has_changed.then_some(view), counted)
    }
}

fn names(view: &View, kind: Kind) -> Vec<ServiceName> {
    view.of(kind)
        .keys()
        .filter_map(|name| name.parse().ok())
        .collect()
}

fn expiry(rule: &Rule) -> Option<(Timestamp, RuleName, ServiceName)> {
    rule.expires
        .map(|expires| (expires, rule.name.clone(), rule.service.clone()))
}

/// Revisions of which is remembered whom they touched.
const TOUCHED_KEPT: usize = 4096;

#[cfg(test)]
mod tests;
