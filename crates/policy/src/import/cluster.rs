//! The cluster that policies are about: pods with their labels and identities, namespaces, and services with the pods behind them.
//!
//! Invariant: a selector is resolved against what was given. What was not given is taken not to run.

use std::collections::{BTreeMap, BTreeSet};

use weft_identity::{DnsLabel, ServiceName, WorkloadName};

use super::{
    companions::{Companion, ContainerPort, ServiceDocument, is_tcp},
    meta::{Known, LabelSelector, Labels, PortRef},
};

/// A service as the mesh has it: what this crate needs of a Weft `Service`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshService {
    pub name: ServiceName,
    pub workloads: Vec<WorkloadName>,
    pub ports: Vec<MeshPort>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPort {
    pub name: DnsLabel,
    pub port: u16,
    pub target_port: u16,
    /// Whether requests on it are judged one by one.
    pub is_http: bool,
}

/// All pods made from one template.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) namespace: Option<String>,
    pub(super) labels: Labels,
    pub(super) service_account: String,
    pub(super) ports: Vec<ContainerPort>,
}

impl Pod {
    pub(super) fn identity(&self) -> Option<WorkloadName> {
        Some(WorkloadName {
            namespace: self.namespace.as_deref()?.parse().ok()?,
            name: self.service_account.parse().ok()?,
        })
    }

    pub(super) fn is_in(&self, namespace: &str) -> bool {
        self.namespace.as_deref() == Some(namespace)
    }

    /// The number that a port has on these pods.
    pub(super) fn number_of(&self, port: &PortRef) -> Option<u16> {
        match port {
            PortRef::Number(number) => Some(*number),
            PortRef::Name(name) => self
                .ports
                .iter()
                .find(|port| port.name.as_deref() == Some(name) && port.is_tcp())
                .map(|port| port.container_port),
        }
    }
}

/// One port of a service, and its number on each of the pods behind it.
#[derive(Debug, Clone)]
pub(super) struct TargetPort {
    pub(super) name: DnsLabel,
    pub(super) port: u16,
    pub(super) speaks: Speaks,
    /// A pod's index in [`Cluster::pods`] and the port's number there.
    pub(super) on: Vec<(usize, u16)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http,
    Bytes,
    /// Nothing says; the other mesh finds out from the first bytes.
    Unknown,
}

/// A service that rules can name.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) service: ServiceName,
    pub(super) ports: Vec<TargetPort>,
}

impl Target {
    /// The pods behind any of its ports.
    pub(super) fn pods(&self) -> BTreeSet<usize> {
        self.ports
            .iter()
            .flat_map(|port| port.on.iter().map(|(pod, _)| *pod))
            .collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) pods: Vec<Pod>,
    namespaces: BTreeMap<String, Labels>,
    pub(super) targets: Vec<Target>,
    /// Services and ports that no rule can name, with the reason.
    pub(super) left_out: Vec<(String, &'static str)>,
}

impl Cluster {
    /// Puts together what was given; `mesh` services take the place of Kubernetes' of the same name.
    pub(super) fn new(
        companions: Vec<Companion>,
        mesh: &[MeshService],
        default_namespace: &str,
    ) -> Self {
        let mut cluster = Self::default();
        let mut services = Vec::new();
        for companion in companions {
            match companion {
                Companion::Pods(mut pod) => {
                    pod.namespace
                        .get_or_insert_with(|| default_namespace.to_owned());
                    cluster.pods.push(pod);
                }
                Companion::Service(service) => services.push(service),
                Companion::Namespace(namespace) => {
                    let mut labels = namespace.metadata.labels;
                    labels.insert(NAME_LABEL.to_owned(), namespace.metadata.name.clone());
                    cluster.namespaces.insert(namespace.metadata.name, labels);
                }
            }
        }
        for service in services {
            let namespace = service
                .metadata
                .namespace
                .clone()
                .unwrap_or_else(|| default_namespace.to_owned());
            let known = mesh.iter().any(|known| {
                known.name.namespace.as_str() == namespace
                    && known.name.name.as_str() == service.metadata.name
            });
            if !known {
                cluster.add_service(&namespace, &service);
            }
        }
        for service in mesh {
            cluster.add_mesh_service(service);
        }
        cluster.targets.sort_by(|a, b| a.service.cmp(&b.service));
        cluster
    }

