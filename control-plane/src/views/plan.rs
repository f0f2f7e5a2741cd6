//! Which resources of which views a change can alter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{DnsLabel, ServiceName, SpiffeId};
use weft_policy::{Mode, Rule};
use weft_wire::v1;

use super::index::Index;
use super::view::{Item, Kind, View};
use super::{State, expiry};
use crate::world::{Changes, Pair, World};

/// What to compute for one identity.
#[derive(Debug, Default)]
pub(super) struct Work {
    outbound: BTreeSet<ServiceName>,
    inbound: BTreeSet<ServiceName>,
    /// All of both, whatever is listed.
    is_everything: bool,
    pub(super) has_revocations: bool,
}

type Plan = BTreeMap<SpiffeId, Work>;

impl Work {
    pub(super) fn everything() -> Self {
        Self {
            is_everything: true,
            has_revocations: true,
            ..Self::default()
        }
    }

    pub(super) fn outbound_of(
        &self,
        view: &View,
        index: &Index,
        id: &SpiffeId,
    ) -> BTreeSet<ServiceName> {
        match self.is_everything {
            true => all_of(view, Kind::Outbound, index.opened_to(id)),
            false => self.outbound.clone(),
        }
    }

    pub(super) fn inbound_of(
        &self,
        view: &View,
        index: &Index,
        id: &SpiffeId,
    ) -> BTreeSet<ServiceName> {
        match self.is_everything {
            true => all_of(view, Kind::Inbound, index.offered_by(id)),
            false => self.inbound.clone(),
        }
    }
}

fn all_of(view: &View, kind: Kind, mut now: BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    now.extend(
        view.of(kind)
            .keys()
            .filter_map(|name| name.parse::<ServiceName>().ok()),
    );
    now
}

impl State {
    /// Makes this the world, and says what it can alter.
    pub(super) fn take_in(&mut self, world: Arc<World>, changes: &Changes) -> Plan {
        self.world = world;
        let mut plan = Plan::new();
        for (before, after) in &changes.rules {
            self.plan_rule((before, after), &mut plan);
        }
        for pair in &changes.services {
            self.plan_service(pair, &mut plan);
        }
        for (service, id, has_come) in &changes.endpoints {
            match has_come {
                true => self.index.put_endpoint(id, service),
                false => self.index.remove_endpoint(id, service),
            }
        }
        let changed = changes
            .endpoints
            .iter()
            .map(|(service, ..)| service)
            .chain(&changes.moved);
        for service in changed {
            self.plan_callers(service, &mut plan);
        }
        for namespace in &changes.namespaces {
            self.plan_namespace(namespace, &mut plan);
        }
        self.plan_distrust(changes, &mut plan);
        self.plan_common(changes, &mut plan);
        plan
    }

    /// What rules, and namespaces that learnt, opened whose time is over by now.
    pub(super) fn expired(&mut self, now: Timestamp) -> Plan {
        let mut plan = Plan::new();
        while self
            .expiries
            .first()
            .is_some_and(|(expires, ..)| *expires <= now)
        {
            let Some((_, rule, service)) = self.expiries.pop_first() else {
                break;
            };
            let rule = self
                .world
                .entry(&service)
                .and_then(|entry| entry.rules.get(&rule))
                .cloned();
            if let Some(rule) = rule {
                self.plan_sources(&rule, &mut plan);
            }
        }
        while let Some((until, namespace)) = self.learning_ends.first().cloned() {
            if until > now {
                break;
            }
            self.learning_ends.pop_first();
            let services = self.services_in(&namespace);
            self.plan_everyone(&services, &mut plan);
            self.index.set_learning(&namespace, None);
        }
        plan
    }

    /// Settings came, went or changed: whoever may see or offer a service of the namespace.
    fn plan_namespace(&mut self, namespace: &DnsLabel, plan: &mut Plan) {
        let services = self.services_in(namespace);
        self.learning_ends.retain(|(_, other)| other != namespace);
        let until = self.world.learn_until(namespace);
        self.learning_ends
            .extend(until.map(|until| (until, namespace.clone())));
        self.index
            .set_learning(namespace, until.map(|_| services.clone()));
        self.plan_everyone(&services, plan);
        for service in services {
            for id in self.offering(&service) {
                plan.entry(id).or_default().inbound.insert(service.clone());
            }
        }
    }

    fn services_in(&self, namespace: &DnsLabel) -> BTreeSet<ServiceName> {
        let services = self.world.services();
        let here = services
            .filter(|(name, entry)| name.namespace == *namespace && entry.service.is_some());
        here.map(|(name, _)| name.clone()).collect()
    }

