//! NetworkPolicies → rules: a section for each policy, of its rules only what both sides' policies let through.

use super::*;
use crate::import::{
    Section,
    grants::Requests,
    notes::{NoteKind, Notes},
    rules::rules,
    sources::{whole_namespace, without_repetition},
};

impl Networks {
    /// Services that a mesh's own policies cover are left to these.
    pub(in crate::import) fn convert(
        &self,
        context: &Context<'_>,
        covered: &BTreeSet<ServiceName>,
        import: &mut Import,
    ) {
        for network in &self.0 {
            let mut section = Converting {
                networks: self,
                network,
                context,
                covered,
                notes: Notes::default(),
            };
            let mut found = Vec::new();
            if network.is_for(PolicyType::Ingress) {
                for (index, rule) in network.spec.ingress.iter().enumerate() {
                    found.extend(section.ingress(rule, &format!("spec.ingress[{index}]")));
                }
            }
            if network.is_for(PolicyType::Egress) {
                for (index, rule) in network.spec.egress.iter().enumerate() {
                    found.extend(section.egress(rule, &format!("spec.egress[{index}]")));
                }
            }
            import.sections.push(Section {
                title: format!(
                    "NetworkPolicy {}/{} ({})",
                    network.namespace, network.name, network.at
                ),
                notes: section.notes.into_vec(),
                rules: found,
            });
        }
    }
}

struct Converting<'c> {
    networks: &'c Networks,
    network: &'c Network,
    context: &'c Context<'c>,
    covered: &'c BTreeSet<ServiceName>,
    notes: Notes,
}

impl<'c> Converting<'c> {
    fn ingress(&mut self, rule: &IngressRule, path: &str) -> Vec<crate::rule::Rule> {
        let from = self.callers(&rule.from, &format!("{path}.from"));
        let is_selected = |pod: &Pod| {
            pod.is_in(&self.network.namespace)
                && self.network.spec.pod_selector.selects(&pod.labels)
        };
        let mut targets = self.targets(is_selected);
        if targets.is_empty() {
            self.notes.add(
                NoteKind::NoService,
                path,
                "no service that was given has the selected pods behind it; give their Service and workloads",
            );
        }
        targets.retain(|target| !self.covered.contains(&target.service));
        self.ports(&rule.ports, &targets, &format!("{path}.ports"));
        self.rules(&from, &rule.ports, targets, path)
    }

    /// A caller's side alone makes rules only where the called side is open.
    fn egress(&mut self, rule: &EgressRule, path: &str) -> Vec<crate::rule::Rule> {
        let (cluster, namespace) = (self.context.cluster, &self.network.namespace);
        self.addresses(&rule.to, &format!("{path}.to"));
        let from = if self.network.spec.pod_selector.is_empty() {
            namespace
                .parse()
                .ok()
                .map(whole_namespace)
                .into_iter()
                .collect()
        } else {
            self.selected(|pod| {
                pod.is_in(namespace) && self.network.spec.pod_selector.selects(&pod.labels)
            })
        };
        let is_peer = |pod: &Pod| {
            rule.to.is_empty()
                || rule
                    .to
                    .iter()
                    .any(|peer| peer.is(Caller::Pod(pod), namespace, cluster))
        };
        let open: Vec<_> = self
            .targets(is_peer)
            .into_iter()
            .filter(|target| {
                !self.networks.cover(target, cluster) && !self.covered.contains(&target.service)
            })
            .collect();
        self.ports(&rule.ports, &open, &format!("{path}.ports"));
        self.rules(&from, &rule.ports, open, path)
    }

    fn rules(
        &mut self,
        from: &[SourcePattern],
        ports: &[Port],
        targets: Vec<&'c Target>,
        path: &str,
    ) -> Vec<crate::rule::Rule> {
        let cluster = self.context.cluster;
        let mut found = Vec::new();
        for target in targets {
            let mut grants = Vec::new();
            for port in &target.ports {
                let mut pods = port
                    .on
                    .iter()
                    .filter_map(|(pod, number)| Some((cluster.pod(*pod)?, *number)));
                if !pods.any(|(pod, number)| reaches(ports, pod, number)) {
                    continue;
                }
                let admitted = self.networks.admitted(from, port, cluster);
                if !admitted.whole || admitted.patterns.len() < from.len() {
                    let shown = format!("{}:{}", target.service, port.name);
                    self.narrowed(from, &admitted, &shown, path);
                }
                if !admitted.patterns.is_empty() {
                    let grant = Grant {
                        from: admitted.patterns,
                        requests: Requests::default(),
                    };
                    grants.push((port.name.clone(), vec![grant]));
                }
            }
            found.extend(rules(&self.network.name, &target.service, grants));
        }
        found
    }

