//! From what changed to who sees it, without asking everyone.
//!
//! One half follows the world: which services a rule opens to whom, who offers what, where an identity has endpoints.
//! The other follows the connected identities: who sees a service now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_catalog::Service;
use weft_identity::{DnsLabel, RuleName, ServiceName, SpiffeId, TrustDomain, WorkloadName};
use weft_policy::Rule;

use crate::world::World;

pub(super) struct Index {
    trust_domain: TrustDomain,
    /// Rules that name an identity in full.
    exact: HashMap<SpiffeId, BTreeMap<RuleName, ServiceName>>,
    /// Rules with patterns that must be tried.
    wide: BTreeMap<RuleName, Arc<Rule>>,
    /// Services of namespaces that learn: open to every workload of the trust domain.
    learning: BTreeMap<DnsLabel, BTreeSet<ServiceName>>,
    offered_by: HashMap<WorkloadName, BTreeSet<ServiceName>>,
    /// Services where an identity has endpoints, with their number.
    homes: HashMap<SpiffeId, BTreeMap<ServiceName, usize>>,
    /// Connected identities that see a service.
    seen_by: HashMap<ServiceName, BTreeSet<SpiffeId>>,
}

impl Index {
    pub(super) fn of(world: &World) -> Self {
        let mut index = Self {
            trust_domain: world.trust_domain.clone(),
            exact: HashMap::new(),
            wide: BTreeMap::new(),
            learning: BTreeMap::new(),
            offered_by: HashMap::new(),
            homes: HashMap::new(),
            seen_by: HashMap::new(),
        };
        for (namespace, _) in world.learning() {
            index.set_learning(namespace, Some(BTreeSet::new()));
        }
        for (name, entry) in world.services() {
            entry
                .service
                .iter()
                .for_each(|service| index.put_service(service));
            entry.rules.values().for_each(|rule| index.put_rule(rule));
            entry
                .endpoints
                .values()
                .for_each(|endpoint| index.put_endpoint(&endpoint.identity, name));
        }
        index
    }

    pub(super) fn put_rule(&mut self, rule: &Arc<Rule>) {
        // addresses are nobody's view: a plaintext source has no sidecar
        for pattern in rule.from.identities() {
            match pattern.exact(&self.trust_domain) {
                Some(id) => {
                    let rules = self.exact.entry(id).or_default();
                    rules.insert(rule.name.clone(), rule.service.clone());
                }
                None => {
                    self.wide.insert(rule.name.clone(), Arc::clone(rule));
                }
            }
        }
    }

    pub(super) fn remove_rule(&mut self, rule: &Rule) {
        self.wide.remove(&rule.name);
        let trust_domain = self.trust_domain.clone();
        for id in rule
            .from
            .identities()
            .iter()
            .filter_map(|pattern| pattern.exact(&trust_domain))
        {
            if let Some(rules) = self.exact.get_mut(&id) {
                rules.remove(&rule.name);
                if rules.is_empty() {
                    self.exact.remove(&id);
                }
            }
        }
    }

    /// The services of a namespace that learns; `None`: it does not.
    pub(super) fn set_learning(
        &mut self,
        namespace: &DnsLabel,
        services: Option<BTreeSet<ServiceName>>,
    ) {
        match services {
            Some(services) => self.learning.insert(namespace.clone(), services),
            None => self.learning.remove(namespace),
        };
    }

    pub(super) fn learns(&self, namespace: &DnsLabel) -> bool {
        self.learning.contains_key(namespace)
    }

    pub(super) fn put_service(&mut self, service: &Service) {
        if let Some(services) = self.learning.get_mut(&service.name.namespace) {
            services.insert(service.name.clone());
        }
        for workload in &service.workloads {
            self.offered_by
                .entry(workload.clone())
                .or_default()
                .insert(service.name.clone());
        }
    }

    pub(super) fn remove_service(&mut self, service: &Service) {
        if let Some(services) = self.learning.get_mut(&service.name.namespace) {
            services.remove(&service.name);
        }
        for workload in &service.workloads {
            remove_from(&mut self.offered_by, workload, &service.name);
        }
    }

    pub(super) fn put_endpoint(&mut self, id: &SpiffeId, service: &ServiceName) {
        *self
            .homes
            .entry(id.clone())
            .or_default()
            .entry(service.clone())
            .or_default() += 1;
    }

    pub(super) fn remove_endpoint(&mut self, id: &SpiffeId, service: &ServiceName) {
        let Some(homes) = self.homes.get_mut(id) else {
            return;
        };
        if let Some(count) = homes.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                homes.remove(service);
            }
        }
        if homes.is_empty() {
            self.homes.remove(id);
        }
    }

    pub(super) fn set_seen(&mut self, service: &ServiceName, id: &SpiffeId, is_seen: bool) {
        if is_seen {
            self.seen_by
                .entry(service.clone())
                .or_default()
                .insert(id.clone());
        } else {
            remove_from(&mut self.seen_by, service, id);
        }
    }

    /// Connected identities that see this service now.
    pub(super) fn seen_by(&self, service: &ServiceName) -> impl Iterator<Item = &SpiffeId> {
        self.seen_by.get(service).into_iter().flatten()
    }

    /// Services for which a rule of any mode has this identity as a source, and those that learn.
    pub(super) fn opened_to(&self, id: &SpiffeId) -> BTreeSet<ServiceName> {
        let exact = self.exact.get(id).into_iter().flat_map(BTreeMap::values);
        let wide = self
            .wide
            .values()
            .filter(|rule| rule.matches_source(id, &self.trust_domain));
        let learning = self.learning.values().flatten();
        let learning = learning.filter(|_| self.is_local_workload(id));
        exact
            .chain(wide.map(|rule| &rule.service))
            .chain(learning)
            .cloned()
            .collect()
    }

    pub(super) fn is_local_workload(&self, id: &SpiffeId) -> bool {
        id.is_in(&self.trust_domain) && id.workload().is_some()
    }

    pub(super) fn offered_by(&self, id: &SpiffeId) -> BTreeSet<ServiceName> {
        let workload = id.workload().filter(|_| id.is_in(&self.trust_domain));
        workload
            .and_then(|workload| self.offered_by.get(&workload))
            .cloned()
            .unwrap_or_default()
    }

    /// Services where this identity has endpoints.
    pub(super) fn homes(&self, id: &SpiffeId) -> impl Iterator<Item = &ServiceName> {
        self.homes.get(id).into_iter().flat_map(BTreeMap::keys)
    }

    /// The sources of a rule among these identities. Only a pattern makes it look at all of them.
    pub(super) fn sources_among<V>(
        &self,
        rule: &Rule,
        ids: &BTreeMap<SpiffeId, V>,
    ) -> BTreeSet<SpiffeId> {
        let exact: Option<Vec<SpiffeId>> = rule
            .from
            .identities()
            .iter()
            .map(|pattern| pattern.exact(&self.trust_domain))
            .collect();
        match exact {
            Some(sources) => sources
                .into_iter()
                .filter(|id| ids.contains_key(id))
                .collect(),
            None => ids
                .keys()
                .filter(|id| rule.matches_source(id, &self.trust_domain))
                .cloned()
                .collect(),
        }
    }
}

fn remove_from<K, V>(sets: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V)
where
    K: std::hash::Hash + Eq,
    V: Ord,
{
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
