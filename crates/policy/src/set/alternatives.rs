//! The HTTP conditions that share a path, by methods; and the search for the first one that a request meets.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::{
    lasting::{Earliest, Ranked},
    methods::Methods,
};
use crate::{
    http::{HttpCondition, PARTS},
    request::{Condition, HttpRequest},
    rule::Rule,
};

/// One of the HTTP conditions of a source's rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alternative<'r> {
    pub(super) rule: &'r Arc<Rule>,
    /// Of the rule among the source's.
    pub(super) place: usize,
    pub(super) condition: &'r HttpCondition,
    /// Of the condition among the rule's.
    pub(super) index: usize,
}

/// Most often there is one, which lies here.
#[derive(Debug, Default)]
pub(super) struct Alternatives(SmallVec<[Group; 1]>);

/// Conditions that state the same methods and nothing but methods and paths, or one condition that states more.
#[derive(Debug)]
struct Group {
    methods: Methods,
    /// Whether there is more to look at: in the condition, which stands at `index` in its rule.
    guarded: bool,
    index: usize,
    rules: Earliest,
}

impl Alternatives {
    /// They are added in the order of their places.
    pub(super) fn add(&mut self, alternative: Alternative<'_>) {
        let Alternative {
            rule,
            place,
            condition,
            index,
        } = alternative;
        let methods = Methods::of(&condition.methods);
        let guarded = !methods.is_certain() || states_more(condition);
        // in front stand those without a guard: few, one for each set of methods
        let plain = self.0.iter().take_while(|group| !group.guarded).count();
        let is_alike = |group: &&mut Group| !guarded && group.methods == methods;
        if let Some(group) = self.0.iter_mut().take(plain).find(is_alike) {
            return group.rules.push(place, rule);
        }
        let mut rules = Earliest::default();
        rules.push(place, rule);
        let group = Group {
            methods,
            guarded,
            index,
            rules,
        };
        let at = if guarded { self.0.len() } else { plain };
        self.0.insert(at, group);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// More than methods and paths.
fn states_more(condition: &HttpCondition) -> bool {
    // named one by one, so that a new part cannot be forgotten here
    let HttpCondition {
        methods: _,
        paths: _,
        hosts,
        headers,
        upgrades,
    } = condition;
    !(hosts.is_any() && headers.is_any() && upgrades.is_any())
}

/// One request on its way through the conditions of one source.
pub(super) struct Search<'s, 'r> {
    pub(super) request: &'r HttpRequest<'r>,
    /// The request's.
    pub(super) method: Methods,
    pub(super) now: Timestamp,
    /// The first rule so far that allows the request.
    pub(super) first: Option<&'s Ranked>,
    /// Whether some rule would allow it but for its upgrade. Counts where none allows it.
    pub(super) but_upgrade: bool,
}

impl<'s> Search<'s, '_> {
    /// Tries the conditions of a path that the request has.
    pub(super) fn alternatives(&mut self, alternatives: &'s Alternatives) {
        for group in &alternatives.0 {
            if !group.methods.meets(self.method) {
                continue;
            }
            let Some(ranked) = group.rules.in_force(self.now) else {
                continue;
            };
            if self.first.is_some_and(|first| first.place <= ranked.place) {
                continue;
            }
            let admits_upgrade = if group.guarded {
                let conditions = ranked.rule.http.listed();
                let Some(condition) = conditions.get(group.index) else {
                    continue;
                };
                let matches = |part: Condition| condition.part_matches(part, self.request);
                // the path is the one by which it was found
                let guards = PARTS
                    .iter()
                    .filter(|part| !matches!(part, Condition::Path | Condition::Upgrade));
                if !guards.copied().all(matches) {
                    continue;
                }
                matches(Condition::Upgrade)
            } else {
                self.request.upgrade.is_none()
            };
            if admits_upgrade {
                self.first = Some(ranked);
            } else {
                self.but_upgrade = true;
            }
        }
    }
}
