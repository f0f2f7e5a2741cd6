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
    /// In no order: they are few.
    named: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    key: MethodKey,
    method: Method,
    alternatives: Alternatives,
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
        let known = self.named.iter().position(|named| named.method == *method);
        let place = known.unwrap_or_else(|| {
            self.named.push(Named {
                key: MethodKey::of(method.as_str()),
                method: method.clone(),
                alternatives: Alternatives::default(),
            });
            self.named.len() - 1
        });
        if let Some(named) = self.named.get_mut(place) {
            named.alternatives.add(is_plain, alternative);
        }
    }

    fn find(&self, key: MethodKey, method: &str) -> Option<&Alternatives> {
        let is_it = |named: &&Named| {
            named.key == key && (key.is_whole() || named.method.as_str() == method)
        };
        self.named
            .iter()
            .find(is_it)
            .map(|named| &named.alternatives)
    }
}

/// What tells most methods apart at one comparison, and short ones for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MethodKey {
    length: usize,
    head: [u8; 8],
}

impl MethodKey {
    pub(super) fn of(method: &str) -> Self {
        let mut head = [0; 8];
        for (to, from) in head.iter_mut().zip(method.bytes()) {
            *to = from;
        }
        Self {
            length: method.len(),
            head,
        }
    }

    /// Whether two methods with this key are equal.
    fn is_whole(self) -> bool {
        self.length <= self.head.len()
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
    /// The request's.
    pub(super) method: MethodKey,
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
        if let Some(named) = methods.find(self.method, self.request.method) {
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
