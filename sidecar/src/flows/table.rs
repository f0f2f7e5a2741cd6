//! The bounded table of one worker's flows.
//!
//! When a method of one caller on one port has more distinct paths than are kept apart, further ones are told by their first segment, then
//! by none, then without their host, and what does not fit then is only counted. So one caller's flood costs only its own flows of that
//! method and verdict their exactness.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::ServicePort;
use weft_policy::{
    EncodedSlashes, Flow, FlowTerms, FoldedPath, HEADER_LIMIT, HeaderSeen, PolicySet, host_of,
    is_host, is_method, is_upgrade,
};

use super::entry::{Candidate, Entry, HostCandidate, RequestCandidate};
use super::{Asked, Judged};

pub(super) struct Table {
    limit: usize,
    /// By the hash of what makes a flow. Two that share one are not told apart: the second is dropped.
    entries: HashMap<u64, Arc<Entry>>,
    /// By caller and port.
    pairs: HashMap<u64, usize>,
    /// By caller, port, method and verdict: entries of each level.
    families: HashMap<u64, [usize; LEVELS]>,
    keys: RandomState,
    terms: HashMap<ServicePort, Terms>,
    no_terms: Arc<FlowTerms>,
    scratch: Scratch,
    loss: Loss,
}

/// Requests and connections that are in no flow, and those that are told less exactly; not yet reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Loss {
    pub(super) dropped: u64,
    pub(super) folded: u64,
}

/// What a request was counted as.
pub(super) struct Recorded {
    pub(super) entry: Arc<Entry>,
    /// The flow tells less of it than it could.
    pub(super) is_folded: bool,
}

/// Where a flow is kept, and what its room is counted with.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    pair: u64,
    family: u64,
    level: usize,
}

/// What a port's rules ask, and the set that it was made of.
struct Terms {
    of: PolicySet,
    slashes: EncodedSlashes,
    terms: Arc<FlowTerms>,
}

/// Used again for each request, so that one of a known flow allocates nothing.
#[derive(Default)]
struct Scratch {
    path: String,
    host: String,
    upgrade: String,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            entries: HashMap::new(),
            pairs: HashMap::new(),
            families: HashMap::new(),
            keys: RandomState::new(),
            terms: HashMap::new(),
            no_terms: Arc::default(),
            scratch: Scratch::default(),
            loss: Loss::default(),
        }
    }

    /// Counts a request. `None`: it is in no flow, and counted as that.
    pub(super) fn record_request(&mut self, asked: &Asked<'_>, now: Timestamp) -> Option<Recorded> {
        let request = asked.request;
        let is_told = is_method(request.method) && request.upgrade.is_none_or(is_upgrade);
        if !is_told {
            self.loss.dropped += 1;
            return None;
        }
        let terms = self.terms(asked);
        let mut seen = [HeaderSeen::Absent; HEADER_LIMIT];
        let mut count = 0;
        for (place, found) in seen.iter_mut().zip(terms.seen(request.headers)) {
            *place = found;
            count += 1;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        // The target of a plain CONNECT is no path.
        let has_path = !(request.connect && request.path.is_empty());
        if has_path {
            terms.fold_into(&mut scratch.path, request.path);
        }
        let host = host_in(&mut scratch.host, request.authority);
        let upgrade = request.upgrade.map(|upgrade| {
            lower_case(&mut scratch.upgrade, upgrade);
            scratch.upgrade.as_str()
        });
        let mut recorded = self.record(
            &Candidate {
                source: asked.source,
                target: asked.target,
                judged: asked.judged,
                request: Some(RequestCandidate {
                    method: request.method,
                    host,
                    path: has_path.then_some(scratch.path.as_str()),
                    headers: terms.headers(),
                    seen: seen.get(..count).unwrap_or_default(),
                    upgrade,
                    connect: request.connect,
                }),
            },
            now,
        );
        if let Some(recorded) = &mut recorded
            && host == HostCandidate::Folded
            && !recorded.is_folded
        {
            self.loss.folded += 1;
            recorded.is_folded = true;
        }
        self.scratch = scratch;
        recorded
    }

    /// Counts in the flow of that name, or in one that tells less of it. `None`: it is in no flow, and counted as that.
    pub(super) fn record(&mut self, candidate: &Candidate<'_>, now: Timestamp) -> Option<Recorded> {
        let mut place = Place {
            hash: 0,
            pair: self.hash(&(candidate.source, candidate.target)),
            family: self.hash(&family_of(candidate)),
            level: EXACT,
        };
        let levels = if candidate.request.is_some() {
            LEVELS
        } else {
            1
        };
        for level in 0..levels {
            let path = candidate.request.and_then(|request| request.path);
            let path = path.map(|path| told_at(level, path));
            let coarse = at_level(level, candidate, path.as_deref());
            place.hash = self.hash(&coarse);
            place.level = level;
            let is_folded = coarse != *candidate;
            let found = match self.entries.get(&place.hash) {
                Some(entry) if entry.candidate() == coarse => {
                    entry.count(now);
                    Some(Arc::clone(entry))
                }
                Some(_) => None,
                None if self.has_room(place) => {
                    Entry::first(&coarse, now).map(|entry| self.insert(place, entry))
                }
                None => None,
            };
            if let Some(entry) = found {
                self.loss.folded += u64::from(is_folded);
                return Some(Recorded { entry, is_folded });
            }
        }
        self.loss.dropped += 1;
        None
    }

    pub(super) fn count_folded(&mut self) {
        self.loss.folded += 1;
    }

    /// At most `limit` flows with what was counted since they were last taken.
    pub(super) fn take(&self, limit: usize, report: u64, now: Timestamp) -> Vec<Flow> {
        let changed = self.entries.values().filter(|entry| entry.is_due(report));
        changed
            .take(limit)
            .filter_map(|entry| entry.take(report, now))
            .collect()
    }

    pub(super) fn take_loss(&mut self) -> Loss {
        std::mem::take(&mut self.loss)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets flows that were reported and have been idle, so that others find room.
    pub(super) fn forget_idle(&mut self, now: Timestamp) {
        let keys = &self.keys;
        let (pairs, families) = (&mut self.pairs, &mut self.families);
        self.entries.retain(|_, entry| {
            // Whoever else holds it may be about to count; only the table, which is locked, gives it to anybody.
            let is_idle = Arc::strong_count(entry) == 1
                && entry.is_taken()
                && entry.idle_millis(now) > IDLE_MILLIS;
            if is_idle {
                let candidate = entry.candidate();
                let pair = keys.hash_one((candidate.source, candidate.target));
                if let Some(count) = pairs.get_mut(&pair) {
                    *count = count.saturating_sub(1);
                }
                let family = keys.hash_one(family_of(&candidate));
                if let Some(count) = families
                    .get_mut(&family)
                    .and_then(|levels| levels.get_mut(entry.level()))
                {
                    *count = count.saturating_sub(1);
                }
            }
            !is_idle
        });
        pairs.retain(|_, count| *count > 0);
        families.retain(|_, levels| levels.iter().any(|count| *count > 0));
    }

    fn has_room(&self, place: Place) -> bool {
        let of_pair = self.pairs.get(&place.pair).copied().unwrap_or_default();
        let levels = self.families.get(&place.family).copied();
        let in_level = levels.unwrap_or_default().get(place.level).copied();
        let most = OF_LEVEL.get(place.level).copied().unwrap_or_default();
        self.entries.len() < self.limit
            && of_pair < self.limit / PARTS
            && in_level.unwrap_or_default() < most
    }

    fn insert(&mut self, place: Place, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry.at_level(place.level));
        self.entries.insert(place.hash, Arc::clone(&entry));
        *self.pairs.entry(place.pair).or_default() += 1;
        let levels = self.families.entry(place.family).or_default();
        if let Some(count) = levels.get_mut(place.level) {
            *count += 1;
        }
        entry
    }

    /// What the port's rules ask; made anew when they change.
    fn terms(&mut self, asked: &Asked<'_>) -> Arc<FlowTerms> {
        let Some((policy, slashes)) = asked.policy() else {
            return Arc::clone(&self.no_terms);
        };
        if let Some(known) = self.terms.get(asked.target)
            && known.slashes == slashes
            && std::ptr::eq(known.of.rules(), policy.rules())
        {
            return Arc::clone(&known.terms);
        }
        if self.terms.len() >= PORTS_KNOWN {
            self.terms.clear();
        }
        let terms = FlowTerms::of(policy.rules(), &asked.target.port, slashes);
        let terms = Arc::new(terms);
        let made = Terms {
            of: policy.clone(),
            slashes,
            terms: Arc::clone(&terms),
        };
        self.terms.insert(asked.target.clone(), made);
        terms
    }

    fn hash(&self, of: &impl Hash) -> u64 {
        self.keys.hash_one(of)
    }
}

