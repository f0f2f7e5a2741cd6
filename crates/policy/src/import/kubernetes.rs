//! Kubernetes `NetworkPolicy` (networking.k8s.io/v1): as documents, and who may reach whom by them.
//!
//! A connection passes if the policies of both ends let it: those of the caller's pods for egress and those of the called
//! pods for ingress; pods that no policy selects for a direction are open in it.

use std::collections::BTreeSet;

use serde::Deserialize;
use weft_identity::ServiceName;

use super::{
    Context, Import, ImportError, ImportOptions, Placed,
    cluster::{Cluster, Pod, Target, TargetPort},
    grants::Grant,
    meta::{Holds, Known, LabelSelector, PortRef},
    read::Object,
    sources::{Sifted, exactly, sift},
};
use crate::source::{NamePattern, SourcePattern};

mod convert;

pub(super) type NetworkObject = Object<NetworkSpec>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetworkSpec {
    #[serde(default)]
    pod_selector: LabelSelector,
    #[serde(default)]
    policy_types: Vec<PolicyType>,
    #[serde(default)]
    ingress: Vec<IngressRule>,
    #[serde(default)]
    egress: Vec<EgressRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum PolicyType {
    Ingress,
    Egress,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IngressRule {
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    from: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EgressRule {
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    to: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Port {
    #[serde(default)]
    protocol: Option<Transport>,
    #[serde(default)]
    port: Option<PortRef>,
    #[serde(default)]
    end_port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Peer {
    #[serde(default)]
    pod_selector: Option<LabelSelector>,
    #[serde(default)]
    namespace_selector: Option<LabelSelector>,
    #[serde(default)]
    ip_block: Option<IpBlock>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IpBlock {
    cidr: String,
    #[serde(default)]
    except: Vec<String>,
}

/// All policies that were given.
#[derive(Debug, Default)]
pub(super) struct Networks(Vec<Network>);

#[derive(Debug)]
struct Network {
    at: String,
    namespace: String,
    name: String,
    spec: NetworkSpec,
}

impl Network {
    fn is_for(&self, direction: PolicyType) -> bool {
        if !self.spec.policy_types.is_empty() {
            return self.spec.policy_types.contains(&direction);
        }
        // what the reference infers where nothing is said
        direction == PolicyType::Ingress || !self.spec.egress.is_empty()
    }
}

/// A caller: pods that were given, pods of which nothing but the namespace is known, or no pods of this cluster.
#[derive(Clone, Copy)]
enum Caller<'c> {
    Pod(&'c Pod),
    /// In any namespace for `None`.
    Some(Option<&'c str>),
    Outside,
}

impl Networks {
    pub(super) fn new(
        objects: Vec<Placed<NetworkObject>>,
        options: &ImportOptions,
    ) -> Result<Self, ImportError> {
        let networks = objects.into_iter().map(|Placed { at, value }| {
            check(&value.spec).map_err(|problem| ImportError::Document {
                at: at.clone(),
                problem,
            })?;
            Ok(Network {
                at,
                namespace: value
                    .metadata
                    .namespace
                    .unwrap_or_else(|| options.default_namespace.clone()),
                name: value.metadata.name,
                spec: value.spec,
            })
        });
        Ok(Self(networks.collect::<Result<_, _>>()?))
    }

    /// Of a mesh's grants, what these policies let through beside it, and whether that is all.
    pub(super) fn through(
        &self,
        grants: Vec<Grant>,
        port: &TargetPort,
        cluster: &Cluster,
    ) -> (Vec<Grant>, bool) {
        if self.0.is_empty() {
            return (grants, true);
        }
        let mut whole = true;
        let through = |grant: Grant| {
            let admitted = self.admitted(&grant.from, port, cluster);
            whole &= admitted.whole && admitted.patterns.len() == grant.from.len();
            Grant {
                from: admitted.patterns,
                ..grant
            }
        };
        let grants = grants
            .into_iter()
            .map(through)
            .filter(|grant| !grant.from.is_empty())
            .collect();
        (grants, whole)
    }

    /// Whether some pod behind the service is isolated for ingress.
    pub(super) fn cover(&self, target: &Target, cluster: &Cluster) -> bool {
        target
            .pods()
            .into_iter()
            .filter_map(|pod| cluster.pod(pod))
            .any(|pod| self.isolates(pod))
    }

    /// Those of the callers whom the policies of both sides let through to a port, on every pod behind it.
    pub(super) fn admitted(
        &self,
        from: &[SourcePattern],
        port: &TargetPort,
        cluster: &Cluster,
    ) -> Sifted {
        sift(from, Holds::Yes, cluster, &|pattern| {
            self.admits(pattern, port, cluster)
        })
    }

    fn admits(&self, pattern: &SourcePattern, port: &TargetPort, cluster: &Cluster) -> Holds {
        let passes = |caller: Caller<'_>| {
            let mut pods = port
                .on
                .iter()
                .filter_map(|(pod, number)| Some((cluster.pod(*pod)?, *number)));
            pods.all(|(pod, number)| {
                self.lets_in(pod, number, caller, cluster)
                    && self.lets_out(pod, number, caller, cluster)
            })
        };
        // every identity that is known there, and one that is not
        let all_of = |namespace: Option<&str>, prefix: &str| {
            let known = cluster.identities(namespace);
            let known = known
                .iter()
                .filter(|identity| identity.name.as_str().starts_with(prefix));
            let all = passes(Caller::Some(namespace))
                && known
                    .flat_map(|identity| cluster.pods_of(identity))
                    .all(|pod| passes(Caller::Pod(pod)));
            if all { Holds::Yes } else { Holds::Unknown }
        };
        match pattern {
            SourcePattern::AnyLocal => all_of(None, ""),
            SourcePattern::Local {
                namespace,
                name: NamePattern::Prefix(prefix),
            } => all_of(Some(namespace.as_str()), prefix),
            SourcePattern::Local {
                namespace,
                name: NamePattern::Exact(name),
            } => {
                let identity = weft_identity::WorkloadName {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                let mut pods = cluster.pods_of(&identity).peekable();
                if pods.peek().is_none() {
                    return Holds::from(passes(Caller::Some(Some(namespace.as_str()))));
                }
                Holds::from(pods.all(|pod| passes(Caller::Pod(pod))))
            }
            SourcePattern::Exact(_) => Holds::from(passes(Caller::Outside)),
        }
    }

    fn isolates(&self, pod: &Pod) -> bool {
        self.for_pod(pod, PolicyType::Ingress).next().is_some()
    }

    fn for_pod<'n>(
        &'n self,
        pod: &'n Pod,
        direction: PolicyType,
    ) -> impl Iterator<Item = &'n Network> {
        self.0.iter().filter(move |network| {
            network.is_for(direction)
                && pod.is_in(&network.namespace)
                && network.spec.pod_selector.selects(&pod.labels)
        })
    }

    fn lets_in(&self, pod: &Pod, number: u16, caller: Caller<'_>, cluster: &Cluster) -> bool {
        let mut networks = self.for_pod(pod, PolicyType::Ingress).peekable();
        networks.peek().is_none()
            || networks.any(|network| {
                network.spec.ingress.iter().any(|rule| {
                    reaches(&rule.ports, pod, number)
                        && (rule.from.is_empty()
                            || rule
                                .from
                                .iter()
                                .any(|peer| peer.is(caller, &network.namespace, cluster)))
                })
            })
    }

    fn lets_out(&self, pod: &Pod, number: u16, caller: Caller<'_>, cluster: &Cluster) -> bool {
        let selecting = |network: &Network| match caller {
            Caller::Pod(caller) if !caller.is_in(&network.namespace) => Holds::No,
            Caller::Pod(caller) => Holds::from(network.spec.pod_selector.selects(&caller.labels)),
            Caller::Some(Some(namespace)) if namespace != network.namespace => Holds::No,
            Caller::Some(Some(_)) => network
                .spec
                .pod_selector
                .holds(Known::Some(&Default::default())),
            Caller::Some(None) => Holds::Unknown,
            Caller::Outside => Holds::No,
        };
        let mut isolating = self
            .0
            .iter()
            .filter(|network| network.is_for(PolicyType::Egress) && selecting(network) != Holds::No)
            .peekable();
        isolating.peek().is_none()
            || isolating.any(|network| {
                selecting(network) == Holds::Yes
                    && network.spec.egress.iter().any(|rule| {
                        reaches(&rule.ports, pod, number)
                            && (rule.to.is_empty()
                                || rule.to.iter().any(|peer| {
                                    peer.is(Caller::Pod(pod), &network.namespace, cluster)
                                }))
                    })
            })
    }
}

impl Peer {
    /// Whether this surely is one of the peer's pods, seen from a policy in `namespace`.
    fn is(&self, caller: Caller<'_>, namespace: &str, cluster: &Cluster) -> bool {
        if self.ip_block.is_some() {
            return false;
        }
        let in_namespace = |found: &str| match &self.namespace_selector {
            None => found == namespace,
            Some(selector) => {
                cluster.with_namespace_labels(found, |labels| selector.holds(labels)) == Holds::Yes
            }
        };
        let selects_all = |selector: &Option<LabelSelector>| {
            selector.as_ref().is_none_or(LabelSelector::is_empty)
        };
        match caller {
            Caller::Pod(pod) => {
                pod.namespace.as_deref().is_some_and(in_namespace)
                    && self
                        .pod_selector
                        .as_ref()
                        .is_none_or(|selector| selector.selects(&pod.labels))
            }
            Caller::Some(Some(found)) => in_namespace(found) && selects_all(&self.pod_selector),
            Caller::Some(None) => {
                let any_namespace = self
                    .namespace_selector
                    .as_ref()
                    .is_some_and(LabelSelector::is_empty);
                any_namespace && selects_all(&self.pod_selector)
            }
            Caller::Outside => false,
        }
    }
}

/// Whether one of the ports is this number on the called pod, by TCP; none at all are all.
fn reaches(ports: &[Port], pod: &Pod, number: u16) -> bool {
    ports.is_empty()
        || ports.iter().any(|port| {
            let numbers = match (&port.port, port.end_port) {
                (None, _) => true,
                (Some(PortRef::Number(first)), Some(last)) => (*first..=last).contains(&number),
                (Some(port), _) => pod.number_of(port) == Some(number),
            };
            numbers && port.is_tcp()
        })
}

impl Port {
    fn is_tcp(&self) -> bool {
        matches!(self.protocol, None | Some(Transport::Tcp))
    }
}

/// What the reference forbids and types cannot say.
fn check(spec: &NetworkSpec) -> Result<(), String> {
    let rules = (spec.ingress.iter().map(|rule| (&rule.ports, &rule.from)))
        .chain(spec.egress.iter().map(|rule| (&rule.ports, &rule.to)));
    for (ports, peers) in rules {
        for port in ports {
            let is_range = match (&port.port, port.end_port) {
                (_, None) => true,
                (Some(PortRef::Number(first)), Some(last)) => *first <= last,
                (None | Some(PortRef::Name(_)), Some(_)) => false,
            };
            if !is_range {
                return Err(
                    "endPort: it needs a `port` that is a number and not greater".to_owned(),
                );
            }
        }
        for peer in peers {
            let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
            if selects == peer.ip_block.is_some() {
                return Err("a peer has either selectors or an `ipBlock`".to_owned());
            }
        }
    }
    Ok(())
}
