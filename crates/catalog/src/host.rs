//! DNS names of the world outside: exact ones, and wildcards over everything below a name.
//!
//! Invariant: a [`HostName`] is in lower case, without a final dot, and can be nothing but a name: no address in any notation.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A whole DNS name, as it is resolved and compared.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HostName(Arc<str>);

/// Which names a service stands for.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum HostPattern {
    Exact(HostName),
    /// Every name that has one label or more before this one, never the bare name.
    Below(HostName),
}

/// Why a text is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("a host has 1 to {NAME_LIMIT} characters")]
    Length,
    #[error(
        "each label of a host has 1 to {LABEL_LIMIT} letters, digits, `-` and `_`, and neither begins nor ends with `-`"
    )]
    Label,
    #[error("a host is a name, not an address")]
    Address,
    #[error("`*` stands only as the whole first label, before at least two more: `*.example.com`")]
    Wildcard,
}

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() || text.len() > NAME_LIMIT {
            return Err(HostError::Length);
        }
        if !text.split('.').all(is_label) {
            return Err(HostError::Label);
        }
        // What ends in a number is an address to some reader: `127.1`, `0x7f.1`, `2130706433`.
        if text.rsplit('.').next().is_some_and(is_number) {
            return Err(HostError::Address);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl HostPattern {
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => host
                .as_str()
                .strip_suffix(name.as_str())
                .is_some_and(|before| before.len() > 1 && before.ends_with('.')),
        }
    }

    /// Whether some host matches both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => pattern.matches(name),
            (Self::Below(one), Self::Below(two)) => {
                one == two || self.matches(two) || other.matches(one)
            }
        }
    }

    /// Of several patterns that match a host, the one with the greatest is meant.
    pub fn precision(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(name) => name.as_str().len(),
        }
    }

    /// The name that stands in the pattern.
    pub fn name(&self) -> &HostName {
        match self {
            Self::Exact(name) | Self::Below(name) => name,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix("*.") {
            None if text.contains('*') => Err(HostError::Wildcard),
            None => text.parse().map(Self::Exact),
            // All of a top-level domain is nobody's service.
            Some(name) if !name.contains('.') || name.contains('*') => Err(HostError::Wildcard),
            Some(name) => name.parse().map(Self::Below),
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_LIMIT).contains(&label.len())
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// As readers of URLs take it: decimal, octal or hexadecimal.
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

macro_rules! as_string {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = HostError;
            fn try_from(text: String) -> Result<Self, HostError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}
as_string!(HostName, HostPattern);

const NAME_LIMIT: usize = 253;
const LABEL_LIMIT: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(host("API.Stripe.com").as_str(), "api.stripe.com");
        for text in [
            "localhost",
            "a_b.example",
            "xn--bcher-kva.example",
            "1.example",
            "0xg",
        ] {
            assert!(text.parse::<HostName>().is_ok(), "{text}");
        }
        let long = format!("{}.{}", "a".repeat(63), "b.".repeat(95) + "c");
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a.example",
            "a-.example",
            "a b",
            "a:80",
            "a/b",
            "ä.example",
            "10.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "a.0x7f",
            "[::1]",
            "::1",
            "*.a.example",
            &long,
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_matches_what_is_below_it_and_never_the_bare_name() {
        let below = pattern("*.s3.amazonaws.com");
        for text in ["b.s3.amazonaws.com", "a.b.S3.amazonaws.COM"] {
            assert!(below.matches(&host(text)), "{text}");
        }
        for text in [
            "s3.amazonaws.com",
            "bs3.amazonaws.com",
            "amazonaws.com",
            "b.s3.amazonaws.com.example",
        ] {
            assert!(!below.matches(&host(text)), "{text}");
        }
        for text in [
            "*",
            "*.",
            "*.com",
            "a.*.com",
            "*.*.example",
            "b*.example.com",
            "**.example.com",
        ] {
            assert_eq!(
                text.parse::<HostPattern>(),
                Err(HostError::Wildcard),
                "{text}"
            );
        }
    }

    #[test]
    fn two_patterns_overlap_if_a_host_matches_both() {
        for (one, two, overlap) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "*.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.a.example.com", "*.b.example.com", false),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!(pattern(one).overlaps(&pattern(two)), overlap, "{one} {two}");
            assert_eq!(pattern(two).overlaps(&pattern(one)), overlap, "{two} {one}");
        }
    }
}
