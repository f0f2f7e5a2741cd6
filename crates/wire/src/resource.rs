//! Resources of the API as models: what `apply` takes and the store keeps.
//!
//! Invariant: a `Resource` is valid by itself, and its name stands in one place only, its model.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_catalog::{Mesh, NamespaceSettings, Service};
use weft_identity::document::Metadata;
use weft_identity::{DnsLabel, RuleName, ServiceName};
use weft_policy::{Quarantine, Rule};

use crate::error::{At, ConversionError, Problem, required};
use crate::key::{Kind, ResourceKey, read_names};
use crate::namespace_settings::read_namespace_settings;
use crate::rule::{read_quarantine, read_rule};
use crate::service::read_service;
use crate::v1;

/// One resource of the API.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub spec: Spec,
    pub labels: BTreeMap<String, String>,
    /// The revision that last changed it; 0 before it is stored.
    pub revision: u64,
    /// The set it was applied with.
    pub set: Option<DnsLabel>,
}

/// What a resource says, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    Mesh(Mesh),
    Service(Service),
    Allow(Arc<Rule>),
    Quarantine(Quarantine),
    NamespaceSettings(NamespaceSettings),
}

impl Resource {
    /// A resource that no one has stored yet.
    pub fn new(spec: Spec, labels: BTreeMap<String, String>) -> Result<Self, ConversionError> {
        check_labels(&labels).at("metadata.labels")?;
        Ok(Self {
            spec,
            labels,
            revision: 0,
            set: None,
        })
    }

    pub fn kind(&self) -> Kind {
        match &self.spec {
            Spec::Mesh(_) => Kind::Mesh,
            Spec::Service(_) => Kind::Service,
            Spec::Allow(_) => Kind::Allow,
            Spec::Quarantine(_) => Kind::Quarantine,
            Spec::NamespaceSettings(_) => Kind::NamespaceSettings,
        }
    }

    pub fn metadata(&self) -> Metadata {
        let (namespace, name) = self.spec.names();
        Metadata {
            name,
            namespace,
            labels: self.labels.clone(),
        }
    }

    pub fn key(&self) -> ResourceKey {
        let (namespace, name) = self.spec.names();
        ResourceKey {
            kind: self.kind(),
            namespace,
            name,
        }
    }
}

impl Spec {
    fn names(&self) -> (Option<DnsLabel>, DnsLabel) {
        match self {
            Self::Mesh(_) => (None, Mesh::name()),
            Self::Service(service) => (
                Some(service.name.namespace.clone()),
                service.name.name.clone(),
            ),
            Self::Allow(rule) => (Some(rule.name.namespace.clone()), rule.name.name.clone()),
            Self::Quarantine(quarantine) => (
                Some(quarantine.name.namespace.clone()),
                quarantine.name.name.clone(),
            ),
            Self::NamespaceSettings(settings) => {
                (Some(settings.namespace.clone()), NamespaceSettings::name())
            }
        }
    }
}

impl TryFrom<&v1::Resource> for Resource {
    type Error = ConversionError;

    fn try_from(resource: &v1::Resource) -> Result<Self, ConversionError> {
        let metadata = required(&resource.metadata, "metadata")?;
        let spec = required(&resource.spec, "spec")?;
        let (namespace, name) =
            read_names(kind_of(spec), &metadata.namespace, &metadata.name).at("metadata")?;
        let labels: BTreeMap<_, _> = metadata.labels.clone().into_iter().collect();
        check_labels(&labels).at("metadata.labels")?;
        let set = match resource.set.as_str() {
            "" => None,
            set => Some(set.parse().map_err(Problem::Name).at("set")?),
        };
        Ok(Self {
            spec: read_spec(namespace, name, spec)?,
            labels,
            revision: resource.revision,
            set,
        })
    }
}

