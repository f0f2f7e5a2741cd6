//! The documents of this crate's kinds: what stands under `spec` of a `Service`, of the `Mesh` and of `NamespaceSettings`.
//!
//! Only shapes here; what the values must satisfy is checked where a document becomes a model.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use weft_identity::{DnsLabel, WorkloadName};

use crate::address::Cidr;
use crate::host::HostPattern;
use crate::length::Length;
use crate::protocol::Protocol;

/// `kind: Service`: a name that workloads offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Where the service is: offered by workloads of the mesh, or outside of it.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "ServiceType::is_default"
    )]
    pub kind: ServiceType,
    /// The workloads that may offer this service, `namespace/name` each; a service of type `Mesh` has at least one, `External` none.
    #[serde(
        default,
        deserialize_with = "not_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(min = 1))]
    pub workloads: Vec<WorkloadName>,
    /// Type `External`, at least one: the service's DNS names, exact or `*.` and a name for all below it.
    #[serde(
        default,
        deserialize_with = "not_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(min = 1))]
    pub hosts: Vec<HostPattern>,
    /// Type `External`: ranges that its hosts may lead to although they are private, loopback or link-local.
    #[serde(
        default,
        deserialize_with = "not_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(min = 1))]
    pub allow_addresses: Vec<Cidr>,
    /// The service's ports.
    #[schemars(length(min = 1))]
    pub ports: Vec<PortSpec>,
    /// How a sidecar finds out whether its application is healthy; absent: it is while its port accepts connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSpec>,
    /// Whether an encoded slash may stand in a path where a rule has path conditions.
    #[serde(default, skip_serializing_if = "EncodedSlashes::is_default")]
    pub encoded_slashes: EncodedSlashes,
}

/// Where a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Workloads of the mesh offer it.
    #[default]
    Mesh,
    /// It is reached by its DNS names; the sidecar of who calls it is the only one there is.
    External,
}

impl ServiceType {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A list that is there says something; nothing is said by leaving it out.
fn not_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    match list.is_empty() {
        true => Err(de::Error::invalid_length(0, &"at least one element")),
        false => Ok(list),
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSpec {
    /// What rules and server names call this port.
    pub name: DnsLabel,
    /// The number that clients use.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The number that the application listens on; absent: `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub target_port: Option<u16>,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// How to ask an application for its health: exactly one of `http` and `tcp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthSpec {
    /// Healthy when a GET is answered with 2xx or 3xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbeSpec>,
    /// Healthy when a connection is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbeSpec>,
    /// Time between two probes, at least `100ms`; absent: `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Length>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// The path to ask for, with its leading slash.
    pub path: String,
    /// The name of the port to ask, of protocol `http`; absent: the first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<DnsLabel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbeSpec {
    /// The name of the port to connect to; absent: the first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<DnsLabel>,
}

/// What happens to a path that contains an encoded slash, where a rule has path conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlashes {
    /// The request is refused.
    #[default]
    Refuse,
    /// The encoded slash is part of its segment.
    Keep,
}

impl EncodedSlashes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `kind: Mesh`: settings of the whole mesh. There is one, named `mesh`, without a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshSpec {
    /// How long an SVID is valid, `1m` to `7d`; absent: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Length>,
    /// How often an SVID is replaced, at most half of `ttl`; absent: `1h`, or half of a shorter `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_every: Option<Length>,
    /// How long a sidecar serves without hearing from any control plane; absent: `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stale: Option<Length>,
}

/// `kind: NamespaceSettings`: settings of one namespace. Each has at most one, named `settings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceSettingsSpec {
    pub mode: ModeSpec,
    /// When learn mode ends, at most 30 days from now; given with `mode: learn` and not otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub learn_until: Option<Timestamp>,
}

/// What becomes of traffic to the namespace's services that no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeSpec {
    /// It is refused.
    Strict,
    /// It passes and is marked, until `learnUntil`.
    Learn,
    /// Known, so that it is refused with its reason.
    #[schemars(skip)]
    Permissive,
}
