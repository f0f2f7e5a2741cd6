//! HTTP conditions of a rule: methods, paths, hosts, headers, upgrades.
//!
//! Invariant: each part that is stated must match; a part that is not stated says nothing.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{
    grpc::{self, GrpcMethod},
    header::HeaderCondition,
    lists::Match,
    path::PathPattern,
    pattern::{PatternError, is_token, string_form},
    request::{Condition, HttpRequest},
};

/// Every part must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "HttpSpec", try_from = "HttpSpec")]
pub struct HttpCondition {
    pub methods: Match<Method>,
    pub paths: Match<PathPattern>,
    pub hosts: Match<HostPattern>,
    pub headers: Match<HeaderCondition>,
    pub upgrades: Match<Upgrade>,
}

/// As written in documents.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpSpec {
    /// Methods, in their exact case.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    methods: Match<Method>,
    /// Path patterns.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    paths: Match<PathPattern>,
    /// gRPC methods, in place of `methods` and `paths`.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    grpc: Match<GrpcMethod>,
    /// Hosts, exact or `*.` and a suffix.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    hosts: Match<HostPattern>,
    /// Conditions on headers: all must match.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    headers: Match<HeaderCondition>,
    /// Protocols that a matched request may switch to; absent: none.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    upgrades: Match<Upgrade>,
}

impl TryFrom<HttpSpec> for HttpCondition {
    type Error = PatternError;

    fn try_from(spec: HttpSpec) -> Result<Self, PatternError> {
        let (methods, paths) = match &spec.grpc {
            Match::Any => (spec.methods, spec.paths),
            Match::OneOf(named) => {
                let error = |problem| {
                    PatternError::new(
                        "a condition",
                        &named
                            .iter()
                            .next()
                            .map(ToString::to_string)
                            .unwrap_or_default(),
                        problem,
                    )
                };
                if !spec.methods.is_any() || !spec.paths.is_any() {
                    return Err(error(
                        "leave `methods` and `paths` out: `grpc` says them itself",
                    ));
                }
                grpc::as_http(named).ok_or_else(|| error("it cannot be written as a path"))?
            }
        };
        Ok(Self {
            methods,
            paths,
            hosts: spec.hosts,
            headers: spec.headers,
            upgrades: spec.upgrades,
        })
    }
}

impl From<HttpCondition> for HttpSpec {
    fn from(condition: HttpCondition) -> Self {
        let (methods, paths, grpc) = match grpc::of_http(&condition.methods, &condition.paths) {
            Some(named) => (Match::Any, Match::Any, Match::OneOf(named)),
            None => (condition.methods, condition.paths, Match::Any),
        };
        Self {
            methods,
            paths,
            grpc,
            hosts: condition.hosts,
            headers: condition.headers,
            upgrades: condition.upgrades,
        }
    }
}

impl JsonSchema for HttpCondition {
    fn schema_name() -> Cow<'static, str> {
        "HttpCondition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        HttpSpec::json_schema(generator)
    }
}

impl HttpCondition {
    pub fn matches(&self, request: &HttpRequest<'_>) -> bool {
        PARTS.iter().all(|part| self.part_matches(*part, request))
    }

    /// One part at a time, for those who ask why.
    pub(crate) fn part_matches(&self, part: Condition, request: &HttpRequest<'_>) -> bool {
        match part {
            Condition::Method => self
                .methods
                .admits(|method| method.as_str() == request.method),
            Condition::Path => self.paths.admits(|pattern| pattern.matches(request.path)),
            Condition::Host => self
                .hosts
                .admits(|pattern| request.authority.is_some_and(|host| pattern.matches(host))),
            Condition::Header => self
                .headers
                .listed()
                .iter()
                .all(|header| header.matches(request.headers)),
            Condition::Upgrade => request
                .upgrade
                .is_none_or(|protocols| names_all(self.upgrades.listed(), protocols)),
            // the rule as a whole answers for these
            Condition::Source
            | Condition::Port
            | Condition::Protocol
            | Condition::Connect
            | Condition::Expired
            | Condition::Audit => true,
        }
    }

    /// A condition that states nothing is a mistake: a rule for everything has no `http`.
    pub fn is_empty(&self) -> bool {
        self.methods.is_any()
            && self.paths.is_any()
            && self.hosts.is_any()
            && self.headers.is_any()
            && self.upgrades.is_any()
    }
}