    /// Says why callers that the rule names do not get through.
    fn narrowed(&mut self, from: &[SourcePattern], admitted: &Sifted, target: &str, path: &str) {
        if !admitted.whole {
            self.notes.add(
                NoteKind::Expanded,
                path,
                format!("{target}: not every caller of a namespace may pass, so those that may and were given are listed"),
            );
        }
        for pattern in from
            .iter()
            .filter(|pattern| !admitted.patterns.contains(pattern))
        {
            let SourcePattern::Local {
                name: NamePattern::Exact(_),
                ..
            } = pattern
            else {
                continue;
            };
            self.notes.add(
                NoteKind::SharedIdentity,
                path,
                format!(
                    "{target}: {pattern} is left out: not all pods of this identity and not all pods of the service let it pass"
                ),
            );
        }
        if self
            .networks
            .0
            .iter()
            .any(|network| network.is_for(PolicyType::Egress))
        {
            self.notes.add(
                NoteKind::Egress,
                path,
                format!("{target}: callers are left out whose own egress policies do not let them out to it"),
            );
        }
    }

    /// The services of which some pod passes.
    fn targets(&self, passes: impl Fn(&Pod) -> bool) -> Vec<&'c Target> {
        let cluster = self.context.cluster;
        let behind = |target: &Target| {
            target
                .pods()
                .into_iter()
                .filter_map(|pod| cluster.pod(pod))
                .any(&passes)
        };
        cluster
            .targets
            .iter()
            .filter(|target| behind(target))
            .collect()
    }

    fn selected(&self, passes: impl Fn(&Pod) -> bool) -> Vec<SourcePattern> {
        let pods = self.context.cluster.pods.iter().filter(|pod| passes(pod));
        without_repetition(
            pods.filter_map(Pod::identity)
                .map(|identity| exactly(&identity))
                .collect(),
        )
    }

    fn callers(&mut self, peers: &[Peer], path: &str) -> Vec<SourcePattern> {
        if peers.is_empty() {
            self.no_identity(path);
            return vec![SourcePattern::AnyLocal];
        }
        self.addresses(peers, path);
        let mut found = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if peer.ip_block.is_none() {
                let callers = self.peer(peer);
                if callers.is_empty() {
                    self.notes.add(
                        NoteKind::NoWorkload,
                        &path,
                        "no pods that were given are selected",
                    );
                }
                self.not_for_unmeshed(peer, &path);
                found.extend(callers);
            }
        }
        without_repetition(found)
    }

    fn peer(&self, peer: &Peer) -> Vec<SourcePattern> {
        let (cluster, own) = (self.context.cluster, &self.network.namespace);
        if peer
            .pod_selector
            .as_ref()
            .is_some_and(|selector| !selector.is_empty())
        {
            return self.selected(|pod| peer.is(Caller::Pod(pod), own, cluster));
        }
        if peer.is(Caller::Some(None), own, cluster) {
            return vec![SourcePattern::AnyLocal];
        }
        let mut namespaces = cluster.namespaces();
        namespaces.insert(own.clone());
        namespaces
            .iter()
            .filter(|namespace| peer.is(Caller::Some(Some(namespace)), own, cluster))
            .filter_map(|namespace| Some(whole_namespace(namespace.parse().ok()?)))
            .collect()
    }

    /// Labels of namespaces that were not given could be anything.
    fn not_for_unmeshed(&mut self, peer: &Peer, path: &str) {
        let Some(selector) = peer
            .namespace_selector
            .as_ref()
            .filter(|selector| !selector.is_empty())
        else {
            return;
        };
        let cluster = self.context.cluster;
        let unknown: Vec<String> = cluster
            .namespaces()
            .into_iter()
            .filter(|namespace| {
                cluster.with_namespace_labels(namespace, |labels| selector.holds(labels))
                    == Holds::Unknown
            })
            .collect();
        if !unknown.is_empty() {
            self.notes.add(
                NoteKind::NoWorkload,
                path,
                format!("the labels of these namespaces are not known, give their Namespace documents: {}", unknown.join(", ")),
            );
        }
    }

    fn no_identity(&mut self, path: &str) {
        self.notes.add(
            NoteKind::NoIdentity,
            path,
            "the source admits everybody; here each workload of the mesh, and nobody without an identity of it",
        );
    }

    fn addresses(&mut self, peers: &[Peer], path: &str) {
        for (index, peer) in peers.iter().enumerate() {
            if let Some(block) = &peer.ip_block {
                let except = if block.except.is_empty() {
                    ""
                } else {
                    " and its exceptions"
                };
                self.notes.add(
                    NoteKind::IpAddress,
                    format!("{path}[{index}].ipBlock"),
                    format!(
                        "`from` names identities, and `fromAddresses` admits plaintext alone: `{}`{except} is left out",
                        block.cidr
                    ),
                );
            }
        }
    }

    fn ports(&mut self, ports: &[Port], targets: &[&Target], path: &str) {
        let cluster = self.context.cluster;
        for (index, port) in ports.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if !port.is_tcp() {
                self.notes
                    .add(NoteKind::NotTcp, &path, "the mesh carries TCP alone");
                continue;
            }
            let one = std::slice::from_ref(port);
            let offered = targets.iter().flat_map(|target| &target.ports).any(|port| {
                let mut on = port
                    .on
                    .iter()
                    .filter_map(|(pod, number)| Some((cluster.pod(*pod)?, *number)));
                on.any(|(pod, number)| reaches(one, pod, number))
            });
            if !offered && !targets.is_empty() {
                let shown = port
                    .port
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                self.notes.add(
                    NoteKind::NoPort,
                    &path,
                    format!("no service that was given has port {shown}"),
                );
            }
        }
    }
}
