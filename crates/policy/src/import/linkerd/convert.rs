//! Servers and their authorizations → rules: for each service port with a server, of each authorization what its routes leave.

use std::collections::BTreeSet;

use weft_identity::{DnsLabel, ServiceName};

use super::{
    AccessPolicy, AuthorizationSpec, MeshTlsSpec, NetworkSpec, Object, ProxyProtocol,
    ServerAuthorizationSpec, ServerSpec,
    clients::{ADDRESSES, anybody, are_all_networks, of_account, of_client, of_mesh_tls},
    route::{RouteRule, RouteSpec},
};
use crate::{
    import::{
        Context, Import, ImportError, Placed, Section,
        cluster::{Pod, Target, TargetPort},
        grants::{Grant, Requests, subtract_all},
        meta::Labels,
        notes::{NoteKind, Notes},
        rules::rules,
        sources::without_repetition,
    },
    source::SourcePattern,
};

/// An object with its full name.
struct Named<S> {
    at: String,
    namespace: String,
    name: String,
    labels: Labels,
    spec: S,
}

#[derive(Default)]
struct Objects {
    servers: Vec<Named<ServerSpec>>,
    server_authorizations: Vec<Named<ServerAuthorizationSpec>>,
    authorizations: Vec<Named<AuthorizationSpec>>,
    mesh_tls: Vec<Named<MeshTlsSpec>>,
    networks: Vec<Named<NetworkSpec>>,
    routes: Vec<Named<RouteSpec>>,
}

/// Who may send what: one authorization, or the access policy of a server.
struct Authorization {
    title: String,
    name: String,
    namespace: String,
    opens: Opens,
    from: Vec<SourcePattern>,
    notes: Notes,
    rules: Vec<crate::rule::Rule>,
}

enum Opens {
    Server(String),
    /// The servers that carry these labels.
    Servers(super::LabelSelector),
    Namespace,
    Route(String),
    Nothing,
}

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

fn sort(placed: Vec<Placed<Object>>, context: &Context<'_>) -> Result<Objects, ImportError> {
    let mut objects = Objects::default();
    for Placed { at, value } in placed {
        value.check().map_err(|problem| ImportError::Document {
            at: at.clone(),
            problem: problem.to_owned(),
        })?;
        let metadata = value.metadata();
        let (name, labels) = (metadata.name.clone(), metadata.labels.clone());
        let namespace = metadata
            .namespace
            .clone()
            .unwrap_or_else(|| context.options.default_namespace.clone());
        match value {
            Object::Server(object) => objects.servers.push(Named {
                at,
                namespace,
                name,
                labels,
                spec: object.spec,
            }),
            Object::ServerAuthorization(object) => {
                objects.server_authorizations.push(Named {
                    at,
                    namespace,
                    name,
                    labels,
                    spec: object.spec,
                });
            }
            Object::AuthorizationPolicy(object) => {
                objects.authorizations.push(Named {
                    at,
                    namespace,
                    name,
                    labels,
                    spec: object.spec,
                });
            }
            Object::MeshTls(object) => objects.mesh_tls.push(Named {
                at,
                namespace,
                name,
                labels,
                spec: object.spec,
            }),
            Object::Network(object) => objects.networks.push(Named {
                at,
                namespace,
                name,
                labels,
                spec: object.spec,
            }),
            Object::Route(object) => objects.routes.push(Named {
                at,
                namespace,
                name,
                labels,
                spec: object.spec,
            }),
        }
    }
    Ok(objects)
}

impl Named<ServerSpec> {
    fn selects(&self, pod: &Pod, number: u16) -> bool {
        pod.is_in(&self.namespace)
            && self
                .spec
                .pod_selector
                .as_ref()
                .is_some_and(|selector| selector.selects(&pod.labels))
            && pod.number_of(&self.spec.port) == Some(number)
    }

    /// Whether requests are told apart at all, so that HTTP routes take them.
    fn has_routes(&self) -> bool {
        match self.spec.proxy_protocol {
            ProxyProtocol::Unknown | ProxyProtocol::Http1 | ProxyProtocol::Http2 => true,
            ProxyProtocol::Grpc | ProxyProtocol::Opaque | ProxyProtocol::Tls => false,
        }
    }
}

