//! Preview: recorded flows judged before and after an edit, and what the edit would do to each.
//!
//! Invariant: a flow that is called unchanged is let through after the edit exactly where it was before; what the record cannot
//! decide is said to be unknown, never allowed.

mod causes;
mod ground;
mod headers;
mod path;
mod ruling;
mod tri;

use std::collections::BTreeMap;

pub use causes::Cause;
pub use ground::Side;
pub use ruling::{Ruling, Why};

use causes::causes;
use ground::Indexed;
use ruling::Judgement;

use crate::flow::Flow;

/// What an edit would do to recorded traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preview<'f> {
    /// By source, target and request.
    pub changed: Vec<Changed<'f>>,
    pub unchanged: Unchanged,
}

/// A flow that an edit would change, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed<'f> {
    pub flow: &'f Flow,
    pub change: Change,
    pub before: Ruling,
    pub after: Ruling,
    /// What of the edit does it.
    pub causes: Vec<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was let through and would be refused.
    Denied,
    /// The record cannot decide; some of what was let through may be refused.
    MayBeDenied,
    /// The record cannot decide, but nothing that was let through would be refused.
    MayBeAllowed,
    /// It was refused and would be let through.
    Allowed,
}

/// Flows that stay as they are, by their verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unchanged {
    pub allowed: usize,
    pub denied: usize,
    /// The record cannot say which, only that the edit does not matter.
    pub undecided: usize,
}

impl Change {
    /// Whether live traffic would be cut, or might.
    pub fn may_cut(self) -> bool {
        match self {
            Self::Denied | Self::MayBeDenied => true,
            Self::MayBeAllowed | Self::Allowed => false,
        }
    }

    fn of(before: &Judgement<'_>, after: &Judgement<'_>) -> Option<Self> {
        match (&before.ruling, &after.ruling) {
            (Ruling::Allowed(_) | Ruling::Learned, Ruling::Allowed(_) | Ruling::Learned)
            | (Ruling::Denied(_), Ruling::Denied(_)) => None,
            (Ruling::Allowed(_) | Ruling::Learned, Ruling::Denied(_)) => Some(Self::Denied),
            (Ruling::Denied(_), Ruling::Allowed(_) | Ruling::Learned) => Some(Self::Allowed),
            (Ruling::Unknown(_), _) | (_, Ruling::Unknown(_)) => {
                match (before.is_kept_by(after), after.is_kept_by(before)) {
                    (true, true) => None,
                    (true, false) => Some(Self::MayBeAllowed),
                    (false, _) => Some(Self::MayBeDenied),
                }
            }
        }
    }
}

impl Unchanged {
    pub fn total(&self) -> usize {
        self.allowed + self.denied + self.undecided
    }

    fn count(&mut self, before: &Ruling, after: &Ruling) {
        match (before, after) {
            (Ruling::Unknown(_), _) | (_, Ruling::Unknown(_)) => self.undecided += 1,
            (_, Ruling::Allowed(_) | Ruling::Learned) => self.allowed += 1,
            (_, Ruling::Denied(_)) => self.denied += 1,
        }
    }
}

/// Judges every flow on both sides.
pub fn preview<'f>(
    before: &Side,
    after: &Side,
    flows: impl IntoIterator<Item = &'f Flow>,
) -> Preview<'f> {
    // what does not depend on the request is worked out once for each source and target
    let mut groups = BTreeMap::<_, Vec<&Flow>>::new();
    for flow in flows {
        let pair = (&flow.key.source, &flow.key.target);
        groups.entry(pair).or_default().push(flow);
    }
    let (before, after) = (Indexed::new(before), Indexed::new(after));
    let mut preview = Preview::default();
    for ((source, target), flows) in groups {
        let was = before.ground(source, target);
        let will_be = after.ground(source, target);
        let mut changed = Vec::new();
        for flow in flows {
            let old = Judgement::of(flow, &was);
            let new = Judgement::of(flow, &will_be);
            match Change::of(&old, &new) {
                None => preview.unchanged.count(&old.ruling, &new.ruling),
                Some(change) => changed.push(Changed {
                    flow,
                    change,
                    causes: causes(
                        &before,
                        &after,
                        &target.service,
                        (&was, &old),
                        (&will_be, &new),
                    ),
                    before: old.ruling,
                    after: new.ruling,
                }),
            }
        }
        changed.sort_by(|a, b| (a.change, b.flow.count).cmp(&(b.change, a.flow.count)));
        preview.changed.append(&mut changed);
    }
    preview
}

#[cfg(test)]
mod tests;
