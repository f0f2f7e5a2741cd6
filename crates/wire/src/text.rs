//! Resources as documents: what `apply` reads from files and `get` prints.
//!
//! Invariant: what is written is read again as the same resource, and written again as the same text.

use serde::Serialize;
use weft_catalog::{
    Mesh, MeshSpec, NamespaceSettings, NamespaceSettingsSpec, Service, ServiceSpec,
};
use weft_identity::document::{self, Document, DocumentError, Metadata, Origin};
use weft_policy::{AllowSpec, Quarantine, QuarantineSpec, Rule};

use crate::error::ConversionError;
use crate::key::{KeyError, Kind};
use crate::resource::{Resource, Spec};

/// Why a document is not a resource.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// Says file, line and column itself.
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{file}:{line}: {problem}")]
    Kind {
        file: String,
        line: usize,
        problem: KeyError,
    },
    #[error("{file}:{line}: {kind} `{name}`: {problem}")]
    Invalid {
        file: String,
        line: usize,
        kind: Kind,
        name: String,
        problem: Box<ConversionError>,
    },
}

/// Reads one document of any kind.
pub fn read(text: &str, origin: &Origin) -> Result<Resource, TextError> {
    let envelope = document::read_envelope(text, origin)?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == envelope.kind);
    let kind = kind.ok_or_else(|| TextError::Kind {
        file: origin.file.clone(),
        line: origin.first_line,
        problem: KeyError::UnknownKind(envelope.kind.clone()),
    })?;
    let invalid = |problem| TextError::Invalid {
        file: origin.file.clone(),
        line: origin.first_line,
        kind,
        name: envelope.metadata.name.to_string(),
        problem: Box::new(problem),
    };
    let (metadata, spec) = match kind {
        Kind::Mesh => {
            let document: Document<MeshSpec> = document::read(text, origin, kind.as_str())?;
            let mesh = Mesh::from_document(&document).map_err(|error| invalid(error.into()))?;
            (document.metadata, Spec::Mesh(mesh))
        }
        Kind::Service => {
            let document: Document<ServiceSpec> = document::read(text, origin, kind.as_str())?;
            let service =
                Service::from_document(&document).map_err(|error| invalid(error.into()))?;
            (document.metadata, Spec::Service(service))
        }
        Kind::Allow => {
            let document: Document<AllowSpec> = document::read(text, origin, kind.as_str())?;
            let rule = Rule::from_document(&document).map_err(|error| invalid(error.into()))?;
            (document.metadata, Spec::Allow(rule.into()))
        }
        Kind::Quarantine => {
            let document: Document<QuarantineSpec> = document::read(text, origin, kind.as_str())?;
            let quarantine =
                Quarantine::from_document(&document).map_err(|error| invalid(error.into()))?;
            (document.metadata, Spec::Quarantine(quarantine))
        }
        Kind::NamespaceSettings => {
            let document: Document<NamespaceSettingsSpec> =
                document::read(text, origin, kind.as_str())?;
            let settings = NamespaceSettings::from_document(&document)
                .map_err(|error| invalid(error.into()))?;
            (document.metadata, Spec::NamespaceSettings(settings))
        }
    };
    Resource::new(spec, metadata.labels).map_err(invalid)
}

/// Writes one document, with its defaults said.
pub fn write(resource: &Resource) -> Result<String, WriteError> {
    let head = |kind: Kind| Head {
        api_version: API_VERSION,
        kind: kind.as_str(),
        metadata: resource.metadata(),
    };
    let kind = resource.kind();
    match &resource.spec {
        Spec::Mesh(mesh) => to_yaml(head(kind), mesh.to_spec()),
        Spec::Service(service) => to_yaml(head(kind), service.to_spec()),
        Spec::Allow(rule) => to_yaml(head(kind), rule.to_document().spec),
        Spec::Quarantine(quarantine) => to_yaml(head(kind), quarantine.to_document().spec),
        Spec::NamespaceSettings(settings) => to_yaml(head(kind), settings.to_spec()),
    }
}

/// A resource that has no text form; none of today's kinds can cause it.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the resource as YAML: {0}")]
pub struct WriteError(String);

struct Head {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<S> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: S,
}

fn to_yaml<S: Serialize>(head: Head, spec: S) -> Result<String, WriteError> {
    let Head {
        api_version,
        kind,
        metadata,
    } = head;
    let written = Written {
        api_version,
        kind,
        metadata,
        spec,
    };
    serde_saphyr::to_string(&written).map_err(|error| WriteError(error.to_string()))
}

const API_VERSION: &str = "weft.dev/v1";