    fn add_service(&mut self, namespace: &str, service: &ServiceDocument) {
        let shown = format!("Service {namespace}/{}", service.metadata.name);
        let mut leave_out = |what: String, why| self.left_out.push((what, why));
        let (Ok(namespace_label), Ok(name)) = (namespace.parse(), service.metadata.name.parse())
        else {
            return leave_out(shown, "its name is none that a service here can have");
        };
        if service.spec.selector.is_empty() {
            return leave_out(shown, "it selects no pods");
        }
        let selector = LabelSelector::of_labels(service.spec.selector.clone());
        let selected: Vec<usize> = (0..)
            .zip(&self.pods)
            .filter(|(_, pod)| pod.is_in(namespace) && selector.selects(&pod.labels))
            .map(|(index, _)| index)
            .collect();
        if selected.is_empty() {
            return leave_out(
                shown,
                "no workload that was given carries the labels it selects",
            );
        }
        let mut ports = Vec::new();
        for port in &service.spec.ports {
            let shown = format!("{shown}, port {}", port.port);
            if !is_tcp(port.protocol.as_deref()) {
                leave_out(shown, "the mesh carries TCP alone");
                continue;
            }
            let name = port
                .name
                .clone()
                .unwrap_or_else(|| format!("port-{}", port.port));
            let Ok(name) = name.parse() else {
                leave_out(shown, "its name is none that a port here can have");
                continue;
            };
            let target = port
                .target_port
                .clone()
                .unwrap_or(PortRef::Number(port.port));
            let on: Vec<_> = selected
                .iter()
                .filter_map(|&index| Some((index, self.pods.get(index)?.number_of(&target)?)))
                .collect();
            if on.is_empty() {
                leave_out(shown, "no pod has a port of its target's name");
                continue;
            }
            ports.push(TargetPort {
                name,
                port: port.port,
                speaks: port.speaks(),
                on,
            });
        }
        let service = ServiceName {
            namespace: namespace_label,
            name,
        };
        self.targets.push(Target { service, ports });
    }

    fn add_mesh_service(&mut self, service: &MeshService) {
        let selected: Vec<usize> = (0..)
            .zip(&self.pods)
            .filter(|(_, pod)| {
                pod.identity()
                    .is_some_and(|identity| service.workloads.contains(&identity))
            })
            .map(|(index, _)| index)
            .collect();
        // an identity of which no pod was given could carry any labels
        let covered = service.workloads.iter().all(|workload| {
            selected.iter().any(|&index| {
                self.pods.get(index).and_then(Pod::identity).as_ref() == Some(workload)
            })
        });
        if !covered {
            let shown = format!("Service {}", service.name);
            self.left_out.push((
                shown,
                "no pods were given for one of the workloads that offer it",
            ));
            return;
        }
        let ports = service.ports.iter().map(|port| TargetPort {
            name: port.name.clone(),
            port: port.port,
            speaks: if port.is_http {
                Speaks::Http
            } else {
                Speaks::Bytes
            },
            on: selected
                .iter()
                .map(|&index| (index, port.target_port))
                .collect(),
        });
        self.targets.push(Target {
            service: service.name.clone(),
            ports: ports.collect(),
        });
    }

    pub(super) fn pod(&self, index: usize) -> Option<&Pod> {
        self.pods.get(index)
    }

    /// The identities that run in a namespace; in all of them for `None`.
    pub(super) fn identities(&self, namespace: Option<&str>) -> BTreeSet<WorkloadName> {
        self.pods
            .iter()
            .filter(|pod| namespace.is_none_or(|namespace| pod.is_in(namespace)))
            .filter_map(Pod::identity)
            .collect()
    }

    pub(super) fn pods_of<'c>(
        &'c self,
        identity: &'c WorkloadName,
    ) -> impl Iterator<Item = &'c Pod> {
        self.pods
            .iter()
            .filter(move |pod| pod.identity().as_ref() == Some(identity))
    }

    /// Every namespace of which something is known.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        let of_pods = self.pods.iter().filter_map(|pod| pod.namespace.clone());
        self.namespaces.keys().cloned().chain(of_pods).collect()
    }

    /// The labels of a namespace: all of them where its document was given, else its name alone.
    pub(super) fn with_namespace_labels<T>(
        &self,
        namespace: &str,
        ask: impl FnOnce(Known<'_>) -> T,
    ) -> T {
        match self.namespaces.get(namespace) {
            Some(labels) => ask(Known::All(labels)),
            None => ask(Known::Some(&Labels::from([(
                NAME_LABEL.to_owned(),
                namespace.to_owned(),
            )]))),
        }
    }
}

/// The label that Kubernetes gives each namespace itself.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
