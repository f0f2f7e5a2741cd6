//! Requests that name their own targets: those that come to the HTTP proxy.

use std::sync::Arc;

use weft_catalog::{Port, Protocol};
use weft_identity::{DnsLabel, ServiceName, ServicePort, parse_mesh_host};
use weft_policy::Reason;

use super::request::Way;
use crate::enforce::Refusal;
use crate::listener::Shared;
use crate::view::Enforced;

/// Finds each request's way by the host that it names.
pub struct Guide {
    shared: Arc<Shared>,
}

impl Guide {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }

    /// The way of a request, unless it is that of the last one.
    pub fn way(&self, authority: Option<&str>, last: &Way) -> Option<Way> {
        let target = {
            let enforced = self.shared.current.load();
            authority.and_then(|authority| named(&enforced, authority))
        };
        match target {
            Some(target) if last.target.as_ref().ok() == Some(&target) => None,
            Some(target) => Some(Way::by_request(&self.shared, target)),
            None => Some(Way::unknown(
                &self.shared,
                Refusal::new(Reason::UnknownTarget),
            )),
        }
    }
}

/// The service port that an authority names: `<service>.<namespace>[.<trust domain>][:<port>]`.
fn named(enforced: &Enforced, authority: &str) -> Option<ServicePort> {
    let authority = authority.to_ascii_lowercase();
    let (host, number) = match authority.rsplit_once(':') {
        Some((host, number)) => (host, number.parse().ok()?),
        None => (authority.as_str(), DEFAULT_PORT),
    };
    let service = parse_mesh_host(host, &enforced.trust_domain)?;
    let port = port_of(enforced, &service, |port| port.port == number);
    let name: DnsLabel = match port {
        Some(port) => port.name.clone(),
        // A port that is not seen is refused under its number.
        None => number.to_string().parse().ok()?,
    };
    Some(ServicePort {
        service,
        port: name,
    })
}

/// What a service port speaks, if this workload may know it.
pub fn declared(enforced: &Enforced, target: &ServicePort) -> Option<Protocol> {
    port_of(enforced, &target.service, |port| port.name == target.port).map(|port| port.protocol)
}

fn port_of<'e>(
    enforced: &'e Enforced,
    service: &ServiceName,
    is_it: impl Fn(&Port) -> bool,
) -> Option<&'e Port> {
    let ports = &enforced.outbound.get(service)?.view.ports;
    ports.iter().find(|port| is_it(port))
}

const DEFAULT_PORT: u16 = 80;
