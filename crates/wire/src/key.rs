//! The names of resources: `Allow/shop/web-reads-orders`, `Mesh/mesh`.

use std::fmt;
use std::str::FromStr;

use weft_catalog::{Mesh, NamespaceSettings};
use weft_identity::{DnsLabel, NameError, RuleName, ServiceName};

use crate::error::{At, ConversionError, Problem};
use crate::v1;

/// Names one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    pub kind: Kind,
    /// `None` exactly for kinds of the whole mesh.
    pub namespace: Option<DnsLabel>,
    pub name: DnsLabel,
}

/// The kinds of resources, in the order in which they are best applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Mesh,
    Service,
    Allow,
    Quarantine,
    NamespaceSettings,
}

/// Why a text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("`{}` is not a kind; the kinds are Mesh, Service, Allow, Quarantine and NamespaceSettings", .0.escape_debug())]
    UnknownKind(String),
    #[error("`{}` names no resource; write `{kind}/namespace/name`", .text.escape_debug())]
    Shape { kind: Kind, text: String },
    #[error("there is one Mesh; write `Mesh` or `Mesh/mesh`")]
    NotTheMesh,
    #[error("a namespace has one NamespaceSettings; write `NamespaceSettings/NAMESPACE`")]
    NotTheSettings,
    #[error(transparent)]
    Name(#[from] NameError),
}

impl ResourceKey {
    pub fn mesh() -> Self {
        Self {
            kind: Kind::Mesh,
            namespace: None,
            name: Mesh::name(),
        }
    }

    pub fn service(name: &ServiceName) -> Self {
        Self {
            kind: Kind::Service,
            namespace: Some(name.namespace.clone()),
            name: name.name.clone(),
        }
    }

    pub fn allow(name: &RuleName) -> Self {
        Self {
            kind: Kind::Allow,
            namespace: Some(name.namespace.clone()),
            name: name.name.clone(),
        }
    }

    pub fn quarantine(name: &RuleName) -> Self {
        Self {
            kind: Kind::Quarantine,
            namespace: Some(name.namespace.clone()),
            name: name.name.clone(),
        }
    }

    pub fn namespace_settings(namespace: &DnsLabel) -> Self {
        Self {
            kind: Kind::NamespaceSettings,
            namespace: Some(namespace.clone()),
            name: NamespaceSettings::name(),
        }
    }
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Mesh,
        Self::Service,
        Self::Allow,
        Self::Quarantine,
        Self::NamespaceSettings,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::Service => "Service",
            Self::Allow => "Allow",
            Self::Quarantine => "Quarantine",
            Self::NamespaceSettings => "NamespaceSettings",
        }
    }

    pub fn has_namespace(self) -> bool {
        match self {
            Self::Mesh => false,
            Self::Service | Self::Allow | Self::Quarantine | Self::NamespaceSettings => true,
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Mesh => "meshes",
            Self::Service => "services",
            Self::Allow => "allows",
            Self::Quarantine => "quarantines",
            Self::NamespaceSettings => "namespacesettings",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = KeyError;

    /// Reads what people type: any case, singular or plural.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let is = |kind: &Self| {
            text.eq_ignore_ascii_case(kind.as_str()) || text.eq_ignore_ascii_case(kind.plural())
        };
        let shown = || text.chars().take(SHOWN_LIMIT).collect();
        Self::ALL
            .into_iter()
            .find(is)
            .ok_or_else(|| KeyError::UnknownKind(shown()))
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

impl FromStr for ResourceKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (kind, name) = text.split_once('/').unwrap_or((text, ""));
        let kind: Kind = kind.parse()?;
        if !kind.has_namespace() {
            let is_the_mesh = name.is_empty() || name == Mesh::NAME;
            return if is_the_mesh {
                Ok(Self::mesh())
            } else {
                Err(KeyError::NotTheMesh)
            };
        }
        let shape = || KeyError::Shape {
            kind,
            text: text.chars().take(SHOWN_LIMIT).collect(),
        };
        if kind == Kind::NamespaceSettings && !name.is_empty() {
            let (namespace, name) = name.split_once('/').unwrap_or((name, SETTINGS));
            return if name == SETTINGS {
                Ok(Self::namespace_settings(&namespace.parse()?))
            } else {
                Err(KeyError::NotTheSettings)
            };
        }
        let (namespace, name) = name.split_once('/').ok_or_else(shape)?;
        Ok(Self {
            kind,
            namespace: Some(namespace.parse()?),
            name: name.parse()?,
        })
    }
}

