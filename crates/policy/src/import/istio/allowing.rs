//! One rule of an ALLOW policy, on one port of a service: what it allows and nothing refuses.

use weft_identity::ServiceName;

use super::{
    Operation, Rule,
    callers::Callers,
    convert::Policy,
    refusals::{ports_hold, refused, sources},
    requests::allowed,
};
use crate::import::{
    Context,
    cluster::{Speaks, TargetPort},
    grants::{Grant, Requests, subtract_all},
    meta::Holds,
    notes::{NoteKind, Notes},
    sources::without_repetition,
};

/// One rule of an ALLOW policy for one service.
pub(super) struct Allowing<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) service: &'a ServiceName,
    pub(super) policy: &'a Policy,
    pub(super) rule: &'a Rule,
    pub(super) path: String,
    pub(super) notes: &'a mut Notes,
}

impl Allowing<'_> {
    pub(super) fn on_port(&mut self, port: &TargetPort, refusing: &[&Policy]) -> Vec<Grant> {
        let requests = self.requests(port);
        if requests.is_empty() {
            return Vec::new();
        }
        let mut from = Vec::new();
        for (number, source) in sources(self.rule).into_iter().enumerate() {
            let path = match source {
                Some(_) => format!("{}.from[{number}].source", self.path),
                None => self.path.clone(),
            };
            let domain = &self.context.options.foreign_trust_domain;
            let callers = Callers::new(source, &self.rule.when, &self.policy.namespace, domain);
            from.extend(callers.patterns(self.context, self.notes, &path));
        }
        if from.is_empty() {
            return Vec::new();
        }
        let from = without_repetition(from);
        let grants = requests
            .into_iter()
            .map(|requests| Grant {
                from: from.clone(),
                requests,
            })
            .collect();
        let left = self.without_refused(grants, port, refusing);
        self.through_networks(left, port)
    }

    fn requests(&mut self, port: &TargetPort) -> Vec<Requests> {
        let by_service_port = self.policy.by_service_port();
        let asks_header = self
            .rule
            .when
            .iter()
            .any(|condition| matches!(condition.key, super::Key::Header(_)));
        let whole = [Operation::default()];
        let operations: Vec<&Operation> = match self.rule.to.is_empty() {
            true => whole.iter().collect(),
            false => self.rule.to.iter().map(|to| &to.operation).collect(),
        };
        let mut found = Vec::new();
        for (number, operation) in operations.into_iter().enumerate() {
            let path = match self.rule.to.is_empty() {
                true => self.path.clone(),
                false => format!("{}.to[{number}].operation", self.path),
            };
            let numbers =
                |list: &[super::Number]| list.iter().map(|number| number.0).collect::<Vec<_>>();
            match ports_hold(
                &numbers(&operation.ports),
                &numbers(&operation.not_ports),
                &self.rule.when,
                port,
                by_service_port,
            ) {
                Holds::No => continue,
                Holds::Unknown => {
                    self.notes.add(NoteKind::NoPort, &path, format!("{}:{}: the port has another number on some workload, or at a waypoint, so it is left out", self.service, port.name));
                    continue;
                }
                Holds::Yes => {}
            }
            if port.speaks == Speaks::Bytes && (operation.is_http() || asks_header) {
                self.notes.add(
                    NoteKind::Bytes,
                    &path,
                    format!(
                        "{}:{} is a port of bytes, on which HTTP conditions never match",
                        self.service, port.name
                    ),
                );
                continue;
            }
            found.extend(allowed(operation, &self.rule.when, self.notes, &path));
        }
        found
    }

    fn without_refused(
        &mut self,
        mut grants: Vec<Grant>,
        port: &TargetPort,
        refusing: &[&Policy],
    ) -> Vec<Grant> {
        for policy in refusing {
            for refusal in refused(policy, port, &self.context.options.foreign_trust_domain) {
                let Some(left) = subtract_all(grants, &refusal, self.context.cluster) else {
                    self.notes.add(NoteKind::TooComplex, &self.path, format!("{}: with what {} refuses taken off, too many pieces are left, so it is left out", self.service, policy.shown()));
                    return Vec::new();
                };
                if !left.exact {
                    self.notes.add(NoteKind::Deny, &self.path, format!("{}: what {} refuses is taken off, and more, where rules cannot tell the rest apart", self.service, policy.shown()));
                }
                grants = left.grants;
            }
        }
        grants
    }

    /// Kubernetes' own policies hold beside Istio's.
    fn through_networks(&mut self, grants: Vec<Grant>, port: &TargetPort) -> Vec<Grant> {
        let (grants, whole) = self
            .context
            .networks
            .through(grants, port, self.context.cluster);
        if !whole {
            self.notes.add(
                NoteKind::Egress,
                &self.path,
                format!(
                    "{}:{}: callers whom NetworkPolicies do not let through are left out",
                    self.service, port.name
                ),
            );
        }
        grants
    }
}
