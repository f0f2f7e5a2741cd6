//! Linkerd's objects put together: servers, routes, and of each authorization what it opens and to whom.

use super::{
    AccessPolicy, AuthorizationSpec, GROUP, MeshTlsSpec, NetworkSpec, Object, ProxyProtocol,
    ServerAuthorizationSpec, ServerSpec,
    clients::{ADDRESSES, anybody, are_all_networks, of_account, of_client, of_mesh_tls},
    route::RouteSpec,
};
use crate::{
    import::{
        Context, ImportError, Placed,
        cluster::Pod,
        meta::Labels,
        notes::{NoteKind, Notes},
    },
    source::SourcePattern,
};

/// An object with its full name.
pub(super) struct Named<S> {
    pub(super) at: String,
    pub(super) namespace: String,
    pub(super) name: String,
    labels: Labels,
    pub(super) spec: S,
}

#[derive(Default)]
pub(super) struct Objects {
    pub(super) servers: Vec<Named<ServerSpec>>,
    server_authorizations: Vec<Named<ServerAuthorizationSpec>>,
    authorizations: Vec<Named<AuthorizationSpec>>,
    mesh_tls: Vec<Named<MeshTlsSpec>>,
    networks: Vec<Named<NetworkSpec>>,
    pub(super) routes: Vec<Named<RouteSpec>>,
}

/// Who may send what: one authorization, or the access policy of a server.
pub(super) struct Authorization {
    pub(super) title: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) opens: Opens,
    pub(super) from: Vec<SourcePattern>,
    pub(super) notes: Notes,
    pub(super) rules: Vec<crate::rule::Rule>,
}

pub(super) enum Opens {
    Server(String),
    /// The servers that carry these labels.
    Servers(super::LabelSelector),
    Namespace,
    Route(String),
    Nothing,
}

pub(super) fn sort(
    placed: Vec<Placed<Object>>,
    context: &Context<'_>,
) -> Result<Objects, ImportError> {
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
    pub(super) fn selects(&self, pod: &Pod, number: u16) -> bool {
        pod.is_in(&self.namespace)
            && self
                .spec
                .pod_selector
                .as_ref()
                .is_some_and(|selector| selector.selects(&pod.labels))
            && pod.number_of(&self.spec.port) == Some(number)
    }

    /// Whether requests are told apart at all, so that HTTP routes take them.
    pub(super) fn has_routes(&self) -> bool {
        match self.spec.proxy_protocol {
            ProxyProtocol::Unknown | ProxyProtocol::Http1 | ProxyProtocol::Http2 => true,
            ProxyProtocol::Grpc | ProxyProtocol::Opaque | ProxyProtocol::Tls => false,
        }
    }
}

impl Objects {
    pub(super) fn authorizations(&self, context: &Context<'_>) -> Vec<Authorization> {
        let servers = self.servers.iter().map(access_policy);
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
}

impl Opens {
    pub(super) fn opens(&self, server: &Named<ServerSpec>, namespace: &str) -> bool {
        namespace == server.namespace
            && match self {
                Self::Server(name) => *name == server.name,
                Self::Servers(selector) => selector.selects(&server.labels),
                Self::Namespace => true,
                Self::Route(_) | Self::Nothing => false,
            }
    }

    pub(super) fn is_route(&self, route: &str) -> bool {
        matches!(self, Self::Route(name) if name == route)
    }

    pub(super) fn is_of_route(&self, namespace: &str, routes: &[&Named<RouteSpec>]) -> bool {
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
