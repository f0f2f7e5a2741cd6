//! Waiting until a revision is enforced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use weft_identity::SpiffeId;
use weft_wire::{v1, write_duration, write_timestamp};

use super::{Rollouts, Sidecar, SidecarKey};
use crate::hub::Hub;
use crate::streams;

/// Streams the progress of one revision until every sidecar that it affects, or that lacks an earlier one, and that may
/// still answer has acknowledged it, or the timeout. It is done when nobody is pending, lost ones included, and when
/// whoever is not known yet has had the time to come.
pub(crate) async fn wait(
    hub: Arc<Hub>,
    request: v1::WaitRolloutRequest,
    statuses: mpsc::Sender<Result<v1::RolloutStatus, Status>>,
) {
    let started = Instant::now();
    let timeout = request
        .timeout
        .and_then(|timeout| Duration::try_from(timeout).ok())
        .unwrap_or(DEFAULT_TIMEOUT);
    let deadline = started + timeout.min(LONGEST_TIMEOUT);
    let mut changes = hub.rollouts.changes();
    let mut goal = hub.rollouts.goal(request.revision);
    let has_begun = tokio::time::timeout_at(deadline, hub.views.reached(request.revision))
        .await
        .is_ok();
    let mut last = None;
    loop {
        changes.mark_unchanged();
        // Before anybody is looked at: who comes later is not missed.
        let now = Instant::now();
        let is_settled = now >= hub.rollouts.settled_at();
        goal.touched = hub.views.touched_by(request.revision);
        let progress = hub.rollouts.progress(&mut goal);
        let is_over = (progress.awaited == 0 && is_settled) || now >= deadline;
        let shown = (
            progress.affected,
            progress.acknowledged,
            progress.pending.len(),
        );
        if is_over || last != Some(shown) {
            last = Some(shown);
            let is_done = has_begun && is_settled && progress.pending.is_empty();
            let status = rollout_status(progress, is_done, started.elapsed());
            if statuses.send(Ok(status)).await.is_err() || is_over {
                return;
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = statuses.closed() => return,
            () = tokio::time::sleep_until(deadline.min(now + LOOK_AGAIN)) => {}
        }
    }
}

/// What one wait is about.
pub(super) struct Goal {
    pub(super) revision: u64,
    /// Identities whose view it changed, in order.
    pub(super) touched: Vec<SpiffeId>,
    /// Streams with a higher number are of sidecars that came while it was waited for; what they had is not known.
    since: u64,
    /// Whoever counted once counts to the end.
    counted: BTreeSet<SidecarKey>,
}

impl Goal {
    fn concerns(&self, key: &SidecarKey, sidecar: &Sidecar) -> bool {
        self.touched.binary_search(&key.id).is_ok()
            || sidecar.stream > self.since
            || sidecar.lacks(self.revision)
    }
}

#[derive(Default)]
pub(super) struct Progress {
    pub(super) affected: usize,
    pub(super) acknowledged: usize,
    /// Pending ones that may still answer.
    pub(super) awaited: usize,
    pub(super) pending: Vec<v1::PendingSidecar>,
}

impl Rollouts {
    /// To wait for a revision. Whoever is here before everybody can be has just come back.
    pub(super) fn goal(&self, revision: u64) -> Goal {
        let _no_stream_begins = self.shared.lock();
        let is_settled = Instant::now() >= self.settled_at();
        Goal {
            revision,
            touched: Vec::new(),
            since: if is_settled { streams::latest() } else { 0 },
            counted: BTreeSet::new(),
        }
    }

    /// Where the sidecars stand that a revision concerns. One that lacks an earlier change counts whatever this one
    /// changed: an edit that is applied again, unchanged, is answered with a revision that others may have made.
    pub(super) fn progress(&self, goal: &mut Goal) -> Progress {
        let mut sidecars = self.shared.lock();
        let now = Timestamp::now();
        sidecars.forget_gone(now);
        let mut progress = Progress::default();
        for (key, sidecar) in &sidecars.by_key {
            if !goal.counted.contains(key) {
                if !goal.concerns(key, sidecar) {
                    continue;
                }
                goal.counted.insert(key.clone());
            }
            progress.affected += 1;
            if sidecar.enforces(goal.revision) {
                progress.acknowledged += 1;
                continue;
            }
            progress.awaited += usize::from(sidecar.may_answer(now));
            progress.pending.push(v1::PendingSidecar {
                instance: key.instance.clone(),
                spiffe_id: key.id.to_string(),
                last_heard: Some(write_timestamp(sidecar.last_heard)),
                nack: sidecar.nack.clone(),
            });
        }
        progress
    }
}

fn rollout_status(progress: Progress, done: bool, elapsed: Duration) -> v1::RolloutStatus {
    let mut pending = progress.pending;
    pending.truncate(PENDING_SHOWN);
    v1::RolloutStatus {
        affected: u32::try_from(progress.affected).unwrap_or(u32::MAX),
        acknowledged: u32::try_from(progress.acknowledged).unwrap_or(u32::MAX),
        done,
        pending,
        elapsed: Some(write_duration(elapsed)),
    }
}

/// Time passes without a change, too.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Pending sidecars that one status names.
const PENDING_SHOWN: usize = 100;
