//! Who reports what was judged, and what is known of the mesh: the ground on which a report is read.

use jiff::Timestamp;
use weft_identity::{DnsLabel, ServiceName, ServicePort, SpiffeId, WorkloadName};

use crate::views::rules_for;
use crate::world::World;

/// A workload whose sidecar reports, and the mesh as it is then.
pub(crate) struct Reporter<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) workload: &'a WorkloadName,
    pub(crate) world: &'a World,
    pub(crate) now: Timestamp,
}

impl Reporter<'_> {
    /// Whether it may offer the service, and so decides about calls to it.
    pub(crate) fn may_offer(&self, service: &ServiceName) -> bool {
        let service = self.world.service(service);
        service.is_some_and(|service| service.may_be_offered_by(self.workload))
    }

    /// Whether its own sidecar is the only one that decides about its calls to a port, and may let them out: the port is outside of the
    /// mesh, and a rule or learn mode opens it.
    pub(crate) fn may_call_outside(&self, target: &ServicePort) -> bool {
        let world = self.world;
        let Some(entry) = world.entry(&target.service) else {
            return false;
        };
        let service = entry.service.as_ref();
        if service.is_none_or(|service| service.external.is_none()) {
            return false;
        }
        let learns = world.learn_until(&target.service.namespace).is_some();
        let rules = rules_for(world, entry, self.id, self.now);
        learns || rules.iter().any(|rule| rule.matches_port(&target.port))
    }

    /// The name of a service's port that a client knows by its number alone: what it may not call is not in its view. Told as it
    /// came where there is no such port.
    pub(crate) fn port_name(&self, service: &ServiceName, told: &DnsLabel) -> DnsLabel {
        let service = self.world.service(service);
        let port = service.and_then(|service| service.port_called(told.as_str()));
        port.map_or(told, |port| &port.name).clone()
    }

    /// Nothing that was judged lies in the future.
    pub(crate) fn past(&self, time: Timestamp) -> Timestamp {
        time.min(self.now)
    }
}
