//! Holds a proposal against the evaluator: what it claims must pass, and what it would open is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_identity::ServiceName;

use super::gather::{Gathered, still_granted};
use super::{Basis, NotProposed, verdict_of};
use crate::flow::{Flow, Judged};
use crate::request::Reason;
use crate::rule::Rule;
use crate::set::PolicySet;
use crate::world::World;

/// Flows that the rules, as they would be with the proposal, refuse although they are taught, or pass now.
pub(super) fn refused<'f>(
    rules: &[Arc<Rule>],
    gathered: &Gathered<'f>,
    basis: &Basis<'_>,
) -> Vec<(&'f Flow, NotProposed)> {
    let mut sets = Sets::new(rules, basis);
    let mut refused = Vec::new();
    for flow in &gathered.taught {
        if let Err(reason) = verdict_of(sets.of(flow), flow, basis.now) {
            refused.push((*flow, why(flow, reason)));
        }
    }
    for flow in &gathered.allowed {
        let set = sets.of(flow);
        match verdict_of(set, flow, basis.now) {
            Ok(_) => {}
            Err(Reason::NoRule) if still_granted(set, flow, basis) => {}
            Err(reason) => refused.push((*flow, why(flow, reason))),
        }
    }
    refused
}

/// Refused flows that would pass.
pub(super) fn opened(rules: &[Arc<Rule>], denied: &[&Flow], basis: &Basis<'_>) -> Vec<Flow> {
    let mut sets = Sets::new(rules, basis);
    denied
        .iter()
        .filter(|flow| {
            matches!(
                flow.key.judged,
                Judged::Denied(Reason::NoRule | Reason::UpgradeNotAllowed)
            )
        })
        .filter(|flow| {
            verdict_of(sets.of(flow), flow, basis.now)
                .is_ok_and(|by| rules.iter().any(|rule| rule.name == by.name))
        })
        .map(|flow| (*flow).clone())
        .collect()
}

fn why(flow: &Flow, reason: Reason) -> NotProposed {
    let path = flow
        .key
        .request
        .as_ref()
        .and_then(|request| request.path.as_ref());
    if reason == Reason::PathNotCanonical && path.is_some_and(|path| path.is_not_canonical()) {
        NotProposed::NotCanonical
    } else {
        NotProposed::Refused(reason)
    }
}

/// The rules of each service as they would be.
struct Sets<'a> {
    rules: Vec<Arc<Rule>>,
    world: &'a World,
    sets: BTreeMap<ServiceName, PolicySet>,
}

impl<'a> Sets<'a> {
    fn new(proposed: &[Arc<Rule>], basis: &Basis<'a>) -> Self {
        let kept = if basis.lesson.from_scratch {
            &[][..]
        } else {
            basis.world.rules.as_slice()
        };
        Self {
            rules: kept.iter().chain(proposed).cloned().collect(),
            world: basis.world,
            sets: BTreeMap::new(),
        }
    }

    fn of(&mut self, flow: &Flow) -> &PolicySet {
        let service = &flow.key.target.service;
        self.sets
            .entry(service.clone())
            .or_insert_with(|| set_of(self.world, service, &self.rules))
    }
}

pub(crate) fn set_of(world: &World, service: &ServiceName, rules: &[Arc<Rule>]) -> PolicySet {
    PolicySet::compile(
        world.trust_domain.clone(),
        service,
        rules.iter().cloned(),
        world.encoded_slashes(service),
    )
}
