//! What one rule of the source allows on one port, and what is left of it when another refuses some of that.
//!
//! Invariant: nothing here ever grows. A part of a grant is kept only where it is known to lie outside of a refusal.

use super::{
    cluster::Cluster,
    meta::Holds,
    sources::{contains, sift, without_repetition},
};
use crate::{
    header::HeaderCondition,
    http::{HostPattern, HttpCondition, Method},
    lists::{Match, NonEmpty},
    path::PathPattern,
    source::SourcePattern,
};

/// Callers and what they may send; without [`Requests::is_everything`] no more than HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) from: Vec<SourcePattern>,
    pub(super) requests: Requests,
}

/// A set of requests: each part that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) methods: Option<Vec<Method>>,
    pub(super) paths: Option<Vec<PathPattern>>,
    pub(super) hosts: Option<Vec<HostPattern>>,
    pub(super) headers: Vec<HeaderCondition>,
    /// Whatever the parts, it must be HTTP.
    pub(super) http_only: bool,
}

impl Requests {
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    fn is_empty(&self) -> bool {
        self.methods.as_ref().is_some_and(Vec::is_empty)
            || self.paths.as_ref().is_some_and(Vec::is_empty)
            || self.hosts.as_ref().is_some_and(Vec::is_empty)
    }

    /// The condition of a rule; `None` for everything.
    pub(super) fn condition(&self) -> Option<HttpCondition> {
        if self.is_everything() {
            return None;
        }
        let mut condition = HttpCondition {
            methods: matching(self.methods.clone()),
            paths: matching(self.paths.clone()),
            hosts: matching(self.hosts.clone()),
            headers: matching(Some(self.headers.clone())),
            upgrades: Match::Any,
        };
        if condition.is_empty() {
            condition.paths =
                matching(super::paths::EVERYTHING.parse().ok().map(|path| vec![path]));
        }
        Some(condition)
    }
}

/// An empty list never gets here: such a grant is dropped.
fn matching<T>(values: Option<Vec<T>>) -> Match<T> {
    values
        .and_then(NonEmpty::new)
        .map_or(Match::Any, Match::OneOf)
}

/// A refusal, asked part by part whether all, none or some of something lies in it.
pub(super) trait Refusal {
    fn source(&self, pattern: &SourcePattern) -> Holds;
    fn method(&self, method: &str) -> Holds;
    fn path(&self, pattern: &PathPattern) -> Holds;
    fn host(&self, pattern: &HostPattern) -> Holds;
    /// Of requests with these headers, and any others.
    fn headers(&self, headers: &[HeaderCondition]) -> Holds;
    fn names(&self) -> Named;
}

/// Of which parts a refusal says anything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named {
    pub(super) methods: bool,
    pub(super) paths: bool,
    pub(super) hosts: bool,
    pub(super) headers: bool,
}

/// The part of a grant that a refusal leaves.
pub(super) struct Left {
    pub(super) grants: Vec<Grant>,
    /// Whether nothing was lost that the source would let through.
    pub(super) exact: bool,
}

