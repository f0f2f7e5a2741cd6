//! One resource of one identity's view, from the world.
//!
//! Invariant: an outbound resource exists only for a service that an unexpired rule in force opens to the identity, and
//! holds only the ports and rules that do; or for one whose namespace learns, to workloads of the own trust domain. This is the only place that decides what leaves the control plane.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use weft_catalog::{Endpoint, Port, Service};
use weft_identity::{Revocations, ServiceName, SpiffeId, WorkloadName};
use weft_policy::Rule;
use weft_wire::{InboundView, OutboundView, encoded_slashes, v1};

use crate::world::{Entry, World};

/// The service as this identity may call it; `None`: it may not know of it.
pub(super) fn outbound(
    world: &World,
    id: &SpiffeId,
    name: &ServiceName,
    now: Timestamp,
) -> Option<v1::Outbound> {
    if world.distrust.quarantined.contains(id) || world.distrust.identities.contains(id) {
        return None;
    }
    let entry = world.entry(name)?;
    let service = entry.service.as_ref()?;
    let rules = rules_for(world, entry, id, now);
    let learn_until =
        learns_until(world, name, now).filter(|_| local_workload(world, id).is_some());
    let ports: Vec<Port> = service
        .ports
        .iter()
        .filter(|port| learn_until.is_some() || is_opened(port, &rules))
        .cloned()
        .collect();
    if ports.is_empty() {
        return None;
    }
    let view = OutboundView {
        service: name.clone(),
        ports,
        endpoints: entry
            .endpoints
            .values()
            .filter(|endpoint| is_offered(world, service, endpoint))
            .cloned()
            .collect(),
        external: service.external.clone(),
        rules,
        encoded_slashes: encoded_slashes(service.encoded_slashes),
        learn_until,
    };
    Some((&view).into())
}

/// Who may no longer offer a service has no endpoints there, even while its lease lives.
fn is_offered(world: &World, service: &Service, endpoint: &Endpoint) -> bool {
    local_workload(world, &endpoint.identity)
        .is_some_and(|workload| service.may_be_offered_by(&workload))
}

/// The rules that open this service to the identity now, as its sidecar may know them.
pub(crate) fn rules_for(
    world: &World,
    entry: &Entry,
    id: &SpiffeId,
    now: Timestamp,
) -> Vec<Arc<Rule>> {
    let in_force = entry.rules.values().filter(|rule| rule.is_in_force(now));
    in_force
        .filter_map(|rule| rule.narrowed_to(id, &world.trust_domain))
        .map(Arc::new)
        .collect()
}

/// The service with all its rules, if this identity may offer it.
pub(super) fn inbound(world: &World, id: &SpiffeId, name: &ServiceName) -> Option<v1::Inbound> {
    let entry = world.entry(name)?;
    let service = entry.service.as_ref()?;
    let workload = local_workload(world, id)?;
    if !service.may_be_offered_by(&workload) {
        return None;
    }
    let view = InboundView {
        service: name.clone(),
        ports: service.ports.clone(),
        rules: entry.rules.values().cloned().collect(),
        encoded_slashes: encoded_slashes(service.encoded_slashes),
        health: service.health.clone(),
        learn_until: world.learn_until(&name.namespace),
    };
    Some((&view).into())
}

/// Whom this identity must not trust, among those that it may meet: itself, the endpoints that it sees, the sources of
/// rules for what it offers, and every workload where one of these learns.
pub(super) fn revocations(
    world: &World,
    id: &SpiffeId,
    (seen, offered): (&[ServiceName], &[ServiceName]),
    now: Timestamp,
) -> v1::Revocations {
    let distrust = &world.distrust;
    if distrust.is_empty() {
        return (&Revocations::default()).into();
    }
    let endpoints: BTreeSet<&SpiffeId> = entries(world, seen)
        .flat_map(endpoints)
        .map(|endpoint| &endpoint.identity)
        .collect();
    let rules: Vec<&Arc<Rule>> = entries(world, offered)
        .flat_map(|entry| entry.rules.values())
        .collect();
    let is_learning = offered
        .iter()
        .any(|name| learns_until(world, name, now).is_some());
    let is_met = |other: &&SpiffeId| {
        *other == id
            || (is_learning && local_workload(world, other).is_some())
            || endpoints.contains(other)
            || rules
                .iter()
                .any(|rule| rule.matches_source(other, &world.trust_domain))
    };
    let serials = distrust
        .serials
        .iter()
        .filter(|(_, identity)| identity.as_ref().is_none_or(|id| is_met(&id)));
    let revocations = Revocations {
        identities: distrust.identities.iter().filter(is_met).cloned().collect(),
        serials: serials.map(|(serial, _)| serial.clone()).collect(),
        quarantined: distrust
            .quarantined
            .iter()
            .filter(is_met)
            .cloned()
            .collect(),
    };
    (&revocations).into()
}

/// The end of the learning of a service's namespace, if it learns now.
fn learns_until(world: &World, name: &ServiceName, now: Timestamp) -> Option<Timestamp> {
    world
        .learn_until(&name.namespace)
        .filter(|until| now < *until)
}

/// The workload of an identity of this trust domain.
pub(crate) fn local_workload(world: &World, id: &SpiffeId) -> Option<WorkloadName> {
    id.workload().filter(|_| id.is_in(&world.trust_domain))
}

fn entries<'a>(world: &'a World, names: &'a [ServiceName]) -> impl Iterator<Item = &'a Arc<Entry>> {
    names.iter().filter_map(|name| world.entry(name))
}

fn endpoints(entry: &Arc<Entry>) -> impl Iterator<Item = &Endpoint> {
    entry.endpoints.values()
}

fn is_opened(port: &Port, rules: &[Arc<Rule>]) -> bool {
    rules.iter().any(|rule| rule.matches_port(&port.name))
}
