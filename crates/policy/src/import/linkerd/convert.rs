//! Servers and their authorizations → rules: for each service port with a server, of each authorization what its routes leave.

use std::collections::BTreeSet;

use weft_identity::{DnsLabel, ServiceName};

use super::{
    Object, ServerSpec,
    arms::{Arm, arms, by_arms},
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
            let place = Place {
                context,
                target,
                port,
            };
            let attached = objects
                .server_of(&place, &mut server_notes, &mut covered)
                .and_then(|server| objects.attached(server, &authorizations));
            let Some(attached) = attached else {
                continue;
            };
            for (authorization, of_one) in authorizations.iter_mut().zip(&mut of_each) {
                let grants = attached.opened(authorization, &place);
                if !grants.is_empty() {
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

/// A port of a service, and what is asked about it.
pub(super) struct Place<'c> {
    pub(super) context: &'c Context<'c>,
    target: &'c Target,
    port: &'c TargetPort,
}

impl Place<'_> {
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.target.service, self.port.name)
    }
}

/// A server with the routes that are attached to it.
struct Attached<'o> {
    server: &'o Named<ServerSpec>,
    routes: Vec<&'o Named<RouteSpec>>,
    arms: Vec<Arm<'o>>,
}

impl Objects {
    /// The one server of a port on all pods behind it.
    fn server_of(
        &self,
        place: &Place<'_>,
        notes: &mut [Notes],
        covered: &mut BTreeSet<ServiceName>,
    ) -> Option<usize> {
        let cluster = place.context.cluster;
        let on = place.port.on.iter();
        let pods = on.filter_map(|(pod, number)| Some((cluster.pod(*pod)?, *number)));
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
        covered.insert(place.target.service.clone());
        if let (1, 1, Some(server)) = (found.len(), all.len(), all.first()) {
            return Some(*server);
        }
        for server in all {
            if let Some(notes) = notes.get_mut(server) {
                notes.add(
                    NoteKind::ServerConflict,
                    "",
                    format!(
                        "{}: not every workload behind it has this server for that port, or some have another one too, so nothing is allowed there",
                        place.shown()
                    ),
                );
            }
        }
        None
    }

    fn attached(&self, server: usize, authorizations: &[Authorization]) -> Option<Attached<'_>> {
        let server = self.servers.get(server)?;
        let routes: Vec<&Named<RouteSpec>> = self
            .routes
            .iter()
            .filter(|route| {
                route.namespace == server.namespace
                    && route.spec.is_of(&server.name, &server.namespace)
            })
            .collect();
        let arms = arms(server, &routes, authorizations);
        Some(Attached {
            server,
            routes,
            arms,
        })
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

impl Attached<'_> {
    /// What one authorization opens of a port with this server.
    fn opened(&self, authorization: &mut Authorization, place: &Place<'_>) -> Vec<Grant> {
        let grants: Vec<Grant> = self
            .by_authorization(authorization, place)
            .into_iter()
            .filter(|grant| !grant.from.is_empty())
            .collect();
        let context = place.context;
        let (grants, whole) = context
            .networks
            .through(grants, place.port, context.cluster);
        if !whole {
            authorization.notes.add(
                NoteKind::Egress,
                "",
                format!(
                    "{}: callers whom NetworkPolicies do not let through are left out",
                    place.shown()
                ),
            );
        }
        grants
    }

    fn by_authorization(&self, authorization: &mut Authorization, place: &Place<'_>) -> Vec<Grant> {
        let Authorization {
            namespace,
            opens,
            from,
            notes,
            ..
        } = authorization;
        if from.is_empty() {
            return Vec::new();
        }
        let mut say =
            |text: &str| notes.add(NoteKind::Route, "", format!("{}: {text}", place.shown()));
        if opens.opens(self.server, namespace) {
            if self.routes.is_empty() || !self.server.has_routes() {
                return vec![Grant {
                    from: from.clone(),
                    requests: Requests::default(),
                }];
            }
            say(
                "the server has routes, and what none of them takes is not found there; rules allow what they take, and no connections but HTTP",
            );
            return by_arms(from, self.arms.iter().collect(), &self.arms, place, notes);
        }
        if !opens.is_of_route(namespace, &self.routes) {
            return Vec::new();
        }
        if !self.server.has_routes() {
            say("HTTP routes take nothing on a server of this `proxyProtocol`");
            return Vec::new();
        }
        let own = self.arms.iter().filter(|arm| opens.is_route(arm.route));
        by_arms(from, own.collect(), &self.arms, place, notes)
    }
}