impl From<&Resource> for v1::Resource {
    fn from(resource: &Resource) -> Self {
        let Metadata {
            name,
            namespace,
            labels,
        } = resource.metadata();
        let metadata = v1::Metadata {
            name: name.to_string(),
            namespace: namespace
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            labels: labels.into_iter().collect(),
        };
        let spec = match &resource.spec {
            Spec::Mesh(mesh) => v1::resource::Spec::Mesh(mesh.into()),
            Spec::Service(service) => v1::resource::Spec::Service(service.into()),
            Spec::Allow(rule) => v1::resource::Spec::Allow(rule.as_ref().into()),
            Spec::Quarantine(quarantine) => v1::resource::Spec::Quarantine(quarantine.into()),
            Spec::NamespaceSettings(settings) => {
                v1::resource::Spec::NamespaceSettings(settings.into())
            }
        };
        Self {
            metadata: Some(metadata),
            revision: resource.revision,
            set: resource
                .set
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            spec: Some(spec),
        }
    }
}

/// The key of a message, without reading its spec.
pub fn key_of(resource: &v1::Resource) -> Result<ResourceKey, ConversionError> {
    let metadata = required(&resource.metadata, "metadata")?;
    let kind = kind_of(required(&resource.spec, "spec")?);
    let (namespace, name) = read_names(kind, &metadata.namespace, &metadata.name).at("metadata")?;
    Ok(ResourceKey {
        kind,
        namespace,
        name,
    })
}

fn kind_of(spec: &v1::resource::Spec) -> Kind {
    match spec {
        v1::resource::Spec::Mesh(_) => Kind::Mesh,
        v1::resource::Spec::Service(_) => Kind::Service,
        v1::resource::Spec::Allow(_) => Kind::Allow,
        v1::resource::Spec::Quarantine(_) => Kind::Quarantine,
        v1::resource::Spec::NamespaceSettings(_) => Kind::NamespaceSettings,
    }
}

fn read_spec(
    namespace: Option<DnsLabel>,
    name: DnsLabel,
    spec: &v1::resource::Spec,
) -> Result<Spec, ConversionError> {
    if let v1::resource::Spec::Mesh(mesh) = spec {
        return Ok(Spec::Mesh(mesh.try_into()?));
    }
    let namespace = namespace.ok_or(Problem::Missing).at("metadata.namespace")?;
    match spec {
        v1::resource::Spec::Mesh(mesh) => Ok(Spec::Mesh(mesh.try_into()?)),
        v1::resource::Spec::Service(service) => Ok(Spec::Service(read_service(
            ServiceName { namespace, name },
            service,
        )?)),
        v1::resource::Spec::Allow(allow) => {
            let rule = read_rule(RuleName { namespace, name }, allow).at("spec")?;
            Ok(Spec::Allow(Arc::new(rule)))
        }
        v1::resource::Spec::Quarantine(quarantine) => Ok(Spec::Quarantine(
            read_quarantine(RuleName { namespace, name }, quarantine).at("spec")?,
        )),
        v1::resource::Spec::NamespaceSettings(settings) => Ok(Spec::NamespaceSettings(
            read_namespace_settings(namespace, settings).at("spec")?,
        )),
    }
}

/// Labels are for people and their tools; the mesh only bounds them.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ConversionError> {
    if labels.len() > LABELS_LIMIT {
        return Err(Problem::TooMany {
            count: labels.len(),
            limit: LABELS_LIMIT,
        }
        .into());
    }
    let is_short =
        |text: &str| text.chars().count() <= LABEL_LIMIT && !text.chars().any(char::is_control);
    match labels
        .iter()
        .find(|(key, value)| key.is_empty() || !is_short(key) || !is_short(value))
    {
        Some((key, _)) => {
            let shown: String = key
                .chars()
                .take(LABEL_LIMIT)
                .flat_map(char::escape_debug)
                .collect();
            Err(Problem::Label { limit: LABEL_LIMIT }).at(shown)
        }
        None => Ok(()),
    }
}

const LABELS_LIMIT: usize = 64;
const LABEL_LIMIT: usize = 253;