impl TryFrom<&v1::ResourceKey> for ResourceKey {
    type Error = ConversionError;

    fn try_from(key: &v1::ResourceKey) -> Result<Self, ConversionError> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == key.kind);
        let kind = kind
            .ok_or_else(|| Problem::UnknownKind(key.kind.clone()))
            .at("kind")?;
        let (namespace, name) = read_names(kind, &key.namespace, &key.name)?;
        Ok(Self {
            kind,
            namespace,
            name,
        })
    }
}

impl From<&ResourceKey> for v1::ResourceKey {
    fn from(key: &ResourceKey) -> Self {
        Self {
            kind: key.kind.to_string(),
            namespace: key
                .namespace
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            name: key.name.to_string(),
        }
    }
}

/// Reads the names of a resource; exactly the kinds that have a namespace must give one.
pub(crate) fn read_names(
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<(Option<DnsLabel>, DnsLabel), ConversionError> {
    let namespace = match (kind.has_namespace(), namespace.is_empty()) {
        (true, _) => Some(namespace.parse().map_err(Problem::Name).at("namespace")?),
        (false, true) => None,
        (false, false) => {
            return Err(Problem::NamespaceGiven {
                kind: kind.as_str(),
            })
            .at("namespace");
        }
    };
    let name: DnsLabel = name.parse().map_err(Problem::Name).at("name")?;
    if kind == Kind::Mesh && name.as_str() != Mesh::NAME {
        return Err(weft_catalog::Problem::NotTheMesh(name.to_string())).at("name");
    }
    if kind == Kind::NamespaceSettings && name.as_str() != SETTINGS {
        return Err(weft_catalog::Problem::NotTheSettings(name.to_string())).at("name");
    }
    Ok((namespace, name))
}

const SETTINGS: &str = NamespaceSettings::NAME;
const SHOWN_LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_people_type_them_and_written_in_one_way() {
        for (text, written) in [
            ("Allow/shop/web-reads-orders", "Allow/shop/web-reads-orders"),
            ("allow/shop/a", "Allow/shop/a"),
            ("ALLOWS/shop/a", "Allow/shop/a"),
            ("services/shop/api", "Service/shop/api"),
            ("quarantine/shop/x", "Quarantine/shop/x"),
            ("mesh", "Mesh/mesh"),
            ("namespacesettings/shop", "NamespaceSettings/shop/settings"),
            (
                "NamespaceSettings/shop/settings",
                "NamespaceSettings/shop/settings",
            ),
            ("Mesh/mesh", "Mesh/mesh"),
        ] {
            let key: ResourceKey = text.parse().unwrap();
            assert_eq!(key.to_string(), written);
            assert_eq!(
                ResourceKey::try_from(&v1::ResourceKey::from(&key)).unwrap(),
                key
            );
        }
    }

    #[test]
    fn what_names_no_resource_is_refused() {
        for text in [
            "",
            "allow",
            "allow/shop",
            "allow/shop/",
            "allow/Shop/a",
            "allow/shop/a/b",
            "mesh/other",
            "namespacesettings",
            "namespacesettings/shop/other",
            "namespacesettings/Shop",
            "pod/a/b",
        ] {
            assert!(text.parse::<ResourceKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn on_the_wire_a_kind_has_one_spelling() {
        let key = |kind: &str, namespace: &str, name: &str| v1::ResourceKey {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let path = |key: &v1::ResourceKey| ResourceKey::try_from(key).unwrap_err().path;
        assert_eq!(path(&key("allow", "shop", "a")), "kind");
        assert_eq!(path(&key("Allow", "", "a")), "namespace");
        assert_eq!(path(&key("Mesh", "shop", "mesh")), "namespace");
        assert_eq!(path(&key("Mesh", "", "other")), "name");
        assert_eq!(path(&key("NamespaceSettings", "shop", "other")), "name");
    }
}
