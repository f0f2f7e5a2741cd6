//! What `policy` is told of services, from what the catalog says of them.

use std::net::IpAddr;
use std::sync::Arc;

use weft_catalog::{External, HostName, Protocol, Service};
use weft_identity::{ServiceName, ServicePort};
use weft_policy::{Carries, Outside, OutsidePort, ServiceFacts};

use crate::view::encoded_slashes;

/// What a verdict needs to know of a service.
pub fn service_facts(service: &Service) -> ServiceFacts {
    let ports = service.ports.iter();
    let is_opaque = |port: &&weft_catalog::Port| port.protocol == Protocol::Tcp;
    ServiceFacts {
        workloads: service.workloads.clone(),
        ports: ports.clone().map(|port| port.name.clone()).collect(),
        opaque_ports: ports
            .filter(is_opaque)
            .map(|port| port.name.clone())
            .collect(),
        encoded_slashes: encoded_slashes(service.encoded_slashes),
    }
}

/// The services that are outside of the mesh, by name.
#[derive(Debug, Clone, Default)]
pub struct OutsideServices(Vec<Arc<Service>>);

impl OutsideServices {
    /// Of these services those that are external.
    pub fn of(services: impl IntoIterator<Item = Arc<Service>>) -> Self {
        let services = services.into_iter();
        let mut outside: Vec<_> = services
            .filter(|service| service.external.is_some())
            .collect();
        outside.sort_by(|one, other| one.name.cmp(&other.name));
        Self(outside)
    }

    fn service(&self, name: &ServiceName) -> Option<(&Service, &External)> {
        let place = self.0.binary_search_by(|service| service.name.cmp(name));
        let service = self.0.get(place.ok()?)?;
        Some((service, service.external.as_ref()?))
    }
}

impl Outside for OutsideServices {
    fn named(
        &self,
        host: &str,
        number: u16,
        is_open: &dyn Fn(&ServicePort) -> bool,
    ) -> Option<ServicePort> {
        let host: HostName = host.parse().ok()?;
        let open = self.0.iter().filter(|service| {
            service.port_numbered(number).is_some_and(|port| {
                is_open(&ServicePort {
                    service: service.name.clone(),
                    port: port.name.clone(),
                })
            })
        });
        let open = open.filter_map(|service| {
            let external = service.external.as_ref()?;
            Some((&service.name, external, service.ports.as_slice()))
        });
        weft_catalog::named(open, &host, number)
    }

    fn port(&self, target: &ServicePort) -> Option<OutsidePort> {
        let (service, _) = self.service(&target.service)?;
        let port = service.port(&target.port)?;
        let carries = match port.protocol {
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => Carries::Http,
            Protocol::Tls => Carries::Tls,
            Protocol::Tcp => Carries::Bytes,
        };
        Some(OutsidePort {
            number: port.port,
            carries,
        })
    }

    fn names(&self, target: &ServicePort, host: &str) -> bool {
        let named = self.service(&target.service);
        named.is_some_and(|(_, external)| host.parse().is_ok_and(|host| external.names(&host)))
    }

    fn only_host(&self, target: &ServicePort) -> Option<String> {
        let (_, external) = self.service(&target.service)?;
        external.only_host().map(ToString::to_string)
    }

    fn may_dial(&self, target: &ServicePort, address: IpAddr) -> bool {
        let service = self.service(&target.service);
        service.is_some_and(|(_, external)| external.may_dial(address).is_ok())
    }
}
