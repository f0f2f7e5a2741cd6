//! What is judged and what comes of it.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_identity::DnsLabel;

use crate::{rule::Rule, sources::Source};

/// A connection to a port of the set's service.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    pub source: Source<'a>,
    pub port: &'a DnsLabel,
    /// Whether either end is under Quarantine.
    pub quarantined: bool,
}

/// One HTTP request, in the terms that rules have.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    pub method: &'a str,
    /// As on the wire, without the query. For CONNECT: empty, or the path of an extended CONNECT.
    pub path: &'a str,
    /// `Host` or `:authority`; the caller has refused a request in which they disagree.
    pub authority: Option<&'a str>,
    pub headers: &'a dyn HeaderLookup,
    /// The value of `Upgrade`, if the request asks to switch protocols.
    pub upgrade: Option<&'a str>,
    /// CONNECT or extended CONNECT.
    pub connect: bool,
}

impl fmt::Debug for HttpRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("authority", &self.authority)
            .field("upgrade", &self.upgrade)
            .field("connect", &self.connect)
            .finish_non_exhaustive()
    }
}

pub trait HeaderLookup {
    /// `name` is in lower case.
    fn lookup(&self, name: &str) -> HeaderValue<'_>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    Absent,
    One(&'a [u8]),
    /// More than one field of that name.
    Many,
}

/// A request without headers.
#[derive(Debug, Clone, Copy)]
pub struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn lookup(&self, _name: &str) -> HeaderValue<'_> {
        HeaderValue::Absent
    }
}

/// Headers as a list, for tests and questions; names in any case.
impl HeaderLookup for [(String, String)] {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        let mut values = self
            .iter()
            // most often it is spelled as asked for, and to compare that takes less
            .filter(|(other, _)| other == name || other.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => HeaderValue::Absent,
            (Some((_, value)), None) => HeaderValue::One(value.as_bytes()),
            (Some(_), Some(_)) => HeaderValue::Many,
        }
    }
}

impl HeaderLookup for Vec<(String, String)> {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        self.as_slice().lookup(name)
    }
}

/// What is decided before any byte of the connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionVerdict<'s> {
    /// By a rule without HTTP conditions.
    Allow(&'s Arc<Rule>),
    /// Only rules with HTTP conditions match: each request decides.
    NeedsHttp,
    /// No rule allows it, for that reason; it passes because its namespace learns.
    Learn(Reason),
    Deny(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'s> {
    Allow(&'s Arc<Rule>),
    /// No rule allows it, for that reason; it passes because its namespace learns.
    Learn(Reason),
    Deny(Reason),
}

/// Why something was refused. The evaluator gives the first five; the rest are the sidecar's own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// No Allow in force matches.
    NoRule,
    Quarantined,
    /// The path is not in canonical form where a rule has path conditions.
    PathNotCanonical,
    /// The message is malformed or ambiguous.
    Malformed,
    /// An upgrade or CONNECT that no rule names.
    UpgradeNotAllowed,
    Revoked,
    /// The named target is not served here.
    UnknownTarget,
    /// `Host` is the mesh name of another service; or `Host`, or the server name of TLS, is none of an external service.
    Misdirected,
    /// An opaque protocol on a port declared HTTP.
    WrongProtocol,
    /// The policy for the service could not be read.
    PolicyUnreadable,
    /// No view, or a view older than `maxStale`.
    Stale,
    /// The handshake failed.
    Unauthenticated,
    /// The name of an external service leads to an address that it may not lead to.
    ForbiddenAddress,
}

impl Reason {
    /// As written in documents, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "noRule",
            Self::Quarantined => "quarantined",
            Self::PathNotCanonical => "pathNotCanonical",
            Self::Malformed => "malformed",
            Self::UpgradeNotAllowed => "upgradeNotAllowed",
            Self::Revoked => "revoked",
            Self::UnknownTarget => "unknownTarget",
            Self::Misdirected => "misdirected",
            Self::WrongProtocol => "wrongProtocol",
            Self::PolicyUnreadable => "policyUnreadable",
            Self::Stale => "stale",
            Self::Unauthenticated => "unauthenticated",
            Self::ForbiddenAddress => "forbiddenAddress",
        }
    }

    /// Whether the request itself is at fault (400), whoever sent it.
    pub fn is_bad_request(self) -> bool {
        matches!(self, Self::PathNotCanonical | Self::Malformed)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The parts of a rule that can fail to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    Source,
    Port,
    /// HTTP conditions on a connection that is not HTTP.
    Protocol,
    /// HTTP conditions on a CONNECT.
    Connect,
    Method,
    Path,
    Host,
    Header,
    Upgrade,
    Expired,
    Audit,
}

impl Condition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Connect => "connect",
            Self::Method => "method",
            Self::Path => "path",
            Self::Host => "host",
            Self::Header => "header",
            Self::Upgrade => "upgrade",
            Self::Expired => "expired",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
