//! A service as the mesh uses it: who may offer it, its ports, and how its health is asked for.
//!
//! Invariant: a `Service` has at least one port, and either at least one workload or is external; every name and number of a port is unique,
//! and a probe names a port that exists.

use std::collections::BTreeSet;

use weft_identity::document::Document;
use weft_identity::{DnsLabel, ServiceName, ServicePort, TrustDomain, WorkloadName, server_name};

use crate::documents::{
    EncodedSlashes, HealthSpec, HttpProbeSpec, PortSpec, ServiceSpec, ServiceType, TcpProbeSpec,
};
use crate::external::External;
use crate::invalid::{Invalid, Problem};
use crate::length::Length;
use crate::mesh::within;
use crate::protocol::Protocol;

/// A name that workloads offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: ServiceName,
    /// Who may offer it, in order of their names, without repetition. Nobody offers an external one.
    pub workloads: Vec<WorkloadName>,
    /// Its names in the world outside, if it is there.
    pub external: Option<External>,
    pub ports: Vec<Port>,
    pub health: Option<HealthCheck>,
    pub encoded_slashes: EncodedSlashes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub name: DnsLabel,
    /// The number that clients use.
    pub port: u16,
    /// The number that the application listens on.
    pub target_port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Length,
}

/// What is asked. Without a port it is the service's first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    Http {
        path: String,
        port: Option<DnsLabel>,
    },
    Tcp {
        port: Option<DnsLabel>,
    },
}

impl Service {
    pub fn from_document(document: &Document<ServiceSpec>) -> Result<Self, Invalid> {
        let Some(namespace) = &document.metadata.namespace else {
            return Err(Invalid::at(
                "metadata.namespace",
                Problem::NamespaceMissing { kind: "Service" },
            ));
        };
        let name = ServiceName {
            namespace: namespace.clone(),
            name: document.metadata.name.clone(),
        };
        Self::from_spec(name, &document.spec)
    }

    pub fn from_spec(name: ServiceName, spec: &ServiceSpec) -> Result<Self, Invalid> {
        check_type(spec)?;
        let ports: Vec<Port> = spec.ports.iter().map(Port::from_spec).collect();
        check_ports("spec.ports", &ports)?;
        let (workloads, external) = match spec.kind {
            ServiceType::Mesh => {
                check_mesh_ports("spec.ports", &ports)?;
                (read_workloads(&spec.workloads)?, None)
            }
            ServiceType::External => {
                check_outside_ports("spec.ports", &ports)?;
                let external = External::new("spec", &spec.hosts, &spec.allow_addresses)?;
                (Vec::new(), Some(external))
            }
        };
        let health = spec
            .health
            .as_ref()
            .map(HealthCheck::from_spec)
            .transpose()?;
        if let Some(health) = &health {
            check_health("spec.health", health, &ports)?;
        }
        Ok(Self {
            name,
            workloads,
            external,
            ports,
            health,
            encoded_slashes: spec.encoded_slashes,
        })
    }

    /// The spec that says everything, defaults included.
    pub fn to_spec(&self) -> ServiceSpec {
        let external = self.external.as_ref();
        ServiceSpec {
            kind: match external {
                None => ServiceType::Mesh,
                Some(_) => ServiceType::External,
            },
            workloads: self.workloads.clone(),
            hosts: external.map_or_else(Vec::new, |external| external.hosts().to_vec()),
            allow_addresses: external
                .map_or_else(Vec::new, |external| external.allow_addresses().to_vec()),
            ports: self.ports.iter().map(Port::to_spec).collect(),
            health: self.health.as_ref().map(HealthCheck::to_spec),
            encoded_slashes: self.encoded_slashes,
        }
    }

    /// Checks that every port has a server name in this trust domain.
    pub fn check_server_names(&self, trust_domain: &TrustDomain) -> Result<(), Invalid> {
        for (i, port) in self.ports.iter().enumerate() {
            let target = ServicePort {
                service: self.name.clone(),
                port: port.name.clone(),
            };
            server_name(&target, trust_domain).map_err(|error| {
                Invalid::at(format!("spec.ports[{i}].name"), Problem::ServerName(error))
            })?;
        }
        Ok(())
    }