/// What is folded as one: a flood of what is refused costs nothing that was allowed its exactness.
fn family_of<'a>(candidate: &Candidate<'a>) -> impl Hash + use<'a> {
    let verdict = match candidate.judged {
        Judged::Allowed(_) => 0_u8,
        Judged::Learned(_) => 1,
        Judged::Denied(_) => 2,
    };
    let method = candidate.request.map(|request| request.method);
    (candidate.source, candidate.target, method, verdict)
}

fn told_at(level: usize, path: &str) -> std::borrow::Cow<'_, str> {
    match level {
        EXACT => path.into(),
        FIRST_SEGMENT => FoldedPath::first_segments(path, 1),
        _ => FoldedPath::first_segments(path, 0),
    }
}

fn at_level<'a>(level: usize, candidate: &Candidate<'a>, path: Option<&'a str>) -> Candidate<'a> {
    let request = candidate.request.map(|request| RequestCandidate {
        path,
        host: if level == ANY_HOST {
            HostCandidate::Folded
        } else {
            request.host
        },
        ..request
    });
    Candidate {
        request,
        ..*candidate
    }
}

/// The host in lower case; one that is no name is not told by it.
fn host_in<'s>(into: &'s mut String, authority: Option<&str>) -> HostCandidate<'s> {
    match authority.map(host_of) {
        None => HostCandidate::None,
        Some(host) if is_host(host) => {
            lower_case(into, host);
            HostCandidate::Named(into)
        }
        Some(_) => HostCandidate::Folded,
    }
}

fn lower_case(into: &mut String, text: &str) {
    into.clear();
    into.push_str(text);
    into.make_ascii_lowercase();
}

const LEVELS: usize = 4;
const EXACT: usize = 0;
const FIRST_SEGMENT: usize = 1;
const ANY_HOST: usize = 3;
/// Flows of one method and verdict between one caller and one port, by how exactly they are told.
const OF_LEVEL: [usize; LEVELS] = [256, 64, 32, 32];
/// A caller has at most this part of the table for its flows to one port.
const PARTS: usize = 4;
/// Longer than anybody looks back for what has stopped; shorter than a table takes to fill with what comes and goes.
const IDLE_MILLIS: i64 = 10 * 60 * 1000;
const PORTS_KNOWN: usize = 64;
