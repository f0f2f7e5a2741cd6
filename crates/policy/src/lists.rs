//! Lists that cannot be empty, and conditions of which "any" is a word.
//!
//! Invariant: an absent constraint is [`Match::Any`], never an empty list; so nothing that got lost can widen a rule.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// At least one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct NonEmpty<T>(Vec<T>);

impl<T> NonEmpty<T> {
    /// `None` for an empty list.
    pub fn new(values: Vec<T>) -> Option<Self> {
        (!values.is_empty()).then_some(Self(values))
    }

    pub fn one(value: T) -> Self {
        Self(vec![value])
    }

    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<'a, T> IntoIterator for &'a NonEmpty<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NonEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).ok_or_else(|| D::Error::custom(EMPTY_LIST))
    }
}

impl<T: JsonSchema> JsonSchema for NonEmpty<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("NonEmpty_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": generator.subschema_for::<T>(),
            "minItems": 1,
        })
    }
}

/// A condition on one part of a connection or request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Match<T> {
    /// No constraint.
    #[default]
    Any,
    OneOf(NonEmpty<T>),
}

impl<T> Match<T> {
    pub fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// The listed values; none for [`Match::Any`].
    pub fn listed(&self) -> &[T] {
        match self {
            Self::Any => &[],
            Self::OneOf(values) => values.as_slice(),
        }
    }

    /// Whether there is no constraint, or one listed value passes `test`.
    pub fn admits(&self, test: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(values) => values.iter().any(test),
        }
    }
}

/// In documents, a constraint that is absent is `Any`; one that is present is a list.
impl<T: Serialize> Serialize for Match<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_none(),
            Self::OneOf(values) => values.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Match<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NonEmpty::deserialize(deserializer).map(Self::OneOf)
    }
}

impl<T: JsonSchema> JsonSchema for Match<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        NonEmpty::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        NonEmpty::<T>::json_schema(generator)
    }
}

const EMPTY_LIST: &str =
    "an empty list matches nothing; leave the field out where it means everything";