    pub fn port(&self, name: &DnsLabel) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    pub fn port_numbered(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// The port by its name, or by the number that clients use where they know no more of it.
    pub fn port_called(&self, text: &str) -> Option<&Port> {
        let named = self.ports.iter().find(|port| port.name.as_str() == text);
        named.or_else(|| {
            text.parse()
                .ok()
                .and_then(|number| self.port_numbered(number))
        })
    }

    pub fn may_be_offered_by(&self, workload: &WorkloadName) -> bool {
        self.workloads.binary_search(workload).is_ok()
    }
}

impl Port {
    fn from_spec(spec: &PortSpec) -> Self {
        Self {
            name: spec.name.clone(),
            port: spec.port,
            target_port: spec.target_port.unwrap_or(spec.port),
            protocol: spec.protocol,
        }
    }

    fn to_spec(&self) -> PortSpec {
        PortSpec {
            name: self.name.clone(),
            port: self.port,
            target_port: Some(self.target_port),
            protocol: self.protocol,
        }
    }
}

impl HealthCheck {
    fn from_spec(spec: &HealthSpec) -> Result<Self, Invalid> {
        let probe = match (&spec.http, &spec.tcp) {
            (Some(http), None) => Probe::Http {
                path: http.path.clone(),
                port: http.port.clone(),
            },
            (None, Some(tcp)) => Probe::Tcp {
                port: tcp.port.clone(),
            },
            (None, None) | (Some(_), Some(_)) => {
                return Err(Invalid::at("spec.health", Problem::NotOneProbe));
            }
        };
        Ok(Self {
            probe,
            interval: spec.interval.unwrap_or(DEFAULT_INTERVAL),
        })
    }

    fn to_spec(&self) -> HealthSpec {
        let (http, tcp) = match &self.probe {
            Probe::Http { path, port } => (
                Some(HttpProbeSpec {
                    path: path.clone(),
                    port: port.clone(),
                }),
                None,
            ),
            Probe::Tcp { port } => (None, Some(TcpProbeSpec { port: port.clone() })),
        };
        HealthSpec {
            http,
            tcp,
            interval: Some(self.interval),
        }
    }
}

/// Checks a list of ports wherever it stands.
pub fn check_ports(path: &str, ports: &[Port]) -> Result<(), Invalid> {
    check_count(path, ports.len(), PORTS_LIMIT)?;
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if !names.insert(&port.name) {
            return Err(Invalid::at(
                format!("{path}[{i}].name"),
                Problem::Duplicate(port.name.to_string()),
            ));
        }
        if !numbers.insert(port.port) {
            return Err(Invalid::at(
                format!("{path}[{i}].port"),
                Problem::Duplicate(port.port.to_string()),
            ));
        }
        for (field, number) in [("port", port.port), ("targetPort", port.target_port)] {
            if number == 0 {
                return Err(Invalid::at(
                    format!("{path}[{i}].{field}"),
                    Problem::PortZero,
                ));
            }
        }
    }
    Ok(())
}

/// The schema that a reader of security messages must understand to enforce calls of this service.
pub fn required_schema(service: &Service) -> u32 {
    match service.external {
        None => 1,
        Some(_) => EXTERNAL_SCHEMA,
    }
}

/// Checks the ports of an external service, wherever they stand.
pub fn check_outside_ports(path: &str, ports: &[Port]) -> Result<(), Invalid> {
    match ports.iter().position(|port| port.target_port != port.port) {
        None => Ok(()),
        Some(i) => {
            let port = ports.get(i).map_or(0, |port| port.port);
            let problem = Problem::TargetPortElsewhere { port };
            Err(Invalid::at(format!("{path}[{i}].targetPort"), problem))
        }
    }
}

/// Checks the ports of a service that workloads offer, wherever they stand.
pub fn check_mesh_ports(path: &str, ports: &[Port]) -> Result<(), Invalid> {
    match ports.iter().position(|port| port.protocol == Protocol::Tls) {
        None => Ok(()),
        Some(i) => Err(Invalid::at(
            format!("{path}[{i}].protocol"),
            Problem::TlsInMesh,
        )),
    }
}

