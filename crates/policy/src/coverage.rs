//! How the rules and the traffic that was recorded cover each other: rules that nothing used, traffic that only a broad rule
//! allows, and the narrower rules that it proposes.
//!
//! Invariant: a flow counts for a rule only if the evaluator says that the rule allows it, or said so when it was recorded.

mod breadth;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use breadth::Breadth;

use crate::flow::{Flow, Judged};
use crate::propose::{Basis, LeftOut, Lesson, Proposed, propose, set_of, verdict_of};
use crate::rule::{Mode, Rule};
use crate::set::PolicySet;
use crate::world::World;

/// One rule and what used it. Rules come by name.
#[derive(Debug, Clone)]
pub struct RuleUse {
    pub rule: Arc<Rule>,
    pub life: Life,
    /// Connections and requests that it allows, in flows seen since the time that was asked for.
    pub used: u64,
    /// Of all flows; `None`: none used it.
    pub last_seen: Option<Timestamp>,
    /// How it is broad, whether or not it needs to be.
    pub breadths: Vec<Breadth>,
    /// Of `used`, what no other rule allows narrowly; counted for the first rule by name that allows it.
    pub only_broad: u64,
    /// Rules for that traffic which are narrower than this; none where nothing narrower is known.
    pub narrower: Vec<Proposed>,
    /// Of that traffic, what the narrower rules would not allow.
    pub left_out: Vec<LeftOut>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    InForce,
    ExpiresSoon(Timestamp),
    Expired(Timestamp),
    /// In mode Audit: its use is what it would allow.
    Audited,
}

impl Life {
    fn of(rule: &Rule, now: Timestamp) -> Self {
        match rule.expires {
            Some(at) if at <= now => Self::Expired(at),
            _ if rule.mode == Mode::Audit => Self::Audited,
            Some(at) if at.duration_since(now) <= SOON => Self::ExpiresSoon(at),
            Some(_) | None => Self::InForce,
        }
    }

    fn is_in_force(self) -> bool {
        match self {
            Self::InForce | Self::ExpiresSoon(_) => true,
            Self::Expired(_) | Self::Audited => false,
        }
    }
}

/// `flows`: all that are recorded; those last seen before `since` tell only when a rule was last used.
pub fn coverage(flows: &[Flow], world: &World, since: Timestamp, now: Timestamp) -> Vec<RuleUse> {
    let basis = Basis {
        world,
        lesson: Lesson {
            denied: false,
            from_scratch: true,
        },
        now,
    };
    let mut uses: Vec<_> = world
        .rules
        .iter()
        .map(|rule| Counted::new(rule, &basis))
        .collect();
    uses.sort_by(|a, b| a.found.rule.name.cmp(&b.found.rule.name));
    let mut by_service = BTreeMap::<_, Vec<usize>>::new();
    for (place, counted) in uses.iter().enumerate() {
        let service = counted.found.rule.service.clone();
        by_service.entry(service).or_default().push(place);
    }
    for flow in flows.iter().filter(|flow| passed(flow)) {
        if let Some(places) = by_service.get(&flow.key.target.service) {
            count(flow, places, &mut uses, since, &basis);
        }
    }
    uses.into_iter()
        .map(|counted| counted.concluded(&basis))
        .collect()
}

fn passed(flow: &Flow) -> bool {
    match flow.key.judged {
        Judged::Allowed(_) | Judged::Learned(_) => true,
        Judged::Denied(_) => false,
    }
}

fn count<'f>(
    flow: &'f Flow,
    places: &[usize],
    uses: &mut [Counted<'f>],
    since: Timestamp,
    basis: &Basis<'_>,
) {
    let is_recent = flow.last_seen >= since;
    let mut first_in_force = None;
    let mut is_narrow = false;
    for place in places {
        let Some(counted) = uses.get_mut(*place) else {
            continue;
        };
        if !counted.allows(flow, basis) {
            continue;
        }
        let found = &mut counted.found;
        let last = found.last_seen.unwrap_or(flow.last_seen);
        found.last_seen = Some(last.max(flow.last_seen));
        if !is_recent {
            continue;
        }
        found.used = found.used.saturating_add(flow.count);
        if found.life.is_in_force() {
            first_in_force = first_in_force.or(Some(*place));
            is_narrow |= counted.is_narrow_for(flow, basis);
        }
    }
    let only_broad = first_in_force.filter(|_| !is_narrow);
    if let Some(counted) = only_broad.and_then(|place| uses.get_mut(place)) {
        counted.found.only_broad = counted.found.only_broad.saturating_add(flow.count);
        counted.broad_flows.push(flow);
    }
}

/// A rule while flows are counted.
struct Counted<'f> {
    found: RuleUse,
    /// The rule by itself, in force.
    alone: PolicySet,
    /// What of it is not broad: for requests, and for whole connections.
    narrow_for_requests: Option<PolicySet>,
    narrow_for_whole: Option<PolicySet>,
    broad_flows: Vec<&'f Flow>,
}

impl Counted<'_> {
    fn new(rule: &Arc<Rule>, basis: &Basis<'_>) -> Self {
        let compiled = |rule: Rule| set_of(basis.world, &rule.service.clone(), &[Arc::new(rule)]);
        let lasting = Rule {
            mode: Mode::Enforce,
            expires: None,
            ..(**rule).clone()
        };
        Self {
            found: RuleUse {
                rule: Arc::clone(rule),
                life: Life::of(rule, basis.now),
                used: 0,
                last_seen: None,
                breadths: breadth::of(rule),
                only_broad: 0,
                narrower: Vec::new(),
                left_out: Vec::new(),
            },
            narrow_for_requests: breadth::narrow_for_requests(&lasting).map(compiled),
            narrow_for_whole: breadth::narrow_for_whole(&lasting).map(compiled),
            alone: compiled(lasting),
            broad_flows: Vec::new(),
        }
    }

    fn allows(&self, flow: &Flow, basis: &Basis<'_>) -> bool {
        let rule = &self.found.rule;
        let may = rule.matches_port(&flow.key.target.port)
            && rule.matches_source(&flow.key.source, &basis.world.trust_domain);
        may && (verdict_of(&self.alone, flow, basis.now).is_ok()
            || matches!(&flow.key.judged, Judged::Allowed(name) if *name == rule.name))
    }

    fn is_narrow_for(&self, flow: &Flow, basis: &Basis<'_>) -> bool {
        let is_request = flow
            .key
            .request
            .as_ref()
            .is_some_and(|request| !request.connect);
        let narrow = if is_request {
            &self.narrow_for_requests
        } else {
            &self.narrow_for_whole
        };
        let Some(narrow) = narrow else {
            return false;
        };
        // a path of which only the shape is known was not allowed by a broad part if there is none
        self.found.breadths.is_empty() || verdict_of(narrow, flow, basis.now).is_ok()
    }

    fn concluded(self, basis: &Basis<'_>) -> RuleUse {
        let mut found = self.found;
        if self.broad_flows.is_empty() {
            return found;
        }
        let flows: Vec<Flow> = self.broad_flows.into_iter().cloned().collect();
        let proposal = propose(&flows, basis);
        let is_same = |proposed: &Proposed| {
            let (rule, old) = (&proposed.rule, &found.rule);
            // flows are of verified sources: addresses cover none of them
            let is_same = rule.from.identities() == old.from.identities();
            is_same && rule.ports == old.ports && rule.http == old.http
        };
        if !proposal.rules.iter().any(is_same) {
            found.narrower = proposal.rules;
            found.left_out = proposal.left_out;
        }
        found
    }
}

/// A rule that ends within this time is told before it does.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);
