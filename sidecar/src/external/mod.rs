//! Services of the world outside: which host is meant, which address it leads to, and what may pass to it.
//!
//! The client's sidecar is the only one on such a connection, so it is the authority. Invariants: a name is looked up only for what a rule
//! allows; an address is judged after it was resolved, and is what is dialled; the host that is dialled is the one that the application
//! names inside: in `Host`, or as the server name of its TLS.

mod dial;
mod hello;
mod resolver;
#[cfg(test)]
mod tests;
mod tunnel;

use std::net::SocketAddr;
use std::sync::OnceLock;

use weft_catalog::{External, HostName, Port};
use weft_identity::ServicePort;
use weft_policy::{Reason, host_of};

use crate::enforce::Refusal;
use crate::view::Enforced;

pub use dial::{Outside, Undialled, first_of};
pub use hello::{Hello, MISDIRECTED_ALERT};
pub use resolver::{ResolveError, Resolver};
pub use tunnel::serve as serve_opaque;

/// A port of an external service that this workload may call.
#[derive(Clone, Copy)]
pub struct OutsidePort<'e> {
    pub external: &'e External,
    pub port: &'e Port,
}

/// Where one opaque connection leads; each is known a little later than the other.
#[derive(Debug, Default)]
pub struct Destination {
    pub host: OnceLock<HostName>,
    pub address: OnceLock<SocketAddr>,
}

impl Destination {
    /// Whether it may go on leading there.
    pub fn still_allowed(&self, enforced: &Enforced, target: &ServicePort) -> Result<(), Refusal> {
        if let Some(host) = self.host.get() {
            admit_host(enforced, target, host)?;
        }
        match self.address.get() {
            Some(address) => admit_address(enforced, target, *address),
            None => Ok(()),
        }
    }
}

/// The port, if it is one of an external service.
pub fn port<'e>(enforced: &'e Enforced, target: &ServicePort) -> Option<OutsidePort<'e>> {
    // Who calls nothing outside pays nothing for it, request by request.
    if enforced.external.is_empty() {
        return None;
    }
    let view = &enforced.outbound.get(&target.service)?.view;
    let external = view.external.as_ref()?;
    let port = view.ports.iter().find(|port| port.name == target.port)?;
    Some(OutsidePort { external, port })
}

/// The port that a host and a number name to the proxy; of several services the one that names it most precisely.
pub fn named(enforced: &Enforced, host: &HostName, number: u16) -> Option<ServicePort> {
    let services = enforced.external.iter().filter_map(|service| {
        let view = &service.view;
        Some((
            &view.service,
            view.external.as_ref()?,
            view.ports.as_slice(),
        ))
    });
    weft_catalog::named(services, host, number)
}

/// The host that an authority names, and its port.
pub fn read_authority(authority: &str) -> Option<(HostName, Option<u16>)> {
    let number = match authority.rsplit_once(':') {
        Some((_, number)) => Some(number.parse().ok()?),
        None => None,
    };
    Some((host_of(authority).parse().ok()?, number))
}

impl OutsidePort<'_> {
    /// The host of a request, which must be one of the service's, on the service's port: nothing else is reached by the way.
    pub fn host(&self, authority: Option<&str>) -> Result<HostName, Refusal> {
        let named = authority.and_then(read_authority);
        match named {
            Some((host, number))
                if number.is_none_or(|number| number == self.port.port)
                    && self.external.names(&host) =>
            {
                Ok(host)
            }
            Some(_) | None => {
                Err(Refusal::new(Reason::Misdirected).because("`Host` is none of the service's"))
            }
        }
    }
}

/// Whether the service still has this name.
pub fn admit_host(
    enforced: &Enforced,
    target: &ServicePort,
    host: &HostName,
) -> Result<(), Refusal> {
    match port(enforced, target) {
        Some(outside) if outside.external.names(host) => Ok(()),
        Some(_) | None => {
            Err(Refusal::new(Reason::Misdirected).because("the host is none of the service's"))
        }
    }
}

/// Whether a name of the service may lead to this address, as far as the view says. What is mesh is never outside, whatever is listed.
pub fn admit_address(
    enforced: &Enforced,
    target: &ServicePort,
    address: SocketAddr,
) -> Result<(), Refusal> {
    let forbidden = |why: String| Err(Refusal::new(Reason::ForbiddenAddress).because(why));
    let Some(outside) = port(enforced, target) else {
        return forbidden(format!("{target} is not outside of the mesh"));
    };
    if let Err(kind) = outside.external.may_dial(address.ip()) {
        let (ip, kind) = (address.ip(), kind.as_str());
        return forbidden(format!(
            "{ip} is {kind}, and spec.allowAddresses does not list it"
        ));
    }
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let services = enforced.outbound.values();
    let mut endpoints = services.flat_map(|service| &service.view.endpoints);
    if endpoints.any(|endpoint| canonical(endpoint.address) == canonical(address)) {
        return forbidden(format!("{address} is an endpoint of the mesh"));
    }
    Ok(())
}
