//! What all patterns share: how a text that is not one is reported, and their form as one string in documents.

/// A text in a rule that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {what}: {problem}", .text.escape_debug())]
pub struct PatternError {
    what: &'static str,
    text: String,
    problem: String,
}

impl PatternError {
    pub(crate) fn new(what: &'static str, text: &str, problem: impl Into<String>) -> Self {
        Self {
            what,
            text: text.chars().take(SHOWN_LIMIT).collect(),
            problem: problem.into(),
        }
    }
}

/// Gives a type with `Display` and `FromStr` its serde form and its JSON Schema, both as that one string.
macro_rules! string_form {
    ($name:ident, $description:expr) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}
pub(crate) use string_form;

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

const SHOWN_LIMIT: usize = 200;
