//! Services, their ports, health checks and endpoints.

use weft_catalog::{
    Cidr, EncodedSlashes, Endpoint, External, Health, HealthCheck, HealthSpec, HostPattern,
    HttpProbeSpec, Length, Port, PortSpec, Probe, Protocol, Service, ServiceSpec, ServiceType,
    TcpProbeSpec, check_address, check_instance,
};
use weft_identity::{DnsLabel, NameError, ServiceName};

use crate::error::{At, ConversionError, Problem, each, required};
use crate::time::{read_duration, write_duration};
use crate::v1;

/// Reads a service whose name stands in its metadata.
pub(crate) fn read_service(
    name: ServiceName,
    spec: &v1::ServiceSpec,
) -> Result<Service, ConversionError> {
    let document = read_service_spec(spec).at("spec")?;
    Ok(Service::from_spec(name, &document)?)
}

fn read_service_spec(spec: &v1::ServiceSpec) -> Result<ServiceSpec, ConversionError> {
    let external = spec.external.as_ref();
    Ok(ServiceSpec {
        kind: match external {
            None => ServiceType::Mesh,
            Some(_) => ServiceType::External,
        },
        hosts: external.map_or_else(|| Ok(Vec::new()), read_hosts)?,
        allow_addresses: external.map_or_else(|| Ok(Vec::new()), read_ranges)?,
        workloads: each(&spec.workloads, "workloads", |name| name.parse())?,
        ports: each(&spec.ports, "ports", read_port_spec)?,
        health: spec
            .health
            .as_ref()
            .map(read_health_spec)
            .transpose()
            .at("health")?,
        encoded_slashes: read_encoded_slashes(spec.keep_encoded_slashes),
    })
}

fn read_hosts(external: &v1::External) -> Result<Vec<HostPattern>, ConversionError> {
    each(&external.hosts, "hosts", |host| host.parse())
}

fn read_ranges(external: &v1::External) -> Result<Vec<Cidr>, ConversionError> {
    each(&external.allow_addresses, "allowAddresses", |range| {
        range.parse()
    })
}

impl TryFrom<&v1::External> for External {
    type Error = ConversionError;

    fn try_from(external: &v1::External) -> Result<Self, ConversionError> {
        Ok(Self::new(
            "",
            &read_hosts(external)?,
            &read_ranges(external)?,
        )?)
    }
}

impl From<&External> for v1::External {
    fn from(external: &External) -> Self {
        Self {
            hosts: external.hosts().iter().map(ToString::to_string).collect(),
            allow_addresses: external
                .allow_addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

impl From<&Service> for v1::ServiceSpec {
    fn from(service: &Service) -> Self {
        Self {
            workloads: service.workloads.iter().map(ToString::to_string).collect(),
            ports: service.ports.iter().map(Into::into).collect(),
            health: service.health.as_ref().map(Into::into),
            keep_encoded_slashes: service.encoded_slashes == EncodedSlashes::Keep,
            external: service.external.as_ref().map(Into::into),
        }
    }
}

fn read_encoded_slashes(keep: bool) -> EncodedSlashes {
    if keep {
        EncodedSlashes::Keep
    } else {
        EncodedSlashes::Refuse
    }
}

impl TryFrom<&v1::ServicePort> for Port {
    type Error = ConversionError;

    fn try_from(port: &v1::ServicePort) -> Result<Self, ConversionError> {
        Ok(Self {
            name: port.name.parse::<DnsLabel>().at("name")?,
            port: read_port_number(port.port).at("port")?,
            target_port: read_port_number(port.target_port).at("targetPort")?,
            protocol: read_protocol(port.protocol).at("protocol")?,
        })
    }
}

fn read_port_spec(port: &v1::ServicePort) -> Result<PortSpec, ConversionError> {
    let Port {
        name,
        port,
        target_port,
        protocol,
    } = port.try_into()?;
    Ok(PortSpec {
        name,
        port,
        target_port: Some(target_port),
        protocol,
    })
}

impl From<&Port> for v1::ServicePort {
    fn from(port: &Port) -> Self {
        Self {
            name: port.name.to_string(),
            port: port.port.into(),
            target_port: port.target_port.into(),
            protocol: v1::Protocol::from(port.protocol).into(),
        }
    }
}

/// 0 is refused here as well as above 65535: on the wire nothing has a default.
fn read_port_number(number: u32) -> Result<u16, ConversionError> {
    match u16::try_from(number) {
        Ok(0) => Err(Problem::Missing.into()),
        Ok(number) => Ok(number),
        Err(_) => Err(Problem::TooLarge {
            value: number.into(),
            most: u16::MAX.into(),
        }
        .into()),
    }
}

fn read_protocol(value: i32) -> Result<Protocol, Problem> {
    match v1::Protocol::try_from(value).map_err(|_| Problem::UnknownValue(value))? {
        v1::Protocol::Unspecified => Err(Problem::Missing),
        v1::Protocol::Http => Ok(Protocol::Http),
        v1::Protocol::Http2 => Ok(Protocol::Http2),
        v1::Protocol::Grpc => Ok(Protocol::Grpc),
        v1::Protocol::Tcp => Ok(Protocol::Tcp),
        v1::Protocol::Tls => Ok(Protocol::Tls),
    }
}

impl From<Protocol> for v1::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http => Self::Http,
            Protocol::Http2 => Self::Http2,
            Protocol::Grpc => Self::Grpc,
            Protocol::Tcp => Self::Tcp,
            Protocol::Tls => Self::Tls,
        }
    }
}

