//! Which service port of the workload an inbound connection is for, and whether it is declared still.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_catalog::Port;
use weft_identity::{DnsLabel, ServiceName, ServicePort, parse_server_name};
use weft_policy::Reason;

use super::Refusal;
use crate::config::Config;
use crate::connections::DeclaredPort;
use crate::view::Enforced;

/// What an inbound connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub service: ServiceName,
    pub port: DnsLabel,
    pub declared: DeclaredPort,
    /// Where the application listens.
    pub app: SocketAddr,
}

impl Target {
    pub fn service_port(&self) -> ServicePort {
        ServicePort {
            service: self.service.clone(),
            port: self.port.clone(),
        }
    }
}

/// The target of an inbound connection: what its SNI names, else the workload's only service port, else none.
pub fn inbound_target(
    enforced: &Enforced,
    config: &Config,
    server_name: Option<&str>,
) -> Result<Target, Refusal> {
    if enforced.stale {
        return Err(Refusal::new(Reason::Stale));
    }
    let (service, port) = match server_name {
        Some(name) => named_port(enforced, name)?,
        None => only_port(enforced)?,
    };
    let named = ServicePort {
        service: service.clone(),
        port: port.name.clone(),
    };
    let app = config.apps.get(&named).copied().unwrap_or(SocketAddr::new(
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        port.target_port,
    ));
    Ok(Target {
        service: named.service,
        port: named.port,
        declared: declared(port),
        app,
    })
}

/// Whether the port is declared as it was: what is no longer declared, or leads elsewhere now, is no longer reachable.
pub fn admit_port(
    enforced: &Enforced,
    target: &ServicePort,
    as_before: DeclaredPort,
) -> Result<(), Refusal> {
    let now = enforced
        .inbound
        .get(&target.service)
        .and_then(|offered| port_named(&offered.view.ports, &target.port));
    match now {
        Some(port) if declared(port) == as_before => Ok(()),
        Some(_) | None => Err(Refusal::new(Reason::UnknownTarget)),
    }
}

fn named_port<'a>(
    enforced: &'a Enforced,
    name: &str,
) -> Result<(&'a ServiceName, &'a Port), Refusal> {
    let unknown = || Refusal::new(Reason::UnknownTarget);
    let named = parse_server_name(name, &enforced.trust_domain).map_err(|_| unknown())?;
    if enforced.unreadable_inbound.contains(&named.service) {
        return Err(Refusal::new(Reason::PolicyUnreadable));
    }
    let (service, offered) = enforced
        .inbound
        .get_key_value(&named.service)
        .ok_or_else(unknown)?;
    let port = port_named(&offered.view.ports, &named.port).ok_or_else(unknown)?;
    Ok((service, port))
}

pub(super) fn port_named<'p>(ports: &'p [Port], name: &DnsLabel) -> Option<&'p Port> {
    ports.iter().find(|port| port.name == *name)
}

fn declared(port: &Port) -> DeclaredPort {
    DeclaredPort {
        protocol: port.protocol,
        target_port: port.target_port,
    }
}

fn only_port(enforced: &Enforced) -> Result<(&ServiceName, &Port), Refusal> {
    let unknown =
        || Refusal::new(Reason::UnknownTarget).because("no server name, and no only port");
    // A service that cannot be read might have been a second one.
    if !enforced.unreadable_inbound.is_empty() {
        return Err(Refusal::new(Reason::PolicyUnreadable));
    }
    let mut ports = enforced
        .inbound
        .iter()
        .flat_map(|(service, offered)| offered.view.ports.iter().map(move |port| (service, port)));
    let only = ports.next().ok_or_else(unknown)?;
    match ports.next() {
        None => Ok(only),
        Some(_) => Err(unknown()),
    }
}