impl Objects {
    fn authorizations(&self, context: &Context<'_>) -> Vec<Authorization> {
        let servers = self.servers.iter().map(|server| access_policy(server));
        let older = self.server_authorizations.iter().map(|object| {
            let mut notes = Notes::default();
            let from = of_client(
                &object.spec.client,
                &object.namespace,
                context.options,
                &mut notes,
            );
            let opens = match (&object.spec.server.name, &object.spec.server.selector) {
                (Some(name), _) => Opens::Server(name.clone()),
                (None, Some(selector)) => Opens::Servers(selector.clone()),
                (None, None) => Opens::Nothing,
            };
            authorization("ServerAuthorization", object, opens, from, notes)
        });
        let newer = self.authorizations.iter().map(|object| {
            let mut notes = Notes::default();
            let from = self.required(object, context, &mut notes);
            let opens = self.target(object, &mut notes);
            authorization("AuthorizationPolicy", object, opens, from, notes)
        });
        servers.chain(older).chain(newer).collect()
    }

    fn target(&self, object: &Named<AuthorizationSpec>, notes: &mut Notes) -> Opens {
        let target = &object.spec.target_ref;
        let is = |group: &str, kind: &str| {
            target.group == group && target.kind.eq_ignore_ascii_case(kind)
        };
        if is(GROUP, "Server") {
            return Opens::Server(target.name.clone());
        }
        if is(GROUP, "HTTPRoute") {
            return Opens::Route(target.name.clone());
        }
        if (is("", "Namespace") || is("core", "Namespace")) && target.name == object.namespace {
            return Opens::Namespace;
        }
        notes.add(
            NoteKind::MissingReference,
            "spec.targetRef",
            format!(
                "`{} {}` is not imported as a target, so this opens nothing",
                target.kind, target.name
            ),
        );
        Opens::Nothing
    }

    /// All authentications must hold.
    fn required(
        &self,
        object: &Named<AuthorizationSpec>,
        context: &Context<'_>,
        notes: &mut Notes,
    ) -> Vec<SourcePattern> {
        let mut identities = Vec::new();
        for (index, reference) in object.spec.required_authentication_refs.iter().enumerate() {
            let path = format!("spec.requiredAuthenticationRefs[{index}]");
            let namespace = reference.namespace.as_deref().unwrap_or(&object.namespace);
            let name = reference.name.as_deref().unwrap_or_default();
            let mut missing = || {
                notes.add(NoteKind::MissingReference, &path, format!("{} {namespace}/{name} was not given; the source ignores what refers to nothing", reference.kind));
                Vec::new()
            };
            if reference.is_policy("MeshTLSAuthentication") {
                let Some(found) = find(&self.mesh_tls, namespace, name) else {
                    return missing();
                };
                identities.push(of_mesh_tls(
                    &found.spec,
                    namespace,
                    context.options,
                    notes,
                    name,
                ));
            } else if reference.is_policy("NetworkAuthentication") {
                let Some(found) = find(&self.networks, namespace, name) else {
                    return missing();
                };
                if !are_all_networks(&found.spec.networks) {
                    notes.add(NoteKind::IpAddress, &path, ADDRESSES);
                    return Vec::new();
                }
            } else if reference.is_core("ServiceAccount") {
                identities.push(
                    of_account(namespace, name, notes, &path)
                        .into_iter()
                        .collect(),
                );
            } else {
                return missing();
            }
        }
        if identities.len() > 1 {
            notes.add(
                NoteKind::TooComplex,
                "spec.requiredAuthenticationRefs",
                "a client has one identity: what requires several is left out",
            );
            return Vec::new();
        }
        identities
            .pop()
            .unwrap_or_else(|| anybody(notes, "spec.requiredAuthenticationRefs"))
    }

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

/// One rule of a route, with those whom it admits.
struct Arm<'o> {
    route: &'o str,
    hostnames: &'o [String],
    rule: &'o RouteRule,
    path: String,
    admitted: Vec<SourcePattern>,
}

fn arms<'o>(
    server: &Named<ServerSpec>,
    routes: &[&'o Named<RouteSpec>],
    authorizations: &[Authorization],
) -> Vec<Arm<'o>> {
    let mut arms = Vec::new();
    for route in routes {
        let admitted = authorizations
            .iter()
            .filter(|one| {
                one.opens.opens(server, &one.namespace)
                    || (one.opens.is_route(&route.name) && one.namespace == route.namespace)
            })
            .flat_map(|one| one.from.clone());
        let admitted = without_repetition(admitted.collect());
        for (index, rule) in route.spec.rules.iter().enumerate() {
            arms.push(Arm {
                route: &route.name,
                hostnames: &route.spec.hostnames,
                rule,
                path: format!(
                    "HTTPRoute {}/{} spec.rules[{index}]",
                    route.namespace, route.name
                ),
                // the proxy answers itself
                admitted: if rule.redirects() {
                    Vec::new()
                } else {
                    admitted.clone()
                },
            });
        }
    }
    arms
}

