//! What all Kubernetes objects share: metadata, label selectors, numbers that may be names.
//!
//! Invariant: every field that the reference defines is named here, the others are errors; those that mean nothing to policy
//! are read and forgotten.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, Visitor},
};

pub(super) type Labels = BTreeMap<String, String>;

/// `ObjectMeta`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ObjectMeta {
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) labels: Labels,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, rename = "generateName")]
    _generate_name: IgnoredAny,
    #[serde(default, rename = "selfLink")]
    _self_link: IgnoredAny,
    #[serde(default, rename = "uid")]
    _uid: IgnoredAny,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: IgnoredAny,
    #[serde(default, rename = "generation")]
    _generation: IgnoredAny,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: IgnoredAny,
    #[serde(default, rename = "deletionTimestamp")]
    _deletion_timestamp: IgnoredAny,
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: IgnoredAny,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: IgnoredAny,
    #[serde(default, rename = "finalizers")]
    _finalizers: IgnoredAny,
    #[serde(default, rename = "managedFields")]
    _managed_fields: IgnoredAny,
}

/// `LabelSelector`; an empty one selects everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LabelSelector {
    #[serde(default)]
    match_labels: Labels,
    #[serde(default)]
    match_expressions: Vec<Requirement>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// Whether something holds, where not everything is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    Unknown,
}

impl From<bool> for Holds {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Holds {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    pub(super) fn all(each: impl IntoIterator<Item = Self>) -> Self {
        each.into_iter().fold(Self::Yes, Self::and)
    }

    pub(super) fn any(each: impl IntoIterator<Item = Self>) -> Self {
        each.into_iter().fold(Self::No, Self::or)
    }
}

/// Labels of which all are known, or only some.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'l> {
    All(&'l Labels),
    /// What else the object carries is not known.
    Some(&'l Labels),
}

impl LabelSelector {
    pub(super) fn of_labels(match_labels: Labels) -> Self {
        Self {
            match_labels,
            match_expressions: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    pub(super) fn selects(&self, labels: &Labels) -> bool {
        self.holds(Known::All(labels)) == Holds::Yes
    }

    pub(super) fn holds(&self, labels: Known<'_>) -> Holds {
        let (known, missing) = match labels {
            Known::All(labels) => (labels, Holds::No),
            Known::Some(labels) => (labels, Holds::Unknown),
        };
        let equal = self.match_labels.iter().map(|(key, value)| {
            known
                .get(key)
                .map_or(missing, |found| Holds::from(found == value))
        });
        let required = self.match_expressions.iter().map(|requirement| {
            let found = known.get(&requirement.key);
            let listed = |value: &String| Holds::from(requirement.values.contains(value));
            match requirement.operator {
                Operator::In => found.map_or(missing, listed),
                Operator::NotIn => found.map_or(missing, listed).not(),
                Operator::Exists => found.map_or(missing, |_| Holds::Yes),
                Operator::DoesNotExist => found.map_or(missing, |_| Holds::Yes).not(),
            }
        });
        Holds::all(equal.chain(required))
    }
}

/// A port's number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PortRef {
    Number(u16),
    Name(String),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = PortRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number (1 to 65535) or name")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<PortRef, E> {
                match u16::try_from(number) {
                    Ok(number) if number > 0 => Ok(PortRef::Number(number)),
                    _ => Err(E::custom("a port number is 1 to 65535")),
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<PortRef, E> {
                self.visit_u64(u64::try_from(number).unwrap_or(0))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<PortRef, E> {
                let is_name = name.bytes().any(|byte| byte.is_ascii_lowercase());
                if !is_name {
                    return Err(E::custom(
                        "a port name has a letter; a number has no quotes",
                    ));
                }
                Ok(PortRef::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
