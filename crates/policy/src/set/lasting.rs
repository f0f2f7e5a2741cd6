//! Until when rules are in force, answered without asking each of them.

use jiff::Timestamp;

use crate::rule::Rule;

/// Until when something holds: the latest expiry of the rules that make it hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Lasting {
    #[default]
    Never,
    Until(Timestamp),
    Always,
}

impl Lasting {
    pub(super) fn of(rule: &Rule) -> Self {
        rule.expires.map_or(Self::Always, Self::Until)
    }

    pub(super) fn extend(&mut self, other: Self) {
        *self = (*self).max(other);
    }

    pub(super) fn holds(self, now: Timestamp) -> bool {
        match self {
            Self::Never => false,
            Self::Until(end) => now < end,
            Self::Always => true,
        }
    }
}

/// Of rules that grant the same: those that can ever be the first in force. Each outlasts all before it, so that the first in
/// force is found by halving, however many have expired.
#[derive(Debug, Default)]
pub(super) struct Earliest {
    /// Most often it is the only one, and then nothing else is read.
    first: Option<(usize, Lasting)>,
    later: Vec<(usize, Lasting)>,
}

impl Earliest {
    /// Rules are added in the order of their places.
    pub(super) fn push(&mut self, place: usize, lasting: Lasting) {
        match (self.first, self.later.last()) {
            (None, _) => self.first = Some((place, lasting)),
            (Some((_, first)), last) => {
                let before = last.map_or(first, |(_, last)| *last);
                if before < lasting {
                    self.later.push((place, lasting));
                }
            }
        }
    }

    pub(super) fn in_force(&self, now: Timestamp) -> Option<usize> {
        let (place, lasting) = self.first?;
        if lasting.holds(now) {
            return Some(place);
        }
        let expired = self
            .later
            .partition_point(|(_, lasting)| !lasting.holds(now));
        self.later.get(expired).map(|(place, _)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(second: i64) -> Lasting {
        Lasting::Until(time(second))
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_in_force_is_found_and_what_can_never_be_first_is_not_kept() {
        let rules = [
            until(3),
            until(2),
            until(3),
            until(9),
            Lasting::Always,
            until(99),
        ];
        let mut earliest = Earliest::default();
        for (place, lasting) in rules.into_iter().enumerate() {
            earliest.push(place, lasting);
        }
        assert_eq!(earliest.later.len(), 2);
        for second in 0..12 {
            let first = rules.iter().position(|lasting| lasting.holds(time(second)));
            assert_eq!(earliest.in_force(time(second)), first, "{second}");
        }
        let mut ends = Earliest::default();
        ends.push(0, until(5));
        assert_eq!(ends.in_force(time(4)), Some(0));
        assert_eq!(ends.in_force(time(5)), None, "sentence 2");
    }
}
