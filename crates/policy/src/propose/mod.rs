//! The smallest readable allow-list for flows that were observed.
//!
//! Invariants: no proposed rule allows a source, service, port and method together that was not observed; every flow that is
//! claimed was judged with the rules and passes, and what is not claimed is told with its reason; no pattern is a catch-all;
//! the same flows in any order give the same rules.

mod conditions;
mod drafts;
mod evidence;
mod gather;
mod groups;
mod instance;
mod judge;
mod names;
mod tree;
mod why;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::ServiceName;

use crate::flow::Flow;
use crate::rule::Rule;
use crate::source::SourcePattern;
use crate::world::World;

pub use evidence::{Evidence, Example};
pub(crate) use instance::verdict_of;
pub(crate) use judge::set_of;
pub use why::NotProposed;

/// What the flows are held against.
#[derive(Debug, Clone)]
pub struct Basis<'a> {
    /// Its rules are kept: what they allow is not proposed again.
    pub world: &'a World,
    pub lesson: Lesson,
    pub now: Timestamp,
}

/// Which flows are to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lesson {
    /// Also those that were refused because no rule allows them.
    pub denied: bool,
    /// Also those that the rules allow, as if there were none: the proposal stands alone.
    pub from_scratch: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Proposal {
    /// By service, then by name.
    pub rules: Vec<Proposed>,
    /// What passed, or was asked for, and would be refused all the same.
    pub left_out: Vec<LeftOut>,
    /// What was refused, was not asked for, and would pass: it looks like what is proposed.
    pub opened: Vec<Flow>,
    /// Who needs more rules than a reader takes in at once.
    pub crowded: Vec<Crowded>,
    /// Flows that the rules allow already.
    pub already_allowed: usize,
    /// Flows that were refused and not asked for.
    pub denied: usize,
}

/// A rule with what it rests on.
#[derive(Debug, Clone)]
pub struct Proposed {
    pub rule: Arc<Rule>,
    pub evidence: Evidence,
}

#[derive(Debug, Clone)]
pub struct LeftOut {
    pub flow: Flow,
    pub why: NotProposed,
}

/// A source and a service for which fewer rules would allow a method on a port where it was not observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowded {
    pub source: SourcePattern,
    pub service: ServiceName,
    /// How many it has.
    pub rules: usize,
}

impl Proposed {
    /// The document to apply, its evidence in comments above it.
    pub fn to_yaml(&self) -> String {
        yaml::document(&self.rule, &self.evidence)
    }
}

/// Proposes rules. Flows may come in any order, and the same one in parts.
pub fn propose(flows: &[Flow], basis: &Basis<'_>) -> Proposal {
    let mut gathered = gather::gather(flows, basis);
    loop {
        let drafted = drafts::draft(&gathered.taught);
        gathered.leave_out(drafted.too_many);
        let rules = names::named(drafted.drafts, basis.world);
        let refused = judge::refused(&rules, &gathered, basis);
        // what another rule or the form of a request forbids must not widen a pattern either
        if refused.is_empty() {
            return concluded(rules, gathered, basis);
        }
        gathered.leave_out(refused);
    }
}

fn concluded(rules: Vec<Arc<Rule>>, gathered: gather::Gathered<'_>, basis: &Basis<'_>) -> Proposal {
    let opened = judge::opened(&rules, &gathered.denied, basis);
    let crowded = crowded(&rules);
    let rules = rules
        .into_iter()
        .map(|rule| Proposed {
            evidence: Evidence::of(&rule, &gathered.taught, basis),
            rule,
        })
        .collect();
    let mut left_out = gathered.left_out;
    left_out.sort_by_cached_key(|left| (order(&left.flow), left.why.to_string()));
    Proposal {
        rules,
        left_out,
        opened,
        crowded,
        already_allowed: gathered.allowed.len(),
        denied: gathered.denied.len(),
    }
}

fn crowded(rules: &[Arc<Rule>]) -> Vec<Crowded> {
    let mut counts = BTreeMap::<(String, &ServiceName), (&SourcePattern, usize)>::new();
    for rule in rules {
        for source in rule.from.identities() {
            let pair = (source.to_string(), &rule.service);
            counts.entry(pair).or_insert((source, 0)).1 += 1;
        }
    }
    let counts = counts.into_iter();
    let crowded = counts.filter(|(_, (_, count))| *count > drafts::RULES_OF_A_PAIR);
    crowded
        .map(|((_, service), (source, rules))| Crowded {
            source: source.clone(),
            service: service.clone(),
            rules,
        })
        .collect()
}

/// A total order of flows, whatever order they came in.
fn order(flow: &Flow) -> String {
    format!("{:?} {} {}", flow.key, flow.first_seen, flow.count)
}