/// What callers may send to some arms, but for what another one may take from them.
fn by_arms(
    from: &[SourcePattern],
    own: Vec<&Arm<'_>>,
    all: &[Arm<'_>],
    context: &Context<'_>,
    notes: &mut Notes,
    shown: &str,
) -> Vec<Grant> {
    let mut found = Vec::new();
    for arm in own {
        if arm.rule.redirects() {
            notes.add(
                NoteKind::Filter,
                &arm.path,
                "requests that are redirected reach no workload, so nothing is allowed for them",
            );
            continue;
        }
        if arm.rule.changes_headers() {
            notes.add(NoteKind::Filter, &arm.path, "rules change no headers");
        }
        let requests = arm.rule.requests(arm.hostnames, notes, &arm.path);
        let mut grants: Vec<Grant> = requests
            .into_iter()
            .map(|requests| Grant {
                from: from.to_vec(),
                requests,
            })
            .collect();
        for other in all.iter().filter(|other| !std::ptr::eq(*other, arm)) {
            for refusal in other.rule.refusals(&other.admitted) {
                let Some(left) =
                    subtract_all(std::mem::take(&mut grants), &refusal, context.cluster)
                else {
                    notes.add(
                        NoteKind::TooComplex,
                        &arm.path,
                        format!(
                            "{shown}: its routes overlap in too many ways, so this is left out"
                        ),
                    );
                    break;
                };
                if !left.exact {
                    notes.add(NoteKind::Route, &arm.path, format!("{shown}: what {} may take from it is left out, where rules cannot tell the rest apart", other.path));
                }
                grants = left.grants;
            }
        }
        found.extend(grants);
    }
    found
}

impl Opens {
    fn opens(&self, server: &Named<ServerSpec>, namespace: &str) -> bool {
        namespace == server.namespace
            && match self {
                Self::Server(name) => *name == server.name,
                Self::Servers(selector) => selector.selects(&server.labels),
                Self::Namespace => true,
                Self::Route(_) | Self::Nothing => false,
            }
    }

    fn is_route(&self, route: &str) -> bool {
        matches!(self, Self::Route(name) if name == route)
    }

    fn is_of_route(&self, namespace: &str, routes: &[&Named<RouteSpec>]) -> bool {
        routes
            .iter()
            .any(|route| route.namespace == namespace && self.is_route(&route.name))
    }
}

fn authorization<S>(
    kind: &str,
    object: &Named<S>,
    opens: Opens,
    from: Vec<SourcePattern>,
    notes: Notes,
) -> Authorization {
    Authorization {
        title: format!(
            "{kind} {}/{} ({})",
            object.namespace, object.name, object.at
        ),
        name: object.name.clone(),
        namespace: object.namespace.clone(),
        opens,
        from,
        notes,
        rules: Vec::new(),
    }
}

fn access_policy(server: &Named<ServerSpec>) -> Authorization {
    let mut notes = Notes::default();
    let path = "spec.accessPolicy";
    let from = match server.spec.access_policy {
        AccessPolicy::Deny => Vec::new(),
        AccessPolicy::AllUnauthenticated => anybody(&mut notes, path),
        AccessPolicy::Audit => {
            notes.add(
                NoteKind::AuditAction,
                path,
                "the source marks what no authorization allows; here it passes unmarked",
            );
            anybody(&mut notes, path)
        }
        AccessPolicy::AllAuthenticated => {
            notes.add(NoteKind::ForeignDomain, path, "workloads of other trust domains are not among those of `*`; name them by their whole SPIFFE ID");
            vec![SourcePattern::AnyLocal]
        }
        AccessPolicy::ClusterUnauthenticated | AccessPolicy::ClusterAuthenticated => {
            notes.add(NoteKind::IpAddress, path, ADDRESSES);
            Vec::new()
        }
    };
    authorization(
        "accessPolicy of Server",
        server,
        Opens::Server(server.name.clone()),
        from,
        notes,
    )
}

fn find<'o, S>(objects: &'o [Named<S>], namespace: &str, name: &str) -> Option<&'o Named<S>> {
    objects
        .iter()
        .find(|object| object.namespace == namespace && object.name == name)
}

pub(super) const GROUP: &str = "policy.linkerd.io";
