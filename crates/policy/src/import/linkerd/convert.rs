//! Servers and their authorizations → rules: for each service port with a server, of each authorization what its routes leave.

use std::collections::BTreeSet;

use weft_identity::{DnsLabel, ServiceName};

use super::{
    Object, ServerSpec,
    arms::{arms, by_arms},
    objects::{Authorization, Named, Objects, sort},
    route::RouteSpec,
};
use crate::import::{
    Context, Import, ImportError, Placed, Section,
    cluster::{Pod, Target, TargetPort},
    grants::{Grant, Requests},
    notes::{NoteKind, Notes},
    rules::rules,
};

pub(in crate::import) fn convert(
    placed: Vec<Placed<Object>>,
    context: &Context<'_>,
    import: &mut Import,
) -> Result<BTreeSet<ServiceName>, ImportError> {
    let objects = sort(placed, context)?;
    let mut authorizations = objects.authorizations(context);
    let mut server_notes: Vec<Notes> = objects.servers.iter().map(|_| Notes::default()).collect();
    let mut covered = BTreeSet::new();
    for target in &context.cluster.targets {
        let mut of_each: Vec<Vec<(DnsLabel, Vec<Grant>)>> =
            authorizations.iter().map(|_| Vec::new()).collect();
        for port in &target.ports {
            let Some(server) =
                objects.server_of(target, port, context, &mut server_notes, &mut covered)
            else {
                continue;
            };
            for (index, grants) in objects.open(server, target, port, context, &mut authorizations)
            {
                if let Some(of_one) = of_each.get_mut(index) {
                    of_one.push((port.name.clone(), grants));
                }
            }
        }
        for (authorization, grants) in authorizations.iter_mut().zip(of_each) {
            authorization
                .rules
                .extend(rules(&authorization.name, &target.service, grants));
        }
    }
    for (server, mut notes) in objects.servers.iter().zip(server_notes) {
        objects.about_server(server, context, &mut notes);
        import.sections.push(Section {
            title: format!(
                "Server {}/{} ({})",
                server.namespace, server.name, server.at
            ),
            notes: notes.into_vec(),
            rules: Vec::new(),
        });
    }
    for authorization in authorizations {
        import.sections.push(Section {
            title: authorization.title,
            notes: authorization.notes.into_vec(),
            rules: authorization.rules,
        });
    }
    Ok(covered)
}

impl Objects {
    /// The one server of a port on all pods behind it.
    fn server_of(
        &self,
        target: &Target,
        port: &TargetPort,
        context: &Context<'_>,
        notes: &mut [Notes],
        covered: &mut BTreeSet<ServiceName>,
    ) -> Option<usize> {
        let pods = port
            .on
            .iter()
            .filter_map(|(pod, number)| Some((context.cluster.pod(*pod)?, *number)));
        let servers_of = |(pod, number): (&Pod, u16)| -> BTreeSet<usize> {
            let servers = self.servers.iter().enumerate();
            servers
                .filter(|(_, server)| server.selects(pod, number))
                .map(|(index, _)| index)
                .collect()
        };
        let found: BTreeSet<BTreeSet<usize>> = pods.map(servers_of).collect();
        let all: BTreeSet<usize> = found.iter().flatten().copied().collect();
        if all.is_empty() {
            return None;
        }
        covered.insert(target.service.clone());
        if let (1, 1, Some(server)) = (found.len(), all.len(), all.first()) {
            return Some(*server);
        }
        for server in all {
            if let Some(notes) = notes.get_mut(server) {
                notes.add(
                    NoteKind::ServerConflict,
                    "",
                    format!("{}:{}: not every workload behind it has this server for that port, or some have another one too, so nothing is allowed there", target.service, port.name),
                );
            }
        }
        None
    }

    /// What each authorization opens of a port, by its index.
    fn open(
        &self,
        server: usize,
        target: &Target,
        port: &TargetPort,
        context: &Context<'_>,
        authorizations: &mut [Authorization],
    ) -> Vec<(usize, Vec<Grant>)> {
        let Some(server) = self.servers.get(server) else {
            return Vec::new();
        };
        let routes: Vec<&Named<RouteSpec>> = self
            .routes
            .iter()
            .filter(|route| {
                route.namespace == server.namespace
                    && route.spec.is_of(&server.name, &server.namespace)
            })
            .collect();
        let arms = arms(server, &routes, authorizations);
        let mut opened = Vec::new();
        for (index, authorization) in authorizations.iter_mut().enumerate() {
            let (shown, notes) = (
                format!("{}:{}", target.service, port.name),
                &mut authorization.notes,
            );
            let grants = if authorization.opens.opens(server, &authorization.namespace) {
                if routes.is_empty() || !server.has_routes() {
                    vec![Grant {
                        from: authorization.from.clone(),
                        requests: Requests::default(),
                    }]
                } else {
                    notes.add(NoteKind::Route, "", format!("{shown}: the server has routes, and what none of them takes is not found there; rules allow what they take, and no connections but HTTP"));
                    by_arms(
                        &authorization.from,
                        arms.iter().collect(),
                        &arms,
                        context,
                        notes,
                        &shown,
                    )
                }
            } else if authorization
                .opens
                .is_of_route(&authorization.namespace, &routes)
            {
                if !server.has_routes() {
                    notes.add(
                        NoteKind::Route,
                        "",
                        format!(
                            "{shown}: HTTP routes take nothing on a server of this `proxyProtocol`"
                        ),
                    );
                    continue;
                }
                let own = arms
                    .iter()
                    .filter(|arm| authorization.opens.is_route(arm.route))
                    .collect();
                by_arms(&authorization.from, own, &arms, context, notes, &shown)
            } else {
                continue;
            };
            let grants = grants
                .into_iter()
                .filter(|grant| !grant.from.is_empty())
                .collect();
            let (grants, whole) = context.networks.through(grants, port, context.cluster);
            if !whole {
                notes.add(
                    NoteKind::Egress,
                    "",
                    format!(
                        "{shown}: callers whom NetworkPolicies do not let through are left out"
                    ),
                );
            }
            if !grants.is_empty() {
                opened.push((index, grants));
            }
        }
        opened
    }

    fn about_server(&self, server: &Named<ServerSpec>, context: &Context<'_>, notes: &mut Notes) {
        if server.spec.external_workload_selector.is_some() {
            notes.add(
                NoteKind::NoWorkload,
                "spec.externalWorkloadSelector",
                "workloads outside of the cluster are not imported, so nothing is allowed there",
            );
            return;
        }
        let cluster = context.cluster;
        let on = cluster
            .targets
            .iter()
            .flat_map(|target| &target.ports)
            .flat_map(|port| &port.on);
        let is_used = on
            .filter_map(|(pod, number)| Some((cluster.pod(*pod)?, *number)))
            .any(|(pod, number)| server.selects(pod, number));
        if !is_used {
            notes.add(NoteKind::NoService, "", "no service that was given leads to this port of the selected pods; give their Service and workloads");
        }
    }
}
