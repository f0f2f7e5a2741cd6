//! What the mesh's services share: the store, the views of it, and who is connected.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tonic::{Request, Status};
use weft_daemon::Tasks;
use weft_identity::{SpiffeId, TrustDomain, WorkloadName};

use crate::audit::Auditor;
use crate::authorize::Caller;
use crate::leases::{self, Leases};
use crate::reports::Reports;
use crate::rollout::Rollouts;
use crate::store::{Commit, Lagged, Rows, Store, StoreError, Table, Watch};
use crate::views::Views;
use crate::world::{World, WorldError};
use crate::{decisions, flows};

/// What the hub needs to start.
pub struct HubConfig {
    pub store: Store,
    pub auditor: Auditor,
    pub tasks: Tasks,
    pub trust_domain: TrustDomain,
    /// How long endpoints stay after their sidecar was lost.
    pub lease_grace: Duration,
}

/// The state that the services share.
pub struct Hub {
    pub(crate) store: Store,
    pub(crate) auditor: Auditor,
    pub(crate) tasks: Tasks,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) history: History,
    pub(crate) leases: Leases,
    pub(crate) decision_reports: Reports,
    pub(crate) flow_reports: Reports,
    pub views: Views,
    pub rollouts: Rollouts,
}

impl Hub {
    /// Loads the world, and follows the store from then on.
    pub fn start(config: HubConfig) -> Result<Arc<Self>, WorldError> {
        let HubConfig {
            store,
            auditor,
            tasks,
            trust_domain,
            lease_grace,
        } = config;
        let watch = store.watch();
        let reader = store.read()?;
        let world = World::load(&trust_domain, &reader)?;
        // Somebody was issued an SVID, so somebody may be about to come back.
        let has_sidecars = !reader
            .rows(Table::Lineages, Bound::Unbounded, 1)?
            .is_empty();
        let hub = Arc::new(Self {
            history: History::from(world.revision),
            leases: Leases::new(lease_grace, &reader.endpoints()?),
            decision_reports: Reports::new(decisions::LIMITS),
            flow_reports: Reports::new(flows::LIMITS),
            rollouts: Rollouts::new(has_sidecars),
            views: Views::new(world),
            store,
            auditor,
            tasks,
            trust_domain,
        });
        hub.tasks.vital("world", follow(Arc::clone(&hub), watch));
        let expiring = Arc::clone(&hub);
        hub.tasks
            .background("leases", move || leases::expire(Arc::clone(&expiring)));
        Ok(hub)
    }
}

/// Takes in every commit, in order, and closes what rules opened when they expire.
async fn follow(hub: Arc<Hub>, mut watch: Watch) -> Result<(), WorldError> {
    loop {
        let next = hub.views.next_expiry();
        tokio::select! {
            biased;
            commit = watch.next() => match commit {
                Ok(commit) => take_in(&hub, commit)?,
                Err(Lagged::Missed(missed)) => {
                    tracing::warn!(missed, "the world fell behind the store and is read anew");
                    reload(&hub)?;
                }
                Err(Lagged::Closed) => return Err(WorldError::Closed),
            },
            () = until(next) => hub.views.expire(Timestamp::now()),
        }
    }
}

fn take_in(hub: &Hub, commit: Arc<Commit>) -> Result<(), WorldError> {
    let world = hub.views.world();
    if commit.revision <= world.revision {
        return Ok(());
    }
    let mut world = World::clone(&world);
    let changes = world.apply(&commit, || hub.store.read())?;
    hub.views.update(world, &changes);
    hub.history.push(commit);
    Ok(())
}

fn reload(hub: &Hub) -> Result<(), WorldError> {
    let world = World::load(&hub.trust_domain, &hub.store.read()?)?;
    hub.history.restart(world.revision);
    hub.views.replace(world);
    Ok(())
}

/// Looks at the clock now and then, as it may be set.
async fn until(time: Option<Timestamp>) {
    let left = time.map(|time| time.duration_since(Timestamp::now()));
    let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
    tokio::time::sleep(left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)).await;
}

/// The last commits, for those who come back and ask what they missed.
pub(crate) struct History(Mutex<Kept>);

struct Kept {
    /// Every commit after this revision is kept.
    after: u64,
    commits: VecDeque<Arc<Commit>>,
}

impl History {
    fn from(revision: u64) -> Self {
        Self(Mutex::new(Kept {
            after: revision,
            commits: VecDeque::new(),
        }))
    }

    fn restart(&self, revision: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Kept {
            after: revision,
            commits: VecDeque::new(),
        };
    }

    fn push(&self, commit: Arc<Commit>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.commits.push_back(commit);
        if kept.commits.len() > COMMITS_KEPT
            && let Some(dropped) = kept.commits.pop_front()
        {
            kept.after = dropped.revision;
        }
    }

    /// What happened after a revision; `None`: that is no longer known.
    pub(crate) fn after(&self, revision: u64) -> Option<Vec<Arc<Commit>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = kept
            .commits
            .back()
            .map_or(kept.after, |commit| commit.revision);
        if revision < kept.after || revision > newest {
            return None;
        }
        Some(
            kept.commits
                .iter()
                .filter(|commit| commit.revision > revision)
                .cloned()
                .collect(),
        )
    }
}

/// The verified caller.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let caller = request.extensions().get::<Caller>();
    caller
        .map(|caller| caller.id.clone())
        .ok_or_else(|| Status::unauthenticated("no verified identity"))
}

/// The verified caller, which must be a workload.
pub(crate) fn caller_workload<T>(request: &Request<T>) -> Result<(SpiffeId, WorkloadName), Status> {
    let id = caller(request)?;
    let workload = id.workload().filter(|workload| !workload.is_reserved());
    let workload = workload.ok_or_else(|| Status::permission_denied("only for workloads"))?;
    Ok((id, workload))
}

/// What went wrong inside is for the log, not for the caller.
pub(crate) fn internal(error: StoreError) -> Status {
    tracing::error!(error = %error, "the store failed a request");
    match error {
        StoreError::Stopped => Status::unavailable("the control plane is stopping"),
        _ => Status::internal("the store failed; see the control plane's log"),
    }
}

const LONGEST_SLEEP: Duration = Duration::from_secs(30);
const COMMITS_KEPT: usize = 1024;

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
