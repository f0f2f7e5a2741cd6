//! Linkerd's policies (policy.linkerd.io): as documents.
//!
//! A `Server` closes a port of some pods; authorizations open it, or one `HTTPRoute` of it, to clients that are
//! authenticated in all the ways that they require.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    meta::{LabelSelector, ObjectMeta, PortRef},
    read::{self, object},
};

mod arms;
mod clients;
mod convert;
mod objects;
mod route;
mod taken;

pub(super) use convert::convert;

#[derive(Debug)]
pub(super) enum Object {
    Server(read::Object<ServerSpec>),
    ServerAuthorization(read::Object<ServerAuthorizationSpec>),
    AuthorizationPolicy(read::Object<AuthorizationSpec>),
    MeshTls(read::Object<MeshTlsSpec>),
    Network(read::Object<NetworkSpec>),
    Route(read::Object<route::RouteSpec>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Server,
    ServerAuthorization,
    AuthorizationPolicy,
    MeshTls,
    Network,
    Route,
}

pub(super) fn kind(api_version: &str, kind: &str) -> Option<Kind> {
    let version = api_version.strip_prefix("policy.linkerd.io/")?;
    match (kind, version) {
        ("Server", "v1alpha1" | "v1beta1" | "v1beta2" | "v1beta3") => Some(Kind::Server),
        ("HTTPRoute", "v1alpha1" | "v1beta1" | "v1beta2" | "v1beta3") => Some(Kind::Route),
        ("ServerAuthorization", "v1alpha1" | "v1beta1") => Some(Kind::ServerAuthorization),
        ("AuthorizationPolicy", "v1alpha1") => Some(Kind::AuthorizationPolicy),
        ("MeshTLSAuthentication", "v1alpha1") => Some(Kind::MeshTls),
        ("NetworkAuthentication", "v1alpha1") => Some(Kind::Network),
        _ => None,
    }
}

impl Kind {
    pub(super) fn read<'de, D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Object, D::Error> {
        Ok(match self {
            Self::Server => Object::Server(object(deserializer)?),
            Self::ServerAuthorization => Object::ServerAuthorization(object(deserializer)?),
            Self::AuthorizationPolicy => Object::AuthorizationPolicy(object(deserializer)?),
            Self::MeshTls => Object::MeshTls(object(deserializer)?),
            Self::Network => Object::Network(object(deserializer)?),
            Self::Route => Object::Route(object(deserializer)?),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServerSpec {
    #[serde(default)]
    access_policy: AccessPolicy,
    #[serde(default)]
    pod_selector: Option<LabelSelector>,
    #[serde(default)]
    external_workload_selector: Option<LabelSelector>,
    port: PortRef,
    #[serde(default)]
    proxy_protocol: ProxyProtocol,
}

/// What a server lets through that no authorization does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AccessPolicy {
    #[default]
    Deny,
    AllUnauthenticated,
    AllAuthenticated,
    ClusterUnauthenticated,
    ClusterAuthenticated,
    Audit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
enum ProxyProtocol {
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
    #[serde(rename = "HTTP/1")]
    Http1,
    #[serde(rename = "HTTP/2")]
    Http2,
    #[serde(rename = "gRPC")]
    Grpc,
    #[serde(rename = "opaque")]
    Opaque,
    #[serde(rename = "TLS")]
    Tls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerAuthorizationSpec {
    server: ServerSelector,
    client: Client,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerSelector {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    selector: Option<LabelSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Client {
    #[serde(default)]
    networks: Vec<Network>,
    #[serde(default)]
    unauthenticated: bool,
    #[serde(default, rename = "meshTLS")]
    mesh_tls: Option<ClientMeshTls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientMeshTls {
    #[serde(default, rename = "unauthenticatedTLS")]
    unauthenticated_tls: bool,
    #[serde(default)]
    identities: Vec<String>,
    #[serde(default)]
    service_accounts: Vec<ServiceAccount>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceAccount {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthorizationSpec {
    target_ref: LocalRef,
    required_authentication_refs: Vec<Reference>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalRef {
    #[serde(default)]
    group: String,
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    #[serde(default)]
    group: String,
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MeshTlsSpec {
    #[serde(default)]
    identities: Vec<String>,
    #[serde(default)]
    identity_refs: Vec<Reference>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkSpec {
    networks: Vec<Network>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    cidr: String,
    #[serde(default)]
    except: Vec<String>,
}

impl Object {
    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Server(object) => &object.metadata,
            Self::ServerAuthorization(object) => &object.metadata,
            Self::AuthorizationPolicy(object) => &object.metadata,
            Self::MeshTls(object) => &object.metadata,
            Self::Network(object) => &object.metadata,
            Self::Route(object) => &object.metadata,
        }
    }

    /// What the reference forbids and types cannot say.
    fn check(&self) -> Result<(), &'static str> {
        let problem = match self {
            Self::Server(server) => (server.spec.pod_selector.is_some()
                == server.spec.external_workload_selector.is_some())
            .then_some("a Server has either `podSelector` or `externalWorkloadSelector`"),
            Self::ServerAuthorization(object) => (object.spec.server.name.is_some()
                == object.spec.server.selector.is_some())
            .then_some("`server` has either `name` or `selector`"),
            Self::MeshTls(object) => (object.spec.identities.is_empty()
                == object.spec.identity_refs.is_empty())
            .then_some(
                "a MeshTLSAuthentication has either `identities` or `identityRefs`, and not empty",
            ),
            Self::Network(object) => object
                .spec
                .networks
                .is_empty()
                .then_some("a NetworkAuthentication has `networks`"),
            Self::Route(object) => object.spec.problem(),
            Self::AuthorizationPolicy(object) => {
                let refs = &object.spec.required_authentication_refs;
                refs.iter()
                    .any(|one| one.name.is_none())
                    .then_some("an authentication is referred to by name")
            }
        };
        problem.map_or(Ok(()), Err)
    }
}

/// Read, and of no meaning to who may call whom.
type Ignored = IgnoredAny;

const GROUP: &str = "policy.linkerd.io";