/// `Upgrade` may offer several protocols (RFC 9110 §7.8): the server may take any, so each must be named.
pub(crate) fn names_all(named: &[Upgrade], offered: &str) -> bool {
    offered.split(',').all(|offer| {
        let offer = offer.trim_matches([' ', '\t']);
        named.iter().any(|name| offer.eq_ignore_ascii_case(&name.0))
    })
}

/// The parts in the order in which the first failure is reported.
pub(crate) const PARTS: [Condition; 5] = [
    Condition::Method,
    Condition::Path,
    Condition::Host,
    Condition::Header,
    Condition::Upgrade,
];

/// An HTTP method; case matters (RFC 9110 §9.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

impl Method {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error =
            |problem: &str| PatternError::new("a method that a rule can name", text, problem);
        let upper = text.to_ascii_uppercase();
        if !is_token(text) || text.len() > TOKEN_LIMIT {
            return Err(error("it is not an HTTP method"));
        }
        if upper == "CONNECT" {
            return Err(error("CONNECT needs a rule without `http`"));
        }
        if upper != text && KNOWN_METHODS.contains(&upper.as_str()) {
            return Err(error(&format!("case matters; did you mean `{upper}`?")));
        }
        if text.contains('*') {
            return Err(error("leave `methods` out where it means every method"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(Method, "an HTTP method; case matters");

/// `api.example` or `*.example`; case does not matter, a port is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// In lower case, without `*`; a wildcard's begins with the dot.
    name: Box<str>,
    wildcard: bool,
}

impl HostPattern {
    /// `authority` as it came: with or without a port, in any case.
    pub fn matches(&self, authority: &str) -> bool {
        self.matches_host(host_of(authority))
    }

    /// `host` as [`host_of`] leaves it, in any case.
    pub(crate) fn matches_host(&self, host: &str) -> bool {
        if !self.wildcard {
            return host.eq_ignore_ascii_case(&self.name);
        }
        // one label or more before the dot
        let Some(cut) = host.len().checked_sub(self.name.len()) else {
            return false;
        };
        cut > 0
            && !host.starts_with('.')
            && host
                .get(cut..)
                .is_some_and(|end| end.eq_ignore_ascii_case(&self.name))
    }
}

/// The host of `host[:port]`, without the final dot of a full DNS name.
pub fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    // `::1` without brackets is not an authority; leave it alone
    let host = if host.contains(':') && !host.starts_with('[') {
        authority
    } else {
        host
    };
    host.strip_suffix('.').unwrap_or(host)
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem: &str| PatternError::new("a host pattern", text, problem);
        let (name, wildcard) = match text.strip_prefix('*') {
            Some(rest) if rest.len() > 1 && rest.starts_with('.') => (rest, true),
            Some(_) => return Err(error("a wildcard is `*.` and a name")),
            None => (text, false),
        };
        let is_address = name.starts_with('[') && name.ends_with(']');
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if name.is_empty() || name.len() > HOST_LIMIT {
            return Err(error("a host has 1 to 253 characters"));
        }
        if name.contains('*') {
            return Err(error("`*` stands only at the beginning, before a dot"));
        }
        if name.contains(':') && !is_address {
            return Err(error("a host is written without its port"));
        }
        if !is_address && (!name.bytes().all(allowed) || name.contains("..") || name.ends_with('.'))
        {
            return Err(error("it is not a host's name"));
        }
        Ok(Self {
            name: name.to_ascii_lowercase().into(),
            wildcard,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            f.write_str("*")?;
        }
        f.write_str(&self.name)
    }
}

string_form!(
    HostPattern,
    "a host without its port, exact or `*.` and a suffix"
);

/// A protocol that HTTP/1.1 can switch to, in lower case: `websocket`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upgrade(Box<str>);

impl FromStr for Upgrade {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem| PatternError::new("an upgrade that a rule can name", text, problem);
        let name = text.to_ascii_lowercase();
        if !is_token(&name) || name.len() > TOKEN_LIMIT || name.contains('*') {
            return Err(error("it is not a protocol's name, such as `websocket`"));
        }
        if name == "h2c" {
            return Err(error("sidecars always remove it"));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(
    Upgrade,
    "a protocol that a request may switch to: `websocket`"
);

const TOKEN_LIMIT: usize = 64;
const HOST_LIMIT: usize = 253;
const KNOWN_METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
];
