//! Until when rules are in force, answered without asking each of them.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use crate::rule::Rule;

/// Until when something holds: the latest expiry of the rules that make it hold.
///
/// A point in time: both parts have one sign, so that they are ordered as time is, before 1970 too. The ends lie beyond all timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lasting {
    second: i64,
    nanosecond: i32,
}

impl Lasting {
    const NEVER: Self = Self {
        second: i64::MIN,
        nanosecond: 0,
    };
    const ALWAYS: Self = Self {
        second: i64::MAX,
        nanosecond: 0,
    };

    pub(super) fn of(rule: &Rule) -> Self {
        rule.expires.map_or(Self::ALWAYS, Self::until)
    }

    fn until(end: Timestamp) -> Self {
        Self {
            second: end.as_second(),
            nanosecond: end.subsec_nanosecond(),
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        *self = (*self).max(other);
    }

    pub(super) fn holds(self, now: Timestamp) -> bool {
        Self::until(now) < self
    }
}

impl Default for Lasting {
    fn default() -> Self {
        Self::NEVER
    }
}

/// One of the rules of a source.
#[derive(Debug)]
pub(super) struct Ranked {
    /// Among them, by name.
    pub(super) place: usize,
    lasting: Lasting,
    pub(super) rule: Arc<Rule>,
}

/// Of rules that grant the same: those that can ever be the first in force. Each outlasts all before it, so that the first in
/// force is found by halving, however many have expired. Most often there is one, which lies here.
#[derive(Debug, Default)]
pub(super) struct Earliest(SmallVec<[Ranked; 1]>);

impl Earliest {
    /// Rules are added in the order of their places.
    pub(super) fn push(&mut self, place: usize, rule: &Arc<Rule>) {
        let lasting = Lasting::of(rule);
        if self.0.last().is_none_or(|last| last.lasting < lasting) {
            self.0.push(Ranked {
                place,
                lasting,
                rule: Arc::clone(rule),
            });
        }
    }

    pub(super) fn in_force(&self, now: Timestamp) -> Option<&Ranked> {
        let first = self.0.first()?;
        if first.lasting.holds(now) {
            return Some(first);
        }
        let expired = self.0.partition_point(|ranked| !ranked.lasting.holds(now));
        self.0.get(expired)
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::document::{Origin, read};

    use super::*;
    use crate::documents::ALLOW;

    fn rule(expires: Option<Timestamp>) -> Arc<Rule> {
        let yaml = "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {name: r, namespace: shop}\nspec: {to: {service: api}, from: [\"*\"]}\n";
        let document = read(yaml, &Origin::file("f"), ALLOW).unwrap();
        Arc::new(Rule {
            expires,
            ..Rule::from_document(&document).unwrap()
        })
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_in_force_is_found_and_what_can_never_be_first_is_not_kept() {
        let ends = [Some(3), Some(2), Some(3), Some(9), None, Some(99)];
        let rules = ends.map(|second| rule(second.map(time)));
        let mut earliest = Earliest::default();
        for (place, rule) in rules.iter().enumerate() {
            earliest.push(place, rule);
        }
        assert_eq!(earliest.0.len(), 3);
        for second in 0..12 {
            let now = time(second);
            let first = rules.iter().position(|rule| !rule.is_expired(now));
            let found = earliest.in_force(now).map(|ranked| ranked.place);
            assert_eq!(found, first, "{second}");
        }
        let mut ends = Earliest::default();
        ends.push(0, &rule(Some(time(5))));
        assert!(ends.in_force(time(4)).is_some());
        assert!(ends.in_force(time(5)).is_none(), "sentence 2");
    }

    #[test]
    fn it_lasts_to_the_nanosecond_also_before_1970() {
        let times = [-1_500_000_001, -1_500_000_000, -1, 0, 1, 1_500_000_000]
            .map(|nanosecond| Timestamp::from_nanosecond(nanosecond).unwrap());
        for end in times.into_iter().chain([Timestamp::MIN, Timestamp::MAX]) {
            for now in times.into_iter().chain([Timestamp::MIN, Timestamp::MAX]) {
                assert_eq!(Lasting::until(end).holds(now), now < end, "{now} {end}");
                assert!(Lasting::ALWAYS.holds(now) && !Lasting::NEVER.holds(now));
            }
        }
    }
}
