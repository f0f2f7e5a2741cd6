//! A mesh as far as verdicts rest on it: rules, quarantines, learning, and what is known of services.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{DnsLabel, ServiceName, ServicePort, SpiffeId, TrustDomain, WorkloadName};

use crate::canonical::EncodedSlashes;
use crate::outside::{MeshName, Outside, Target};
use crate::rule::{Quarantine, Rule};
use crate::set::PolicySet;
use crate::source::SourcePattern;
use crate::sources::Source;

/// What questions are judged against.
#[derive(Debug, Clone)]
pub struct World {
    pub trust_domain: TrustDomain,
    pub rules: Vec<Arc<Rule>>,
    pub quarantines: Vec<Quarantine>,
    /// Namespaces that learn, each with the end of it.
    pub learning: BTreeMap<DnsLabel, Timestamp>,
    /// Empty: services are not known, so that each target is taken to exist.
    pub services: BTreeMap<ServiceName, ServiceFacts>,
    /// Those of them that are outside of the mesh; `None`: none is known.
    pub outside: Option<Arc<dyn Outside>>,
}

/// What a verdict needs to know of a `Service`.
#[derive(Debug, Clone, Default)]
pub struct ServiceFacts {
    pub workloads: Vec<WorkloadName>,
    pub ports: Vec<DnsLabel>,
    /// Those of them that are declared to carry bytes, never HTTP.
    pub opaque_ports: Vec<DnsLabel>,
    pub encoded_slashes: EncodedSlashes,
}

impl World {
    /// Without any resource.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            rules: Vec::new(),
            quarantines: Vec::new(),
            learning: BTreeMap::new(),
            services: BTreeMap::new(),
            outside: None,
        }
    }

    /// The port that a question is about, whether or not there is such a one. `None`: no external service has that host and port.
    pub fn find(
        &self,
        source: Source<'_>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Option<ServicePort>, MeshName> {
        let host = match target {
            Target::Service(target) => return Ok(Some(target.clone())),
            Target::Host(host) => host,
        };
        let is_namespace = |text: &str| {
            let mut services = self.services.keys();
            services.any(|service| service.namespace.as_str() == text)
        };
        // an address opens nothing to whoever comes from there (sentence 77)
        let is_open = |port: &ServicePort| {
            let id = source.identity();
            id.is_some_and(|id| self.is_open(id, port, now))
        };
        match &self.outside {
            Some(outside) => host.find(&self.trust_domain, is_namespace, &**outside, is_open),
            None => Ok(None),
        }
    }

    /// Whether the source may call anything of a port, and so knows of it.
    fn is_open(&self, source: &SpiffeId, target: &ServicePort, now: Timestamp) -> bool {
        let mut rules = self.rules.iter();
        let learns = self.learn_until(&target.service);
        let by_learning = learns.is_some_and(|until| now < until)
            && SourcePattern::AnyLocal.matches(source, &self.trust_domain);
        by_learning
            || rules.any(|rule| {
                rule.service == target.service
                    && rule.is_in_force(now)
                    && rule.matches_port(&target.port)
                    && rule.matches_source(source, &self.trust_domain)
            })
    }

    pub(crate) fn compile(&self, service: &ServiceName) -> PolicySet {
        PolicySet::compile(
            self.trust_domain.clone(),
            service,
            self.rules.iter().cloned(),
            self.encoded_slashes(service),
        )
        .learning(self.learn_until(service))
    }

    /// Until when the namespace of a service learns.
    pub fn learn_until(&self, service: &ServiceName) -> Option<Timestamp> {
        self.learning.get(&service.namespace).copied()
    }

    pub(crate) fn encoded_slashes(&self, service: &ServiceName) -> EncodedSlashes {
        self.services
            .get(service)
            .map(|facts| facts.encoded_slashes)
            .unwrap_or_default()
    }

    /// Whether the target exists, as far as services are known.
    pub fn has_port(&self, target: &ServicePort) -> bool {
        let facts = self.services.get(&target.service);
        self.services.is_empty() || facts.is_some_and(|facts| facts.ports.contains(&target.port))
    }

    /// Whether the port is declared to carry bytes, never HTTP.
    pub(crate) fn is_opaque(&self, target: &ServicePort) -> bool {
        let facts = self.services.get(&target.service);
        facts.is_some_and(|facts| facts.opaque_ports.contains(&target.port))
    }

    /// Whether a connection between them meets a quarantined end, whichever of the service's workloads it reaches.
    pub fn is_quarantined<'s>(&self, source: impl Into<Source<'s>>, service: &ServiceName) -> bool {
        let cut = |workload: &WorkloadName| {
            self.quarantines
                .iter()
                .any(|quarantine| quarantine.workload == *workload)
        };
        // a plaintext source is no workload that could be cut by its name
        let local = source.into().identity();
        let local = local.filter(|id| id.is_in(&self.trust_domain));
        let source_is_cut = local
            .and_then(SpiffeId::workload)
            .is_some_and(|workload| cut(&workload));
        let target_is_cut = self
            .services
            .get(service)
            .is_some_and(|facts| !facts.workloads.is_empty() && facts.workloads.iter().all(cut));
        source_is_cut || target_is_cut
    }
}
