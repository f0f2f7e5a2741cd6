//! What rules demand of the form of every request on their port, whoever sends it (sentences 27 and 34 of docs/POLICY.md).

use std::collections::BTreeMap;

use jiff::Timestamp;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::lasting::Lasting;
use crate::{
    canonical::{EncodedSlashes, is_canonical},
    header::HeaderName,
    request::{HeaderValue, HttpRequest, Reason},
    rule::Rule,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Form {
    /// How long some rule has path conditions.
    paths: Lasting,
    /// Headers that rules match, and how long.
    headers: SmallVec<[(SmolStr, Lasting); 1]>,
}

impl Form {
    pub(super) fn demanded_by<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let mut demands = Demands::default();
        for rule in rules {
            let lasting = Lasting::of(rule);
            for condition in rule.http.listed() {
                if !condition.paths.is_any() {
                    demands.paths.extend(lasting);
                }
                for header in condition.headers.listed() {
                    demands.header(&header.name, lasting);
                }
            }
        }
        demands.into()
    }

    /// What makes a request ambiguous to the rules.
    pub(super) fn ambiguity(
        &self,
        request: &HttpRequest<'_>,
        encoded_slashes: EncodedSlashes,
        now: Timestamp,
    ) -> Option<Reason> {
        // the target of a plain CONNECT is no path
        let has_path = !(request.connect && request.path.is_empty());
        if has_path && self.paths.holds(now) && !is_canonical(request.path, encoded_slashes) {
            return Some(Reason::PathNotCanonical);
        }
        let doubled = self.headers.iter().any(|(name, lasting)| {
            lasting.holds(now) && request.headers.lookup(name) == HeaderValue::Many
        });
        doubled.then_some(Reason::Malformed)
    }
}

/// A [`Form`] in the making.
#[derive(Default)]
struct Demands<'n> {
    paths: Lasting,
    headers: BTreeMap<&'n HeaderName, Lasting>,
}

impl<'n> Demands<'n> {
    fn header(&mut self, name: &'n HeaderName, lasting: Lasting) {
        self.headers.entry(name).or_default().extend(lasting);
    }
}

impl From<Demands<'_>> for Form {
    fn from(demands: Demands<'_>) -> Self {
        let headers = demands.headers.into_iter();
        Self {
            paths: demands.paths,
            headers: headers
                .map(|(name, lasting)| (name.as_str().into(), lasting))
                .collect(),
        }
    }
}
