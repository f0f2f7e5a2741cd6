//! What one side of an edit holds for one source and target: everything that does not depend on the request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{RuleName, ServiceName, ServicePort, SpiffeId, WorkloadName};

use super::tri::Tri;
use crate::canonical::EncodedSlashes;
use crate::header::HeaderName;
use crate::request::Reason;
use crate::rule::{Mode, Rule};
use crate::source::SourcePattern;
use crate::world::World;

/// A mesh as it is, or as an edit would make it, at a time.
#[derive(Debug, Clone)]
pub struct Side {
    pub world: World,
    pub revoked: BTreeSet<SpiffeId>,
    pub at: Timestamp,
}

/// A side whose rules are found by service.
pub(super) struct Indexed<'s> {
    pub(super) side: &'s Side,
    /// By name, as the evaluator has them.
    rules: HashMap<&'s ServiceName, BTreeMap<&'s RuleName, &'s Arc<Rule>>>,
}

impl<'s> Indexed<'s> {
    pub(super) fn new(side: &'s Side) -> Self {
        let mut rules = HashMap::<_, BTreeMap<_, _>>::new();
        for rule in &side.world.rules {
            let of_service = rules.entry(&rule.service).or_default();
            of_service.insert(&rule.name, rule);
        }
        Self { side, rules }
    }

    pub(super) fn rule(&self, service: &ServiceName, name: &RuleName) -> Option<&'s Arc<Rule>> {
        self.rules.get(service)?.get(name).copied()
    }

    pub(super) fn ground(&self, source: &SpiffeId, target: &ServicePort) -> Ground<'s> {
        let mut ground = Ground {
            lacks_target: !self.side.world.has_port(target),
            opaque: self.side.world.is_opaque(target),
            slashes: self.side.world.encoded_slashes(&target.service),
            cut: self.side.cut(source, &target.service),
            learns: self.side.learns(source, &target.service),
            rules: Vec::new(),
            spelled_paths: Vec::new(),
            headers: BTreeMap::new(),
        };
        let rules = self.rules.get(&target.service).into_iter().flatten();
        for (_, rule) in rules {
            if rule.mode != Mode::Enforce
                || rule.is_expired(self.side.at)
                || !rule.matches_port(&target.port)
            {
                continue;
            }
            for condition in rule.http.listed() {
                if !condition.paths.is_any() {
                    ground.spelled_paths.push(&rule.name);
                }
                for header in condition.headers.listed() {
                    ground.headers.entry(&header.name).or_insert(&rule.name);
                }
            }
            if rule.matches_source(source, &self.side.world.trust_domain) {
                ground.rules.push(rule);
            }
        }
        ground.spelled_paths.dedup();
        ground
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ground<'s> {
    pub(super) lacks_target: bool,
    /// The port is declared to carry bytes, never HTTP.
    pub(super) opaque: bool,
    pub(super) slashes: EncodedSlashes,
    pub(super) cut: Cut,
    /// What the rules refuse is let through.
    pub(super) learns: bool,
    /// In force on the port and for the source, by name.
    pub(super) rules: Vec<&'s Arc<Rule>>,
    /// Rules in force on the port, whoever their source is, that have path conditions (sentence 27).
    pub(super) spelled_paths: Vec<&'s RuleName>,
    /// Headers that rules in force on the port name, whoever their source is (sentence 34), each with the first such rule.
    pub(super) headers: BTreeMap<&'s HeaderName, &'s RuleName>,
}

impl Ground<'_> {
    /// What of the service decides.
    pub(super) fn service_facts(&self) -> (bool, bool, EncodedSlashes) {
        (self.lacks_target, self.opaque, self.slashes)
    }
}

/// Which ends are under Quarantine or revoked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) source: Option<Reason>,
    /// Workloads of the service, in order.
    pub(super) targets: Vec<(WorkloadName, Reason)>,
    /// Whether these are all of them.
    all_targets: bool,
}

impl Cut {
    /// Whether a connection is cut. `Unknown`: it depends on which of the service's workloads it reaches.
    pub(super) fn answer(&self) -> Tri {
        if self.source.is_some() || self.all_targets {
            Tri::Yes
        } else if self.targets.is_empty() {
            Tri::No
        } else {
            Tri::Unknown
        }
    }

    /// Each end that is cut; `None` is the source.
    pub(super) fn ends(&self) -> impl Iterator<Item = (Option<WorkloadName>, Reason)> {
        let source = self.source.map(|reason| (None, reason));
        let targets = self.targets.iter();
        source
            .into_iter()
            .chain(targets.map(|(workload, reason)| (Some(workload.clone()), *reason)))
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        let target = self.targets.first().map(|(_, reason)| *reason);
        self.source.or(target)
    }
}

impl Side {
    fn learns(&self, source: &SpiffeId, service: &ServiceName) -> bool {
        let until = self.world.learn_until(service);
        until.is_some_and(|until| self.at < until)
            && SourcePattern::AnyLocal.matches(source, &self.world.trust_domain)
    }

    fn cut(&self, source: &SpiffeId, service: &ServiceName) -> Cut {
        let facts = self.world.services.get(service);
        let workloads = facts.map_or(&[][..], |facts| facts.workloads.as_slice());
        let mut targets: Vec<_> = workloads
            .iter()
            .filter_map(|workload| {
                let id = SpiffeId::for_workload(&self.world.trust_domain, workload);
                Some((workload.clone(), self.cut_end(&id)?))
            })
            .collect();
        targets.sort();
        Cut {
            source: self.cut_end(source),
            all_targets: !workloads.is_empty() && targets.len() == workloads.len(),
            targets,
        }
    }

    fn cut_end(&self, id: &SpiffeId) -> Option<Reason> {
        if self.revoked.contains(id) {
            return Some(Reason::Revoked);
        }
        let workload = id.workload()?;
        let quarantined = id.is_in(&self.world.trust_domain)
            && self
                .world
                .quarantines
                .iter()
                .any(|quarantine| quarantine.workload == workload);
        quarantined.then_some(Reason::Quarantined)
    }
}