    /// Every connected workload may see these, or did; whoever offers them meets all of them, or did.
    fn plan_everyone(&self, services: &BTreeSet<ServiceName>, plan: &mut Plan) {
        if services.is_empty() {
            return;
        }
        for id in self.connected.keys() {
            if self.index.is_local_workload(id) {
                let work = plan.entry(id.clone()).or_default();
                work.outbound.extend(services.iter().cloned());
                work.has_revocations = true;
            }
        }
    }

    /// Connected identities that may offer a service.
    pub(super) fn offering(&self, service: &ServiceName) -> Vec<SpiffeId> {
        let workloads = self
            .world
            .service(service)
            .into_iter()
            .flat_map(|service| &service.workloads);
        let ids =
            workloads.map(|workload| SpiffeId::for_workload(&self.world.trust_domain, workload));
        ids.filter(|id| self.connected.contains_key(id)).collect()
    }

    fn plan_rule(
        &mut self,
        (before, after): (&Option<Arc<Rule>>, &Option<Arc<Rule>>),
        plan: &mut Plan,
    ) {
        if let Some(before) = before {
            self.index.remove_rule(before);
            if let Some(expiry) = expiry(before) {
                self.expiries.remove(&expiry);
            }
        }
        if let Some(after) = after {
            self.index.put_rule(after);
            self.expiries.extend(expiry(after));
        }
        for rule in before.iter().chain(after) {
            self.plan_sources(rule, plan);
            for id in self.offering(&rule.service) {
                let work = plan.entry(id).or_default();
                work.inbound.insert(rule.service.clone());
                work.has_revocations = true;
            }
        }
    }

    fn plan_service(&mut self, (before, after): &Pair<weft_catalog::Service>, plan: &mut Plan) {
        if let Some(before) = before {
            self.index.remove_service(before);
        }
        if let Some(after) = after {
            self.index.put_service(after);
        }
        for service in before.iter().chain(after) {
            for workload in &service.workloads {
                let id = SpiffeId::for_workload(&self.world.trust_domain, workload);
                if self.connected.contains_key(&id) {
                    let work = plan.entry(id).or_default();
                    work.inbound.insert(service.name.clone());
                    work.has_revocations = true;
                }
            }
            let rules: Vec<Arc<Rule>> = self
                .world
                .entry(&service.name)
                .into_iter()
                .flat_map(|entry| entry.rules.values().cloned())
                .collect();
            rules.iter().for_each(|rule| self.plan_sources(rule, plan));
            if self.index.learns(&service.name.namespace) {
                self.plan_everyone(&BTreeSet::from([service.name.clone()]), plan);
            }
            self.plan_callers(&service.name, plan);
        }
    }

    /// Whoever sees the service sees it with its endpoints.
    fn plan_callers(&self, service: &ServiceName, plan: &mut Plan) {
        for id in self.index.seen_by(service) {
            let work = plan.entry(id.clone()).or_default();
            work.outbound.insert(service.clone());
            work.has_revocations = true;
        }
    }

    fn plan_sources(&self, rule: &Rule, plan: &mut Plan) {
        if rule.mode != Mode::Enforce {
            return;
        }
        for id in self.index.sources_among(rule, &self.connected) {
            let work = plan.entry(id).or_default();
            work.outbound.insert(rule.service.clone());
            work.has_revocations = true;
        }
    }

    /// Whoever may meet somebody whose trust changed: who sees its endpoints, who offers what it may call, itself.
    fn plan_distrust(&self, changes: &Changes, plan: &mut Plan) {
        for distrusted in &changes.distrust.identities {
            if self.connected.contains_key(distrusted) {
                plan.insert(distrusted.clone(), Work::everything());
            }
            let callers = self
                .index
                .homes(distrusted)
                .flat_map(|service| self.index.seen_by(service).cloned());
            let offering = self.index.opened_to(distrusted);
            let offering = offering.iter().flat_map(|service| self.offering(service));
            for id in callers.chain(offering) {
                plan.entry(id).or_default().has_revocations = true;
            }
        }
        if changes.distrust.is_everyone {
            for id in self.connected.keys() {
                plan.entry(id.clone()).or_default().has_revocations = true;
            }
        }
    }

    /// The bundle and the settings: one message for all views.
    fn plan_common(&mut self, changes: &Changes, plan: &mut Plan) {
        if changes.has_bundle_changed {
            self.bundle = Item::new(self.world.bundle.as_ref());
        }
        if changes.has_mesh_changed {
            self.mesh = Item::new(&v1::MeshSettings::from(&self.world.mesh));
        }
        if changes.has_bundle_changed || changes.has_mesh_changed {
            for id in self.connected.keys() {
                plan.entry(id.clone()).or_default();
            }
        }
    }
}
