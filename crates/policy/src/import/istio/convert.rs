//! AuthorizationPolicies → rules: for each service, of each ALLOW policy what no DENY or CUSTOM policy refuses.

use std::collections::BTreeSet;

use weft_identity::{DnsLabel, ServiceName};

use super::{Action, AuthorizationObject, AuthorizationSpec, TargetRef, allowing::Allowing, check};
use crate::import::{
    Context, Import, ImportError, Placed, Section,
    cluster::{Pod, Target},
    grants::Grant,
    meta::Labels,
    notes::{NoteKind, Notes},
    rules::rules,
};

pub(super) struct Policy {
    at: String,
    name: String,
    pub(super) namespace: String,
    pub(super) spec: AuthorizationSpec,
    /// Evaluated and logged by the source, not enforced.
    dry_run: bool,
    is_root: bool,
}

/// The rules and notes of one policy, as they come.
#[derive(Default)]
struct Converted {
    notes: Notes,
    rules: Vec<crate::rule::Rule>,
}

/// Converts all; gives the services that some policy covers.
pub(in crate::import) fn convert(
    objects: Vec<Placed<AuthorizationObject>>,
    context: &Context<'_>,
    import: &mut Import,
) -> Result<BTreeSet<ServiceName>, ImportError> {
    let mut policies = Vec::new();
    for Placed { at, value } in objects {
        check(&value.spec).map_err(|problem| ImportError::Document {
            at: at.clone(),
            problem,
        })?;
        let namespace = value
            .metadata
            .namespace
            .unwrap_or_else(|| context.options.default_namespace.clone());
        policies.push(Policy {
            at,
            name: value.metadata.name,
            is_root: namespace == context.options.root_namespace,
            namespace,
            spec: value.spec,
            dry_run: value
                .metadata
                .annotations
                .get(DRY_RUN)
                .is_some_and(|value| value == "true"),
        });
    }
    let mut converted: Vec<Converted> = policies.iter().map(about).collect();
    let mut covered = BTreeSet::new();
    for target in &context.cluster.targets {
        let mut service = Service {
            target,
            context,
            policies: &policies,
            converted: &mut converted,
        };
        if service.convert() {
            covered.insert(target.service.clone());
        }
    }
    for (policy, Converted { mut notes, rules }) in policies.iter().zip(converted) {
        if policy.enforces() && policy.is_unused(context) {
            notes.add(
                NoteKind::NoService,
                "",
                "no service that was given has the selected workloads behind it; give their Service and workloads",
            );
        }
        for path in policy.unoffered_ports(context) {
            notes.add(
                NoteKind::NoPort,
                path,
                "no service that was given leads to such a port of the selected workloads",
            );
        }
        import.sections.push(Section {
            title: format!(
                "AuthorizationPolicy {}/{} ({})",
                policy.namespace, policy.name, policy.at
            ),
            notes: notes.into_vec(),
            rules,
        });
    }
    Ok(covered)
}

/// What is to be said of a policy by itself.
fn about(policy: &Policy) -> Converted {
    let mut converted = Converted::default();
    let notes = &mut converted.notes;
    if policy.dry_run {
        notes.add(
            NoteKind::DryRun,
            "",
            "the source does not enforce it, and neither does any rule",
        );
    }
    match policy.spec.action {
        Action::Allow | Action::Deny => {}
        Action::Audit => notes.add(
            NoteKind::AuditAction,
            "spec.action",
            "AUDIT only marks requests; it has no equal and changes no verdict",
        ),
        Action::Custom => {
            let name = policy
                .spec
                .provider
                .as_ref()
                .map_or("", |provider| &provider.name);
            notes.add(
                NoteKind::CustomAction,
                "spec.action",
                format!("what this gives to `{name}` to decide has no equal, so it is taken off the rules"),
            );
        }
    }
    converted
}

impl Policy {
    /// Whether it has a say in verdicts.
    fn enforces(&self) -> bool {
        !self.dry_run && self.spec.action != Action::Audit
    }

    fn targets(&self) -> impl Iterator<Item = &TargetRef> {
        self.spec.target_ref.iter().chain(&self.spec.target_refs)
    }

    /// Ports of what is attached to a service may be the service's own.
    pub(super) fn by_service_port(&self) -> bool {
        self.targets().next().is_some()
    }

    fn selects(&self, pod: &Pod) -> bool {
        let empty = Labels::new();
        let labels = self
            .spec
            .selector
            .as_ref()
            .map_or(&empty, |selector| &selector.match_labels);
        self.targets().next().is_none()
            && (self.is_root || pod.is_in(&self.namespace))
            && labels
                .iter()
                .all(|(key, value)| pod.labels.get(key) == Some(value))
    }

    fn names_service(&self, service: &ServiceName) -> bool {
        self.targets().any(|target| {
            target.is("Service", &["", "core"])
                && target.name == service.name.as_str()
                && service.namespace.as_str() == self.namespace
                && (target.namespace.is_empty() || target.namespace == self.namespace)
        })
    }

    /// Attached to a gateway through which callers of this service may have to go.
    fn may_stand_before(&self, service: &ServiceName) -> bool {
        self.targets().any(|target| {
            let here = service.namespace.as_str() == self.namespace;
            (target.is("Gateway", &[GATEWAY]) && here) || target.is("GatewayClass", &[GATEWAY])
        })
    }

