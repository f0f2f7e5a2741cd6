//! Flows: every verdict that is made here, counted, and reported in aggregates.
//!
//! A request like the one before it on its connection costs a comparison and two stores; any other a look into the table of its worker. What
//! reaches a server is counted by the server's sidecar, what the client's own sidecar refuses by that one.
//!
//! Invariant: nothing that a peer sends makes a table, or what is sent from it, grow past its limits. What did not fit is told less exactly, then
//! only counted as dropped, and both are reported; no verdict is ever told as another one.

mod entry;
mod recent;
mod report;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use weft_daemon::CancellationToken;
use weft_identity::{RuleName, ServicePort, SpiffeId};
use weft_policy::{EncodedSlashes, HttpRequest, PolicySet, Reason};

use crate::enforce::{Permit, Refusal, Side};
use crate::metrics::Metrics;
use crate::view::Enforced;
use entry::Candidate;
pub use recent::Recent;
pub(crate) use report::report;
use table::{Recorded, Table};

/// The flows of the process; clones share them.
#[derive(Clone)]
pub struct Flows {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Arc<Metrics>,
    /// Entries of one worker's table at most.
    limit: usize,
    workers: Mutex<Vec<Arc<WorkerFlows>>>,
    outbox: Mutex<report::Outbox>,
    /// Set when the process leaves: report what there is.
    leave: CancellationToken,
    /// Set when that was done.
    left: CancellationToken,
}

/// The flows that one worker's connections make.
pub struct WorkerFlows {
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
}

/// What a verdict was, as its place knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Judged<'a> {
    Allowed(&'a RuleName),
    /// Passed without a rule.
    Learned(Reason),
    Denied(Reason),
}

/// One request, judged.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub source: &'a SpiffeId,
    pub target: &'a ServicePort,
    pub request: &'a HttpRequest<'a>,
    pub judged: Judged<'a>,
    /// What judged it, on which side.
    pub enforced: &'a Enforced,
    pub side: Side,
}

impl<'a> Asked<'a> {
    /// The rules that it was for, and how their service takes encoded slashes. `None`: there were none to look at.
    fn policy(&self) -> Option<(&'a PolicySet, EncodedSlashes)> {
        let name = &self.target.service;
        match self.side {
            Side::Client => {
                let service = self.enforced.outbound.get(name)?;
                Some((&service.policy, service.view.encoded_slashes))
            }
            Side::Server => {
                let service = self.enforced.inbound.get(name)?;
                Some((&service.policy, service.view.encoded_slashes))
            }
        }
    }
}

impl<'a> Judged<'a> {
    pub fn of(verdict: Result<&'a Permit, &Refusal>) -> Self {
        match verdict {
            Ok(permit) => permit.judged(),
            Err(refusal) => Self::Denied(refusal.reason),
        }
    }
}

impl Flows {
    /// For a process with so many workers.
    pub fn new(metrics: Arc<Metrics>, workers: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                metrics,
                limit: (ENTRIES / workers.max(1)).max(ENTRIES_AT_LEAST),
                workers: Mutex::default(),
                outbox: Mutex::new(report::Outbox::new()),
                leave: CancellationToken::new(),
                left: CancellationToken::new(),
            }),
        }
    }

    /// A table for one more worker.
    pub fn of_worker(&self) -> Arc<WorkerFlows> {
        let flows = Arc::new(WorkerFlows {
            table: Mutex::new(Table::new(self.shared.limit)),
            metrics: Arc::clone(&self.shared.metrics),
        });
        lock(&self.shared.workers).push(Arc::clone(&flows));
        flows
    }

    /// Reports what there is, if that can be done soon.
    pub(crate) async fn leave(&self) {
        self.shared.leave.cancel();
        self.shared.left.cancelled().await;
    }
}

impl WorkerFlows {
    /// Counts a connection of bytes.
    pub fn connection(&self, source: &SpiffeId, target: &ServicePort, judged: Judged<'_>) {
        let candidate = Candidate {
            source,
            target,
            judged,
            request: None,
        };
        let recorded = self.table().record(&candidate, Timestamp::now());
        self.tell(recorded.as_ref());
    }

    /// Counts a request. `recent` is its connection's.
    pub fn request(&self, recent: &mut Recent, asked: &Asked<'_>, now: Timestamp) {
        if let Some(is_folded) = recent.count_again(asked, now) {
            if is_folded {
                self.table().count_folded();
                self.metrics.flows_folded.inc();
            }
            return;
        }
        let recorded = self.table().record_request(asked, now);
        self.tell(recorded.as_ref());
        recent.remember(asked, recorded);
    }

    fn tell(&self, recorded: Option<&Recorded>) {
        match recorded {
            Some(recorded) if recorded.is_folded => {
                self.metrics.flows_folded.inc();
            }
            Some(_) => {}
            None => {
                self.metrics.flows_dropped.inc();
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// Whatever panicked in the midst of a change miscounted at most.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Flows that the process keeps apart: about a kilobyte each at most.
const ENTRIES: usize = 4096;
const ENTRIES_AT_LEAST: usize = 512;
