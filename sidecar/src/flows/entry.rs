//! One flow with its counters, and what is compared with it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use weft_identity::{ServicePort, SpiffeId};
use weft_policy::{
    Flow, FlowHost, FlowKey, FlowRequest, FoldedPath, HeaderCondition, HeaderSeen,
    Judged as FlowJudged,
};

use super::Judged;

/// A flow, counted by its worker and read by the reporter.
pub(super) struct Entry {
    key: Key,
    /// How exactly it tells its requests.
    level: usize,
    count: AtomicU64,
    /// Milliseconds since 1970.
    last_seen: AtomicI64,
    first_seen: i64,
    /// The reporter's: how much of the count was taken, when, and for which report.
    taken: AtomicU64,
    taken_at: AtomicI64,
    taken_for: AtomicU64,
}

struct Key {
    source: SpiffeId,
    target: ServicePort,
    judged: FlowJudged,
    request: Option<RequestKey>,
}

struct RequestKey {
    method: Box<str>,
    host: FlowHost,
    path: Option<FoldedPath>,
    headers: Arc<[HeaderCondition]>,
    seen: Box<[HeaderSeen]>,
    upgrade: Option<Box<str>>,
    connect: bool,
}

/// A flow as it is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Candidate<'a> {
    pub(super) source: &'a SpiffeId,
    pub(super) target: &'a ServicePort,
    pub(super) judged: Judged<'a>,
    pub(super) request: Option<RequestCandidate<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestCandidate<'a> {
    pub(super) method: &'a str,
    pub(super) host: HostCandidate<'a>,
    /// Folded.
    pub(super) path: Option<&'a str>,
    pub(super) headers: &'a Arc<[HeaderCondition]>,
    pub(super) seen: &'a [HeaderSeen],
    pub(super) upgrade: Option<&'a str>,
    pub(super) connect: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum HostCandidate<'a> {
    None,
    Named(&'a str),
    Folded,
}

/// All but the conditions: those are many, and seldom differ where all else is equal.
impl Hash for RequestCandidate<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.method.hash(state);
        self.host.hash(state);
        self.path.hash(state);
        self.seen.hash(state);
        self.upgrade.hash(state);
        self.connect.hash(state);
    }
}

impl Entry {
    /// Counted once. `None`: its path is none that is recorded.
    pub(super) fn first(candidate: &Candidate<'_>, now: Timestamp) -> Option<Self> {
        let request = match &candidate.request {
            None => None,
            Some(request) => Some(RequestKey {
                method: request.method.into(),
                host: match request.host {
                    HostCandidate::None => FlowHost::None,
                    HostCandidate::Named(name) => FlowHost::Named(name.into()),
                    HostCandidate::Folded => FlowHost::Folded,
                },
                path: match request.path {
                    None => None,
                    Some(path) => Some(path.parse().ok()?),
                },
                headers: Arc::clone(request.headers),
                seen: request.seen.into(),
                upgrade: request.upgrade.map(Into::into),
                connect: request.connect,
            }),
        };
        let now = now.as_millisecond();
        Some(Self {
            key: Key {
                source: candidate.source.clone(),
                target: candidate.target.clone(),
                judged: match candidate.judged {
                    Judged::Allowed(rule) => FlowJudged::Allowed(rule.clone()),
                    Judged::Learned(reason) => FlowJudged::Learned(reason),
                    Judged::Denied(reason) => FlowJudged::Denied(reason),
                },
                request,
            },
            level: 0,
            count: AtomicU64::new(1),
            last_seen: AtomicI64::new(now),
            first_seen: now,
            taken: AtomicU64::new(0),
            taken_at: AtomicI64::new(now),
            taken_for: AtomicU64::new(0),
        })
    }

    pub(super) fn at_level(self, level: usize) -> Self {
        Self { level, ..self }
    }

    pub(super) fn level(&self) -> usize {
        self.level
    }

    pub(super) fn count(&self, now: Timestamp) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_seen
            .store(now.as_millisecond(), Ordering::Relaxed);
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        let request = self.key.request.as_ref().map(|request| RequestCandidate {
            method: &request.method,
            host: match &request.host {
                FlowHost::None => HostCandidate::None,
                FlowHost::Named(name) => HostCandidate::Named(name),
                FlowHost::Folded => HostCandidate::Folded,
            },
            path: request.path.as_ref().map(FoldedPath::as_str),
            headers: &request.headers,
            seen: &request.seen,
            upgrade: request.upgrade.as_deref(),
            connect: request.connect,
        });
        Candidate {
            source: &self.key.source,
            target: &self.key.target,
            judged: self.judged(),
            request,
        }
    }

    pub(super) fn judged(&self) -> Judged<'_> {
        match &self.key.judged {
            FlowJudged::Allowed(rule) => Judged::Allowed(rule),
            FlowJudged::Learned(reason) => Judged::Learned(*reason),
            FlowJudged::Denied(reason) => Judged::Denied(*reason),
        }
    }

    /// How the conditions came out.
    pub(super) fn seen(&self) -> (&[HeaderCondition], &[HeaderSeen]) {
        match &self.key.request {
            Some(request) => (&request.headers, &request.seen),
            None => (&[], &[]),
        }
    }

    /// What was counted since it was last taken; `None`: nothing.
    pub(super) fn take(&self, report: u64, now: Timestamp) -> Option<Flow> {
        self.taken_for.store(report, Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        let taken = self.taken.swap(count, Ordering::Relaxed);
        let taken_at = self.taken_at.swap(now.as_millisecond(), Ordering::Relaxed);
        if count == taken {
            return None;
        }
        let time = |millis| Timestamp::from_millisecond(millis).unwrap_or(now);
        let last_seen = time(self.last_seen.load(Ordering::Relaxed));
        let first_seen = match taken {
            0 => time(self.first_seen),
            _ => time(taken_at),
        };
        Some(Flow {
            key: self.flow_key(),
            count: count.saturating_sub(taken),
            first_seen: first_seen.min(last_seen),
            last_seen,
        })
    }

    /// Whether there is something to take that the same report does not hold already: what goes on counting would fill it alone.
    pub(super) fn is_due(&self, report: u64) -> bool {
        !self.is_taken() && self.taken_for.load(Ordering::Relaxed) != report
    }

    pub(super) fn is_taken(&self) -> bool {
        self.count.load(Ordering::Relaxed) == self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn idle_millis(&self, now: Timestamp) -> i64 {
        now.as_millisecond()
            .saturating_sub(self.last_seen.load(Ordering::Relaxed))
    }

    fn flow_key(&self) -> FlowKey {
        let request = self.key.request.as_ref().map(|request| FlowRequest {
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            headers: request
                .headers
                .iter()
                .cloned()
                .zip(request.seen.iter().copied())
                .collect(),
            upgrade: request.upgrade.clone(),
            connect: request.connect,
        });
        FlowKey {
            source: self.key.source.clone(),
            target: self.key.target.clone(),
            request,
            judged: self.key.judged.clone(),
        }
    }
}
