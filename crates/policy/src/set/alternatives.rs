//! The HTTP conditions that share a path, by method; and the search for the first one that a request meets.

use std::sync::Arc;

use jiff::Timestamp;

use super::lasting::{Earliest, Lasting};
use crate::{
    http::{HttpCondition, Method, PARTS},
    lists::Match,
    request::{Condition, HttpRequest},
    rule::Rule,
};

/// One of the HTTP conditions of a source's rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alternative {
    /// Of its rule among the source's.
    pub(super) place: usize,
    /// Among its rule's conditions.
    pub(super) index: usize,
    pub(super) lasting: Lasting,
}

#[derive(Debug, Default)]
pub(super) struct Methods {
    /// Conditions that state no method.
    any: Alternatives,
    /// Sorted by method.
    named: Vec<(Method, Alternatives)>,
}

#[derive(Debug, Default)]
struct Alternatives {
    /// That state nothing but methods and paths.
    plain: Earliest,
    /// That state more, in order.
    guarded: Vec<Alternative>,
}

impl Methods {
    /// Alternatives are added in the order of their places.
    pub(super) fn add(&mut self, condition: &HttpCondition, alternative: Alternative) {
        let is_plain = is_plain(condition);
        match &condition.methods {
            Match::Any => self.any.add(is_plain, alternative),
            Match::OneOf(methods) => methods
                .iter()
                .for_each(|method| self.add_named(method, is_plain, alternative)),
        }
    }

    fn add_named(&mut self, method: &Method, is_plain: bool, alternative: Alternative) {
        let place = self.find(method.as_str()).unwrap_or_else(|place| {
            let new = (method.clone(), Alternatives::default());
            self.named.insert(place, new);
            place
        });
        if let Some((_, alternatives)) = self.named.get_mut(place) {
            alternatives.add(is_plain, alternative);
        }
    }

    fn find(&self, method: &str) -> Result<usize, usize> {
        let named = &self.named;
        named.binary_search_by(|(named, _)| named.as_str().cmp(method))
    }
}

impl Alternatives {
    fn add(&mut self, is_plain: bool, alternative: Alternative) {
        if is_plain {
            self.plain.push(alternative.place, alternative.lasting);
        } else {
            self.guarded.push(alternative);
        }
    }
}

fn is_plain(condition: &HttpCondition) -> bool {
    // named one by one, so that a new part cannot be forgotten here
    let HttpCondition {
        methods: _,
        paths: _,
        hosts,
        headers,
        upgrades,
    } = condition;
    hosts.is_any() && headers.is_any() && upgrades.is_any()
}

/// One request on its way through the conditions of one source.
pub(super) struct Search<'a> {
    pub(super) rules: &'a [Arc<Rule>],
    pub(super) request: &'a HttpRequest<'a>,
    pub(super) now: Timestamp,
    /// The place of the first rule so far that allows the request.
    pub(super) first: Option<usize>,
    /// Whether some rule would allow it but for its upgrade. Counts where none allows it.
    pub(super) but_upgrade: bool,
}

impl Search<'_> {
    /// Tries the conditions of a path that the request has.
    pub(super) fn methods(&mut self, methods: &Methods) {
        self.alternatives(&methods.any);
        let found = methods.find(self.request.method).ok();
        if let Some((_, named)) = found.and_then(|place| methods.named.get(place)) {
            self.alternatives(named);
        }
    }

    fn alternatives(&mut self, alternatives: &Alternatives) {
        if let Some(place) = alternatives.plain.in_force(self.now) {
            if self.request.upgrade.is_none() {
                self.found(place);
            } else {
                self.but_upgrade = true;
            }
        }
        for alternative in &alternatives.guarded {
            if self.first.is_some_and(|first| first <= alternative.place) {
                return;
            }
            if alternative.lasting.holds(self.now) {
                self.guarded(alternative);
            }
        }
    }

    fn guarded(&mut self, alternative: &Alternative) {
        let rule = self.rules.get(alternative.place);
        let Some(condition) = rule.and_then(|rule| rule.http.listed().get(alternative.index))
        else {
            return;
        };
        let matches = |part: Condition| condition.part_matches(part, self.request);
        // method and path are those by which it was found
        let guards = PARTS.iter().filter(|part| {
            !matches!(
                part,
                Condition::Method | Condition::Path | Condition::Upgrade
            )
        });
        if !guards.copied().all(matches) {
            return;
        }
        if matches(Condition::Upgrade) {
            self.found(alternative.place);
        } else {
            self.but_upgrade = true;
        }
    }

    fn found(&mut self, place: usize) {
        self.first = Some(self.first.map_or(place, |first| first.min(place)));
    }
}
