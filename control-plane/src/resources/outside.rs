//! What an edit means for services outside of the mesh: names that they may not have, and advice.

use std::sync::Arc;

use tonic::Status;
use weft_catalog::{HostPattern, Service};
use weft_identity::{ServiceName, TrustDomain};
use weft_policy::Rule;

use super::apply::Edit;
use crate::world::World;

impl Edit {
    /// A host that is a short mesh name would hide a service, or be hidden by one, depending on who asks.
    pub(super) fn check_hosts(
        &self,
        world: &World,
        trust_domain: &TrustDomain,
    ) -> Result<(), Status> {
        let is_namespace = |namespace: &str| {
            let is_its = |name: &ServiceName| name.namespace.as_str() == namespace;
            let stored = world
                .services()
                .filter(|(_, entry)| entry.service.is_some());
            self.services().any(|service| is_its(&service.name))
                || stored.map(|(name, _)| name).any(is_its)
        };
        for service in self.services() {
            let Some(external) = &service.external else {
                continue;
            };
            external
                .check_not_mesh(trust_domain, is_namespace)
                .map_err(|invalid| {
                    Status::invalid_argument(format!("Service/{}: {invalid}", service.name))
                })?;
        }
        Ok(())
    }

    /// Hosts that several services claim, conditions that nobody can judge, and addresses that nobody asks for.
    pub(super) fn advice<'a>(&'a self, world: &'a World) -> impl Iterator<Item = String> + 'a {
        self.overlaps(world)
            .chain(self.unjudged(world))
            .chain(self.unasked(world))
    }

    fn overlaps<'a>(&'a self, world: &'a World) -> impl Iterator<Item = String> + 'a {
        self.services().flat_map(move |service| {
            let stored = world
                .services()
                .filter_map(|(_, entry)| entry.service.as_deref());
            let stored = stored.filter(|other| self.service(&other.name).is_none());
            // Of two that are both new, it is said once.
            let own = self.services().filter(|other| other.name < service.name);
            stored.chain(own).flat_map(move |other| {
                let shared = weft_catalog::overlaps(service, other).into_iter();
                shared.map(move |(one, two, port)| overlap(service, &one, other, &two, port))
            })
        })
    }

    /// On ports of bytes there is no request to look at.
    fn unjudged<'a>(&'a self, world: &'a World) -> impl Iterator<Item = String> + 'a {
        let with_conditions = self
            .rules_with_services(world)
            .filter(|(rule, _)| !rule.http.is_any());
        with_conditions.flat_map(|(rule, service)| {
            let ports = service.into_iter().flat_map(|service| &service.ports);
            let opaque =
                ports.filter(|port| !port.protocol.is_http() && rule.matches_port(&port.name));
            opaque.map(move |port| {
                format!(
                    "Allow/{}: has HTTP conditions, which cannot be judged on port `{}` of {} ({}): there it allows nothing",
                    rule.name, port.name, rule.service, port.protocol
                )
            })
        })
    }

    /// Whoever calls the world outside does so through a sidecar of its own, and that one knows who it is.
    fn unasked<'a>(&'a self, world: &'a World) -> impl Iterator<Item = String> + 'a {
        let outside = self.rules_with_services(world).filter(|(rule, service)| {
            let is_outside = service.is_some_and(|service| service.external.is_some());
            is_outside && !rule.from.addresses().is_empty()
        });
        outside.map(|(rule, _)| {
            format!(
                "Allow/{}: has `fromAddresses`, but {} is outside: every caller has an identity there, and none is matched by its address",
                rule.name, rule.service
            )
        })
    }

    /// The rules of this edit, and the stored ones of its services, each with its service as it will be.
    pub(super) fn rules_with_services<'a>(
        &'a self,
        world: &'a World,
    ) -> impl Iterator<Item = (&'a Arc<Rule>, Option<&'a Service>)> {
        let own = self.rules().map(|rule| {
            let stored = || world.service(&rule.service).map(Arc::as_ref);
            (rule, self.service(&rule.service).or_else(stored))
        });
        let stored = self.services().flat_map(|service| {
            let entry = world.entry(&service.name);
            let rules = entry.into_iter().flat_map(|entry| entry.rules.values());
            let kept = rules.filter(|rule| !self.puts_rule(&rule.name));
            kept.map(move |rule| (rule, Some(service)))
        });
        own.chain(stored)
    }
}

fn overlap(
    service: &Service,
    host: &HostPattern,
    other: &Service,
    others_host: &HostPattern,
    port: u16,
) -> String {
    format!(
        "Service/{}: host `{host}` is also `{others_host}` of {}, both on port {port}; the HTTP proxy takes the more precise one",
        service.name, other.name
    )
}