impl TryFrom<&v1::HealthCheck> for HealthCheck {
    type Error = ConversionError;

    fn try_from(health: &v1::HealthCheck) -> Result<Self, ConversionError> {
        let probe = match required(&health.probe, "probe")? {
            v1::health_check::Probe::Http(probe) => Probe::Http {
                path: probe.path.clone(),
                port: read_probed_port(&probe.port).at("http.port")?,
            },
            v1::health_check::Probe::Tcp(probe) => Probe::Tcp {
                port: read_probed_port(&probe.port).at("tcp.port")?,
            },
        };
        let interval = read_duration(required(&health.interval, "interval")?).at("interval")?;
        Ok(Self {
            probe,
            interval: Length::try_from(interval).at("interval")?,
        })
    }
}

/// Empty means the service's first port.
fn read_probed_port(name: &str) -> Result<Option<DnsLabel>, NameError> {
    if name.is_empty() {
        Ok(None)
    } else {
        name.parse().map(Some)
    }
}

fn read_health_spec(health: &v1::HealthCheck) -> Result<HealthSpec, ConversionError> {
    let HealthCheck { probe, interval } = health.try_into()?;
    let (http, tcp) = match probe {
        Probe::Http { path, port } => (Some(HttpProbeSpec { path, port }), None),
        Probe::Tcp { port } => (None, Some(TcpProbeSpec { port })),
    };
    Ok(HealthSpec {
        http,
        tcp,
        interval: Some(interval),
    })
}

impl From<&HealthCheck> for v1::HealthCheck {
    fn from(health: &HealthCheck) -> Self {
        let named =
            |port: &Option<DnsLabel>| port.as_ref().map(ToString::to_string).unwrap_or_default();
        let probe = match &health.probe {
            Probe::Http { path, port } => v1::health_check::Probe::Http(v1::HttpProbe {
                path: path.clone(),
                port: named(port),
            }),
            Probe::Tcp { port } => v1::health_check::Probe::Tcp(v1::TcpProbe { port: named(port) }),
        };
        Self {
            probe: Some(probe),
            interval: Some(write_duration(health.interval.get())),
        }
    }
}

impl TryFrom<&v1::Endpoint> for Endpoint {
    type Error = ConversionError;

    fn try_from(endpoint: &v1::Endpoint) -> Result<Self, ConversionError> {
        check_instance(&endpoint.instance).at("instance")?;
        Ok(Self {
            address: read_address(&endpoint.address).at("address")?,
            identity: endpoint
                .identity
                .parse()
                .map_err(Problem::Name)
                .at("identity")?,
            health: read_health(endpoint.health).at("health")?,
            instance: endpoint.instance.clone(),
        })
    }
}

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            identity: endpoint.identity.to_string(),
            health: v1::Health::from(endpoint.health).into(),
            instance: endpoint.instance.clone(),
        }
    }
}

/// Reads the `ip:port` of a listener that a peer can dial.
pub fn read_address(text: &str) -> Result<std::net::SocketAddr, ConversionError> {
    let address = text.parse().map_err(|_| Problem::Address)?;
    check_address(&address)?;
    Ok(address)
}

/// Reads the health of an endpoint, in views and in registrations.
pub fn read_health(value: i32) -> Result<Health, ConversionError> {
    match v1::Health::try_from(value).map_err(|_| Problem::UnknownValue(value))? {
        v1::Health::Unspecified => Err(Problem::Missing.into()),
        v1::Health::Healthy => Ok(Health::Healthy),
        v1::Health::Unhealthy => Ok(Health::Unhealthy),
        v1::Health::Draining => Ok(Health::Draining),
    }
}

impl From<Health> for v1::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::Unhealthy,
            Health::Draining => Self::Draining,
        }
    }
}
