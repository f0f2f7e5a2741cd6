//! Foreign documents as they are read: which kinds there are, and lists of them.
//!
//! Invariant: a policy's unknown field is an error with its place, and so is a kind that could restrict traffic and is not read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use weft_identity::document::{DocumentError, Origin, read_seed, read_value};

use super::{
    companions::{
        Companion, CronJobDocument, NamespaceDocument, PodDocument, PodTemplateOwner,
        ServiceDocument,
    },
    istio::AuthorizationSpec,
    kubernetes::NetworkSpec,
    linkerd,
    meta::ObjectMeta,
};

/// One document that means something here.
#[derive(Debug)]
pub(super) enum Foreign {
    Network(Object<NetworkSpec>),
    Istio(Object<AuthorizationSpec>),
    Linkerd(linkerd::Object),
    Companion(Companion),
}

/// A strictly read object.
#[derive(Debug)]
pub(super) struct Object<S> {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Whole<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: ObjectMeta,
    spec: S,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

/// Reads one text: a document, or a `List` of them. What means nothing to policy gives nothing.
pub(super) fn read(text: &str, origin: &Origin) -> Result<Vec<Foreign>, ReadError> {
    let head: Head = read_value(text, origin)?;
    let shape = match &head.items {
        None => Shape::One(kind_of(&head, origin)?),
        Some(items) => {
            let kinds = items
                .iter()
                .map(|item| kind_of(&item.clone().with_defaults(&head), origin));
            Shape::List(kinds.collect::<Result<_, _>>()?)
        }
    };
    Ok(read_seed(text, origin, shape)?)
}

/// Whose document a text is: what its `apiVersion` says.
pub fn api_version(text: &str, origin: &Origin) -> Result<Option<String>, DocumentError> {
    Ok(read_value::<Head>(text, origin)?.api_version)
}

/// Why a foreign document cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{file}:{line}: {problem}")]
    Kind {
        file: String,
        line: usize,
        problem: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    items: Option<Vec<Head>>,
}

impl Head {
    /// The items of an API's own list (`NetworkPolicyList`) may leave their kind to it.
    fn with_defaults(mut self, list: &Self) -> Self {
        if self.kind.is_none() {
            self.kind = list
                .kind
                .as_deref()
                .and_then(|kind| kind.strip_suffix("List"))
                .map(str::to_owned);
            self.api_version = self.api_version.or_else(|| list.api_version.clone());
        }
        self
    }
}

enum Shape {
    One(Option<Kind>),
    List(Vec<Option<Kind>>),
}

/// A kind with the function that reads it.
#[derive(Clone, Copy)]
enum Kind {
    Network,
    Istio,
    Linkerd(linkerd::Kind),
    PodOwner,
    CronJob,
    Pod,
    Service,
    Namespace,
}

fn kind_of(head: &Head, origin: &Origin) -> Result<Option<Kind>, ReadError> {
    let error = |problem: String| ReadError::Kind {
        file: origin.file.clone(),
        line: origin.first_line,
        problem,
    };
    let (Some(api_version), Some(kind)) = (head.api_version.as_deref(), head.kind.as_deref())
    else {
        return Err(error("missing field `apiVersion` or `kind`".to_owned()));
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let found = match (api_version, kind) {
        ("networking.k8s.io/v1", "NetworkPolicy") => Kind::Network,
        ("security.istio.io/v1" | "security.istio.io/v1beta1", "AuthorizationPolicy") => {
            Kind::Istio
        }
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job")
        | ("v1", "ReplicationController") => Kind::PodOwner,
        ("batch/v1", "CronJob") => Kind::CronJob,
        ("v1", "Pod") => Kind::Pod,
        ("v1", "Service") => Kind::Service,
        ("v1", "Namespace") => Kind::Namespace,
        _ => match linkerd::kind(api_version, kind) {
            Some(kind) => Kind::Linkerd(kind),
            None if is_harmless(group, kind) => return Ok(None),
            None => {
                return Err(error(format!(
                    "`{} {}` is not imported, and could restrict what the others allow; leave it out if it does not",
                    api_version.escape_debug(),
                    kind.escape_debug(),
                )));
            }
        },
    };
    Ok(Some(found))
}

/// Kinds that say nothing of who may call whom.
fn is_harmless(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(
            kind,
            "ConfigMap"
                | "Secret"
                | "ServiceAccount"
                | "PersistentVolume"
                | "PersistentVolumeClaim"
                | "Endpoints"
                | "Event"
                | "LimitRange"
                | "ResourceQuota"
                | "Node"
        ),
        "networking.k8s.io" => matches!(kind, "Ingress" | "IngressClass"),
        "rbac.authorization.k8s.io"
        | "autoscaling"
        | "policy"
        | "discovery.k8s.io"
        | "storage.k8s.io" => true,
        _ => false,
    }
}

impl Kind {
    fn read<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Foreign, D::Error> {
        Ok(match self {
            Self::Network => Foreign::Network(object(deserializer)?),
            Self::Istio => Foreign::Istio(object(deserializer)?),
            Self::Linkerd(kind) => Foreign::Linkerd(kind.read(deserializer)?),
            Self::PodOwner => {
                Foreign::Companion(PodTemplateOwner::deserialize(deserializer)?.into())
            }
            Self::CronJob => Foreign::Companion(CronJobDocument::deserialize(deserializer)?.into()),
            Self::Pod => Foreign::Companion(PodDocument::deserialize(deserializer)?.into()),
            Self::Service => Foreign::Companion(Companion::Service(ServiceDocument::deserialize(
                deserializer,
            )?)),
            Self::Namespace => Foreign::Companion(Companion::Namespace(
                NamespaceDocument::deserialize(deserializer)?,
            )),
        })
    }
}

pub(super) fn object<'de, S: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Object<S>, D::Error> {
    let whole: Whole<S> = Whole::deserialize(deserializer)?;
    Ok(Object {
        metadata: whole.metadata,
        spec: whole.spec,
    })
}

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Vec<Foreign>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self {
            Self::One(kind) => Ok(One(kind).deserialize(deserializer)?.into_iter().collect()),
            Self::List(kinds) => deserializer.deserialize_map(List(kinds)),
        }
    }
}

struct One(Option<Kind>);

impl<'de> DeserializeSeed<'de> for One {
    type Value = Option<Foreign>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            Some(kind) => kind.read(deserializer).map(Some),
            None => IgnoredAny::deserialize(deserializer).map(|_| None),
        }
    }
}

struct List(Vec<Option<Kind>>);

impl<'de> Visitor<'de> for List {
    type Value = Vec<Foreign>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kinds = Some(self.0);
        let mut read = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "items" => read = map.next_value_seed(Items(kinds.take().unwrap_or_default()))?,
                "apiVersion" | "kind" | "metadata" => {
                    map.next_value::<IgnoredAny>()?;
                }
                other => {
                    return Err(A::Error::unknown_field(
                        other,
                        &["apiVersion", "items", "kind", "metadata"],
                    ));
                }
            }
        }
        Ok(read)
    }
}

struct Items(Vec<Option<Kind>>);

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<Foreign>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<Foreign>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        for kind in self.0 {
            match items.next_element_seed(One(kind))? {
                Some(item) => read.extend(item),
                None => break,
            }
        }
        // the second reading saw as many as the first
        match items.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("the list changed while it was read")),
            None => Ok(read),
        }
    }
}