pub(super) fn subtract(grant: &Grant, refusal: &dyn Refusal, cluster: &Cluster) -> Left {
    let untouched = || Left {
        grants: vec![grant.clone()],
        exact: true,
    };
    let outside = sift(&grant.from, Holds::No, cluster, &|pattern| {
        refusal.source(pattern)
    });
    if outside.whole && outside.patterns.len() == grant.from.len() {
        return untouched();
    }
    let (requests, named) = (&grant.requests, refusal.names());
    let methods = match &requests.methods {
        Some(methods) => Some(methods.clone()),
        None if named.methods => Some(known_methods()),
        None => None,
    };
    let methods_outside = part(methods.as_ref(), |method| refusal.method(method.as_str()));
    let paths_outside = part(requests.paths.as_ref(), |path| refusal.path(path));
    let hosts_outside = part(requests.hosts.as_ref(), |host| refusal.host(host));
    let headers_outside = refusal.headers(&requests.headers) == Holds::No;
    let is_disjoint = headers_outside
        || (requests.methods.is_some() && methods_outside.all)
        || (requests.paths.is_some() && paths_outside.all)
        || (requests.hosts.is_some() && hosts_outside.all);
    if is_disjoint {
        return untouched();
    }
    let mut grants = Vec::new();
    let mut keep = |from: &[SourcePattern], requests: Requests| {
        if !from.is_empty() && !requests.is_empty() {
            grants.push(Grant {
                from: from.to_vec(),
                requests,
            });
        }
    };
    keep(&outside.patterns, requests.clone());
    // of the other callers, the requests outside
    let others: Vec<_> = grant
        .from
        .iter()
        .filter(|pattern| !outside.patterns.contains(pattern))
        .cloned()
        .collect();
    let told = |named: bool, part: bool, told_apart: bool| !named || (part && told_apart);
    let exact = others.is_empty()
        || outside.whole
            && told(
                named.methods,
                requests.methods.is_some(),
                methods_outside.told_apart,
            )
            && told(
                named.paths,
                requests.paths.is_some(),
                paths_outside.told_apart,
            )
            && told(
                named.hosts,
                requests.hosts.is_some(),
                hosts_outside.told_apart,
            )
            && !named.headers;
    if let Some(kept) = methods_outside.values {
        keep(
            &others,
            Requests {
                methods: Some(kept),
                http_only: true,
                ..requests.clone()
            },
        );
    }
    if let Some(kept) = paths_outside.values {
        keep(
            &others,
            Requests {
                paths: Some(kept),
                ..requests.clone()
            },
        );
    }
    if let Some(kept) = hosts_outside.values {
        keep(
            &others,
            Requests {
                hosts: Some(kept),
                ..requests.clone()
            },
        );
    }
    Left { grants, exact }
}

struct Outside<T> {
    values: Option<Vec<T>>,
    all: bool,
    told_apart: bool,
}

fn part<T: Clone>(values: Option<&Vec<T>>, test: impl Fn(&T) -> Holds) -> Outside<T> {
    let Some(values) = values else {
        return Outside {
            values: None,
            all: false,
            told_apart: true,
        };
    };
    let kept: Vec<T> = values
        .iter()
        .filter(|value| test(value) == Holds::No)
        .cloned()
        .collect();
    Outside {
        all: kept.len() == values.len(),
        told_apart: values.iter().all(|value| test(value) != Holds::Unknown),
        values: Some(kept),
    }
}

/// All refusals taken off all grants; `None` when that falls into too many pieces.
pub(super) fn subtract_all(
    grants: Vec<Grant>,
    refusal: &dyn Refusal,
    cluster: &Cluster,
) -> Option<Left> {
    let mut left = Left {
        grants: Vec::new(),
        exact: true,
    };
    for grant in grants {
        let next = subtract(&grant, refusal, cluster);
        left.exact &= next.exact;
        left.grants.extend(next.grants);
        if left.grants.len() > PIECES_LIMIT {
            return None;
        }
    }
    left.grants = simplified(left.grants);
    Some(left)
}

/// Grants of the same requests become one, and what another one says is said once.
pub(super) fn simplified(grants: Vec<Grant>) -> Vec<Grant> {
    let mut united: Vec<Grant> = Vec::new();
    for grant in grants {
        match united
            .iter_mut()
            .find(|other| other.requests == grant.requests)
        {
            Some(other) => {
                other.from.extend(grant.from);
                other.from = without_repetition(std::mem::take(&mut other.from));
            }
            None => united.push(grant),
        }
    }
    let everything: Vec<SourcePattern> = united
        .iter()
        .filter(|grant| grant.requests.is_everything())
        .flat_map(|grant| grant.from.clone())
        .collect();
    for grant in united
        .iter_mut()
        .filter(|grant| !grant.requests.is_everything())
    {
        grant
            .from
            .retain(|pattern| !everything.iter().any(|outer| contains(outer, pattern)));
    }
    united.retain(|grant| !grant.from.is_empty());
    united
}

/// The methods of RFC 9110 and PATCH, but for CONNECT, which no condition admits.
pub(super) fn known_methods() -> Vec<Method> {
    KNOWN_METHODS
        .iter()
        .filter_map(|method| method.parse().ok())
        .collect()
}

const KNOWN_METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
];
/// Pieces of one rule of the source on one port.
const PIECES_LIMIT: usize = 256;
