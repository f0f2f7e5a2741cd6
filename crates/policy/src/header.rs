//! Conditions on one header's value.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{
    pattern::{PatternError, is_token, string_form},
    request::{HeaderLookup, HeaderValue},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "HeaderSpec", try_from = "HeaderSpec")]
pub struct HeaderCondition {
    pub name: HeaderName,
    pub test: HeaderTest,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeaderTest {
    Exact(String),
    Prefix(String),
    Present,
}

impl HeaderCondition {
    /// A header that came more than once matches nothing.
    pub fn matches(&self, headers: &dyn HeaderLookup) -> bool {
        match headers.lookup(self.name.as_str()) {
            HeaderValue::Absent | HeaderValue::Many => false,
            HeaderValue::One(value) => self.test.admits(value),
        }
    }
}

impl HeaderTest {
    /// Whether this value of the header's only field passes.
    pub(crate) fn admits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => value == exact.as_bytes(),
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Present => true,
        }
    }
}

impl fmt::Display for HeaderCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.test {
            HeaderTest::Exact(value) => write!(f, "{}: {value}", self.name),
            HeaderTest::Prefix(value) => write!(f, "{}: {value}*", self.name),
            HeaderTest::Present => write!(f, "{} present", self.name),
        }
    }
}

/// A header's name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(Box<str>);

impl HeaderName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error =
            |problem: &str| PatternError::new("a header that a rule can match", text, problem);
        if text.len() > NAME_LIMIT || !is_token(text) {
            return Err(error("it is not a header's name"));
        }
        let name = text.to_ascii_lowercase();
        if name == "host" {
            return Err(error("use `hosts`"));
        }
        if name == "upgrade" {
            return Err(error("use `upgrades`"));
        }
        if UNSTABLE.contains(&name.as_str()) {
            return Err(error("sidecars rewrite it on the way"));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(HeaderName, "a header's name; case does not matter");

/// As written in documents: exactly one of the three tests.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeaderSpec {
    /// The header's name; case does not matter.
    name: HeaderName,
    /// The whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    /// How the value begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Only `true`: the header is there, whatever its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
}

impl TryFrom<HeaderSpec> for HeaderCondition {
    type Error = PatternError;

    fn try_from(spec: HeaderSpec) -> Result<Self, PatternError> {
        let error = |problem| PatternError::new("a header condition", spec.name.as_str(), problem);
        let test = match (spec.exact.clone(), spec.prefix.clone(), spec.present) {
            (Some(exact), None, None) => HeaderTest::Exact(exact),
            (None, Some(prefix), None) if !prefix.is_empty() => HeaderTest::Prefix(prefix),
            (None, None, Some(true)) => HeaderTest::Present,
            (None, Some(_), None) => return Err(error("an empty prefix; say `present: true`")),
            (None, None, Some(false)) => {
                return Err(error("`present` can only be true: rules only add"));
            }
            _ => return Err(error("expected one of `exact`, `prefix` and `present`")),
        };
        Ok(Self {
            name: spec.name,
            test,
        })
    }
}

impl From<HeaderCondition> for HeaderSpec {
    fn from(condition: HeaderCondition) -> Self {
        let mut spec = Self {
            name: condition.name,
            exact: None,
            prefix: None,
            present: None,
        };
        match condition.test {
            HeaderTest::Exact(value) => spec.exact = Some(value),
            HeaderTest::Prefix(value) => spec.prefix = Some(value),
            HeaderTest::Present => spec.present = Some(true),
        }
        spec
    }
}

impl JsonSchema for HeaderCondition {
    fn schema_name() -> Cow<'static, str> {
        "HeaderCondition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        HeaderSpec::json_schema(generator)
    }
}

const NAME_LIMIT: usize = 256;

/// What a proxy adds, removes or rewrites cannot be a condition (RFC 9110 §7.6.1 and our own identity header).
const UNSTABLE: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "x-forwarded-client-cert",
];