    /// Operations of ports that none of its services has.
    fn unoffered_ports(&self, context: &Context<'_>) -> Vec<String> {
        let concerns = |target: &&Target| self.concerns(target, context);
        let offered: BTreeSet<u16> = context
            .cluster
            .targets
            .iter()
            .filter(concerns)
            .flat_map(|target| &target.ports)
            .flat_map(|port| port.on.iter().map(|(_, number)| *number).chain([port.port]))
            .collect();
        let mut paths = Vec::new();
        for (rule_index, rule) in self.spec.rules.iter().enumerate() {
            for (index, to) in rule.to.iter().enumerate() {
                let ports = &to.operation.ports;
                if !ports.is_empty() && !ports.iter().any(|port| offered.contains(&port.0)) {
                    paths.push(format!(
                        "spec.rules[{rule_index}].to[{index}].operation.ports"
                    ));
                }
            }
        }
        paths
    }

    fn is_unused(&self, context: &Context<'_>) -> bool {
        !context
            .cluster
            .targets
            .iter()
            .any(|target| self.concerns(target, context))
    }

    /// Whether it has a say about a service.
    fn concerns(&self, target: &Target, context: &Context<'_>) -> bool {
        let mut pods = target
            .pods()
            .into_iter()
            .filter_map(|pod| context.cluster.pod(pod));
        pods.any(|pod| self.selects(pod))
            || self.names_service(&target.service)
            || self.may_stand_before(&target.service)
    }

    pub(super) fn shown(&self) -> String {
        format!("AuthorizationPolicy {}/{}", self.namespace, self.name)
    }
}

impl TargetRef {
    fn is(&self, kind: &str, groups: &[&str]) -> bool {
        self.kind == kind && groups.contains(&self.group.as_str())
    }
}

/// One service with everything that has a say about it.
struct Service<'c> {
    target: &'c Target,
    context: &'c Context<'c>,
    policies: &'c [Policy],
    converted: &'c mut Vec<Converted>,
}

impl Service<'_> {
    /// Whether any policy covers the service.
    fn convert(&mut self) -> bool {
        let cluster = self.context.cluster;
        let pods: Vec<&Pod> = self
            .target
            .pods()
            .into_iter()
            .filter_map(|pod| cluster.pod(pod))
            .collect();
        let (mut of_pods, mut of_service, mut refusing) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_blocked = false;
        for (index, policy) in self
            .policies
            .iter()
            .enumerate()
            .filter(|(_, policy)| policy.enforces())
        {
            let (selects, names) = (
                pods.iter().any(|pod| policy.selects(pod)),
                policy.names_service(&self.target.service),
            );
            if policy.may_stand_before(&self.target.service) {
                is_blocked = true;
                self.note(index, NoteKind::Gateway, "it is attached to a gateway through which the callers of this service may have to go, so nothing is allowed there; take this policy out of the input if they do not");
            }
            match policy.spec.action {
                Action::Allow if names => of_service.push(index),
                Action::Allow if selects => of_pods.push(index),
                Action::Deny | Action::Custom if selects || names => refusing.push(index),
                Action::Allow | Action::Deny | Action::Custom | Action::Audit => {}
            }
        }
        let is_covered =
            is_blocked || !(of_pods.is_empty() && of_service.is_empty() && refusing.is_empty());
        if is_blocked {
            return is_covered;
        }
        if of_pods.is_empty() && of_service.is_empty() {
            for index in refusing {
                self.note(index, NoteKind::DefaultAllow, "no ALLOW policy covers it: the source lets everything else in, here nothing comes in until a rule allows it");
            }
            return is_covered;
        }
        if !of_pods.is_empty() && !of_service.is_empty() {
            for index in of_pods.into_iter().chain(of_service) {
                self.note(index, NoteKind::Gateway, "requests must pass both the policies of the service and those of its workloads; rules only add, so nothing is allowed there");
            }
            return is_covered;
        }
        // a workload without an ALLOW policy is open; each other one must be allowed by the same policy
        let restricted: Vec<&&Pod> = pods
            .iter()
            .filter(|pod| of_pods.iter().any(|index| self.selects(*index, pod)))
            .collect();
        let (everywhere, in_part): (Vec<usize>, Vec<usize>) = of_pods
            .into_iter()
            .partition(|index| restricted.iter().all(|pod| self.selects(*index, pod)));
        for index in in_part {
            self.note(index, NoteKind::SomeWorkloads, "it covers some of the workloads behind the service, not all that have policies, and a rule is about the whole service");
        }
        for index in everywhere.into_iter().chain(of_service) {
            self.allow(index, &refusing);
        }
        is_covered
    }

    fn selects(&self, index: usize, pod: &Pod) -> bool {
        self.policies
            .get(index)
            .is_some_and(|policy| policy.selects(pod))
    }

    fn note(&mut self, index: usize, kind: NoteKind, text: &str) {
        if let Some(converted) = self.converted.get_mut(index) {
            converted
                .notes
                .add(kind, "", format!("{}: {text}", self.target.service));
        }
    }

    fn allow(&mut self, index: usize, refusing: &[usize]) {
        let Some((policy, converted)) = self.policies.get(index).zip(self.converted.get_mut(index))
        else {
            return;
        };
        let refusing: Vec<&Policy> = refusing
            .iter()
            .filter_map(|index| self.policies.get(*index))
            .collect();
        for (number, rule) in policy.spec.rules.iter().enumerate() {
            let mut allowing = Allowing {
                context: self.context,
                service: &self.target.service,
                policy,
                rule,
                path: format!("spec.rules[{number}]"),
                notes: &mut converted.notes,
            };
            let mut grants: Vec<(DnsLabel, Vec<Grant>)> = Vec::new();
            for port in &self.target.ports {
                let left = allowing.on_port(port, &refusing);
                if !left.is_empty() {
                    grants.push((port.name.clone(), left));
                }
            }
            converted
                .rules
                .extend(rules(&policy.name, &self.target.service, grants));
        }
    }
}

const DRY_RUN: &str = "istio.io/dry-run";
const GATEWAY: &str = "gateway.networking.k8s.io";
