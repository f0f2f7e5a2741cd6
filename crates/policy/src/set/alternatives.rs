//! The HTTP conditions that share a path, by methods; and the search for the first one that a request meets.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::{
    lasting::{Earliest, Ranked},
    methods::Methods,
};
use crate::{
    http::{HttpCondition, Method, PARTS},
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

/// Conditions that state the same and nothing but methods and paths, or one condition that states more.
#[derive(Debug)]
struct Group {
    methods: Methods,
    guard: Guard,
    rules: Earliest,
}

/// What there is to look at beside the bits of the method.
#[derive(Debug, PartialEq, Eq)]
enum Guard {
    Nothing,
    /// The method has no bit of its own: its name is compared. In a box, for it is rare and would widen every group.
    Name(Box<Method>),
    /// The condition of this index in its rule, all but its paths.
    Condition(usize),
}

impl Guard {
    fn is_condition(&self) -> bool {
        matches!(self, Self::Condition(_))
    }
}

impl Alternatives {
    /// They are added in the order of their places.
    pub(super) fn add(&mut self, alternative: Alternative<'_>) {
        let methods = &alternative.condition.methods;
        if states_more(alternative.condition) {
            let group = Group::of(
                &alternative,
                Methods::of(methods),
                Guard::Condition(alternative.index),
            );
            return self.0.push(group);
        }
        let known = Methods::known(methods);
        if known != Methods::NONE {
            self.add_plain(&alternative, known, Guard::Nothing);
        }
        for method in methods.listed() {
            if Methods::one(method.as_str()) == Methods::OTHER {
                let name = Guard::Name(Box::new(method.clone()));
                self.add_plain(&alternative, Methods::OTHER, name);
            }
        }
    }

    /// In front of the whole conditions stand the others, one group for all that state the same.
    fn add_plain(&mut self, alternative: &Alternative<'_>, methods: Methods, guard: Guard) {
        let conditions = self.0.iter().position(|group| group.guard.is_condition());
        let end = conditions.unwrap_or(self.0.len());
        let mut plain = self.0.iter_mut().take(end);
        match plain.find(|group| group.methods == methods && group.guard == guard) {
            Some(group) => group.rules.push(alternative.place, alternative.rule),
            None => self.0.insert(end, Group::of(alternative, methods, guard)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Group {
    fn of(alternative: &Alternative<'_>, methods: Methods, guard: Guard) -> Self {
        let mut rules = Earliest::default();
        rules.push(alternative.place, alternative.rule);
        Self {
            methods,
            guard,
            rules,
        }
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
                if group.guard.is_condition() {
                    // conditions stand in the order of their rules
                    return;
                }
                continue;
            }
            let admits_upgrade = match &group.guard {
                Guard::Name(method) if method.as_str() != self.request.method => continue,
                Guard::Nothing | Guard::Name(_) => self.request.upgrade.is_none(),
                Guard::Condition(index) => match self.met_but_for_upgrade(ranked, *index) {
                    Some(admits_upgrade) => admits_upgrade,
                    None => continue,
                },
            };
            if admits_upgrade {
                self.first = Some(ranked);
            } else {
                self.but_upgrade = true;
            }
        }
    }

    /// `None`: something else fails. Otherwise whether the condition admits the upgrade, or there is none.
    fn met_but_for_upgrade(&self, ranked: &Ranked, index: usize) -> Option<bool> {
        let condition = ranked.rule.http.listed().get(index)?;
        let matches = |part: Condition| condition.part_matches(part, self.request);
        // the path is the one by which it was found
        let others = PARTS
            .iter()
            .filter(|part| !matches!(part, Condition::Path | Condition::Upgrade));
        let matches_others = others.copied().all(matches);
        matches_others.then(|| matches(Condition::Upgrade))
    }
}