/// A field of the other type would be believed to mean something.
fn check_type(spec: &ServiceSpec) -> Result<(), Invalid> {
    let (kind, others) = match spec.kind {
        ServiceType::Mesh => (
            "Mesh",
            [
                ("hosts", !spec.hosts.is_empty()),
                ("allowAddresses", !spec.allow_addresses.is_empty()),
            ],
        ),
        ServiceType::External => (
            "External",
            [
                ("workloads", !spec.workloads.is_empty()),
                ("health", spec.health.is_some()),
            ],
        ),
    };
    match others.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((field, _)) => Err(Invalid::at(
            format!("spec.{field}"),
            Problem::NotOfThisType { kind, field },
        )),
    }
}

/// Checks a health check against the ports that it may probe.
pub fn check_health(path: &str, health: &HealthCheck, ports: &[Port]) -> Result<(), Invalid> {
    within(
        &format!("{path}.interval"),
        health.interval,
        LEAST_INTERVAL,
        MOST_INTERVAL,
    )?;
    match &health.probe {
        Probe::Http { path: asked, port } => {
            let port = probed_port(&format!("{path}.http.port"), port.as_ref(), ports)?;
            if port.protocol != Protocol::Http {
                let problem = Problem::ProbeNeedsHttp {
                    port: port.name.to_string(),
                    protocol: port.protocol,
                };
                return Err(Invalid::at(format!("{path}.http.port"), problem));
            }
            check_probe_path(&format!("{path}.http.path"), asked)
        }
        Probe::Tcp { port } => {
            probed_port(&format!("{path}.tcp.port"), port.as_ref(), ports).map(|_| ())
        }
    }
}

impl Probe {
    /// The port that is asked, among the service's.
    pub fn port<'a>(&self, ports: &'a [Port]) -> Option<&'a Port> {
        match self {
            Self::Http {
                port: Some(name), ..
            }
            | Self::Tcp { port: Some(name) } => ports.iter().find(|port| port.name == *name),
            Self::Http { port: None, .. } | Self::Tcp { port: None } => ports.first(),
        }
    }
}

fn probed_port<'a>(
    path: &str,
    name: Option<&DnsLabel>,
    ports: &'a [Port],
) -> Result<&'a Port, Invalid> {
    let probed = match name {
        Some(name) => ports.iter().find(|port| port.name == *name),
        None => ports.first(),
    };
    let missing = || Problem::NoSuchPort(name.map(ToString::to_string).unwrap_or_default());
    probed.ok_or_else(|| Invalid::at(path, missing()))
}

fn check_probe_path(path: &str, asked: &str) -> Result<(), Invalid> {
    let is_visible = asked
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !asked.starts_with('/') || asked.len() > PROBE_PATH_LIMIT || !is_visible {
        return Err(Invalid::at(
            path,
            Problem::ProbePath {
                limit: PROBE_PATH_LIMIT,
            },
        ));
    }
    Ok(())
}

/// Sorted, as their order means nothing and equal sets must be equal services.
fn read_workloads(workloads: &[WorkloadName]) -> Result<Vec<WorkloadName>, Invalid> {
    check_count("spec.workloads", workloads.len(), WORKLOADS_LIMIT)?;
    let mut seen = BTreeSet::new();
    for (i, workload) in workloads.iter().enumerate() {
        let path = || format!("spec.workloads[{i}]");
        if workload.is_reserved() {
            return Err(Invalid::at(path(), Problem::Reserved));
        }
        if !seen.insert(workload) {
            return Err(Invalid::at(
                path(),
                Problem::Duplicate(workload.to_string()),
            ));
        }
    }
    Ok(seen.into_iter().cloned().collect())
}

pub(crate) fn check_count(path: &str, count: usize, limit: usize) -> Result<(), Invalid> {
    match count {
        0 => Err(Invalid::at(path, Problem::Empty)),
        count if count > limit => Err(Invalid::at(path, Problem::TooMany { count, limit })),
        _ => Ok(()),
    }
}

/// The first schema whose readers know external services.
const EXTERNAL_SCHEMA: u32 = 3;
const PORTS_LIMIT: usize = 64;
const WORKLOADS_LIMIT: usize = 1_000;
const PROBE_PATH_LIMIT: usize = 1_024;
const DEFAULT_INTERVAL: Length = Length::from_secs(2);
const LEAST_INTERVAL: Length = Length::from_millis(100);
const MOST_INTERVAL: Length = Length::from_secs(60 * 60);

#[cfg(test)]
mod tests;
