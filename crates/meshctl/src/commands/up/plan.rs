//! What one start of the mesh comes to: for each replica its addresses, its sidecar's configuration and its command.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weft_catalog::Service;
use weft_identity::{DnsLabel, ServicePort, TrustDomain, WorkloadName};

use super::mesh_file::{MeshFile, Workload};
use super::placeholders::{self, Values};
use super::ports::Ports;
use super::resources::MeshResources;
use super::state::State;

/// Everything that one start is made from.
#[derive(Clone, Copy)]
pub(super) struct Launch<'a> {
    pub(super) mesh: &'a MeshFile,
    pub(super) resources: &'a MeshResources,
    pub(super) addresses: &'a ControlPlaneAddresses,
    pub(super) replicas: &'a [Replica],
    pub(super) state: &'a State,
}

/// The control plane's addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct ControlPlaneAddresses {
    pub(super) api: SocketAddr,
    pub(super) attestation: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// One replica: a program and its sidecar.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) instance: String,
    pub(super) workload: Workload,
    pub(super) values: Values,
    pub(super) inbound: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Service ports that this replica offers, with the address its program listens on.
    pub(super) apps: BTreeMap<ServicePort, SocketAddr>,
}

impl ControlPlaneAddresses {
    pub(super) fn assign(ports: &mut Ports) -> anyhow::Result<Self> {
        Ok(Self {
            api: ports.assign("control-plane/api", 0)?,
            attestation: ports.assign("control-plane/attestation", 0)?,
            admin: ports.assign("control-plane/admin", 0)?,
        })
    }
}

/// Every replica of the mesh, its addresses assigned.
pub(super) fn replicas(
    mesh: &MeshFile,
    services: &[Service],
    ports: &mut Ports,
) -> anyhow::Result<Vec<Replica>> {
    let meshctl = std::env::current_exe()?.display().to_string();
    let mut replicas = Vec::new();
    for workload in &mesh.workloads {
        for instance in workload.instances() {
            replicas.push(Replica::assign(
                workload, instance, &meshctl, services, ports,
            )?);
        }
    }
    Ok(replicas)
}

impl Replica {
    fn assign(
        workload: &Workload,
        instance: String,
        meshctl: &str,
        services: &[Service],
        ports: &mut Ports,
    ) -> anyhow::Result<Self> {
        let mut own = BTreeMap::new();
        for (name, &number) in &workload.ports {
            own.insert(
                name.clone(),
                ports.assign(&format!("{instance}/port/{name}"), number)?,
            );
        }
        let mut upstreams = BTreeMap::new();
        for upstream in &workload.upstreams {
            upstreams.insert(
                upstream.clone(),
                ports.assign(&format!("{instance}/upstream/{upstream}"), 0)?,
            );
        }
        let values = Values {
            meshctl: meshctl.to_owned(),
            replica: instance.clone(),
            ports: own,
            upstreams,
            proxy: ports.assign(&format!("{instance}/proxy"), 0)?,
        };
        Ok(Self {
            inbound: ports.assign(&format!("{instance}/inbound"), 0)?,
            admin: ports.assign(&format!("{instance}/admin"), 0)?,
            apps: offered(&workload.name, &values.ports, services),
            workload: workload.clone(),
            instance,
            values,
        })
    }

    /// In how many services this replica is an endpoint.
    pub(super) fn services_offered(&self) -> usize {
        self.apps
            .keys()
            .map(|offered| &offered.service)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// The program and its arguments.
    pub(super) fn command(&self) -> anyhow::Result<(PathBuf, Vec<String>)> {
        let mut words = Vec::with_capacity(self.workload.command.len());
        for word in &self.workload.command {
            words.push(placeholders::expand(word, &self.values)?);
        }
        let program = words.first().map(PathBuf::from).unwrap_or_default();
        Ok((program, words.split_off(1.min(words.len()))))
    }

    pub(super) fn env(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut env = BTreeMap::new();
        for (name, text) in &self.workload.env {
            env.insert(name.clone(), placeholders::expand(text, &self.values)?);
        }
        Ok(env)
    }

    /// The sidecar's configuration file.
    pub(super) fn sidecar_config(
        &self,
        trust_domain: &TrustDomain,
        control_plane: &ControlPlaneAddresses,
        runtime: &Path,
        token_file: &Path,
    ) -> anyhow::Result<String> {
        let config = SidecarConfig {
            workload: &self.workload.name,
            instance: &self.instance,
            trust_domain,
            control_plane: ControlPlane {
                api: control_plane.api,
                attestation: control_plane.attestation,
            },
            join_token_file: token_file,
            runtime,
            inbound: Listen {
                listen: self.inbound,
            },
            http_proxy: Listen {
                listen: self.values.proxy,
            },
            upstreams: self
                .values
                .upstreams
                .iter()
                .map(|(to, &listen)| Upstream {
                    service: to.service.to_string(),
                    port: &to.port,
                    listen,
                })
                .collect(),
            apps: self
                .apps
                .iter()
                .map(|(offered, &address)| App {
                    service: offered.service.to_string(),
                    port: &offered.port,
                    address,
                })
                .collect(),
            admin: Listen { listen: self.admin },
        };
        Ok(serde_saphyr::to_string(&config)?)
    }
}

/// The service ports that a workload offers with the ports it lists, matched by name.
fn offered(
    workload: &WorkloadName,
    own: &BTreeMap<DnsLabel, SocketAddr>,
    services: &[Service],
) -> BTreeMap<ServicePort, SocketAddr> {
    let mut apps = BTreeMap::new();
    for service in services
        .iter()
        .filter(|service| service.workloads.contains(workload))
    {
        for port in &service.ports {
            if let Some(&address) = own.get(&port.name) {
                apps.insert(
                    ServicePort {
                        service: service.name.clone(),
                        port: port.name.clone(),
                    },
                    address,
                );
            }
        }
    }
    apps
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SidecarConfig<'a> {
    workload: &'a WorkloadName,
    instance: &'a str,
    trust_domain: &'a TrustDomain,
    control_plane: ControlPlane,
    join_token_file: &'a Path,
    runtime: &'a Path,
    inbound: Listen,
    http_proxy: Listen,
    upstreams: Vec<Upstream<'a>>,
    apps: Vec<App<'a>>,
    admin: Listen,
}

#[derive(Serialize)]
struct ControlPlane {
    api: SocketAddr,
    attestation: SocketAddr,
}

#[derive(Serialize)]
struct Listen {
    listen: SocketAddr,
}

#[derive(Serialize)]
struct Upstream<'a> {
    service: String,
    port: &'a DnsLabel,
    listen: SocketAddr,
}

#[derive(Serialize)]
struct App<'a> {
    service: String,
    port: &'a DnsLabel,
    address: SocketAddr,
}
