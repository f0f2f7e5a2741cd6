//! Flows: traffic as it was judged, aggregated, in the terms that rules have.
//!
//! Invariant: a flow holds no value of a header, no query and no segment of a path that could be a secret.

use jiff::Timestamp;
use weft_identity::{RuleName, ServicePort, SpiffeId};

use crate::fold::FoldedPath;
use crate::header::HeaderCondition;
use crate::http::host_of;
use crate::pattern::is_token;
use crate::request::{HeaderLookup, HeaderValue, Reason};

/// Equal traffic, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub key: FlowKey,
    /// Connections, or requests where they were judged one by one.
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

/// What makes traffic equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// As verified.
    pub source: SpiffeId,
    pub target: ServicePort,
    /// `None`: a connection of bytes.
    pub request: Option<FlowRequest>,
    pub judged: Judged,
}

/// A request as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FlowRequest {
    pub method: Box<str>,
    pub host: FlowHost,
    /// `None`: a CONNECT, which has no path.
    pub path: Option<FoldedPath>,
    /// Conditions on headers that rules for the port had when the request was judged, in order, and how each came out. One that is
    /// not here was not looked at.
    pub headers: Vec<(HeaderCondition, HeaderSeen)>,
    /// The value of `Upgrade`, in lower case.
    pub upgrade: Option<Box<str>>,
    pub connect: bool,
}

/// The host that a request names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowHost {
    /// It names none.
    None,
    /// In lower case, without its port.
    Named(Box<str>),
    /// One of more than are kept apart: it may be any, or none.
    Folded,
}

/// How a condition on a header came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeaderSeen {
    Matched,
    /// The header was there once, with a value that does not match.
    Differed,
    Absent,
    /// It came more than once.
    Many,
}

/// What the verdict was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Judged {
    Allowed(RuleName),
    /// No rule allows it; it passed because its namespace is in learn mode.
    Learned(Reason),
    Denied(Reason),
}

/// Why a request is not recorded as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    #[error("a method is a token of at most {METHOD_LIMIT} characters")]
    Method,
    #[error(
        "a host is at most {HOST_LIMIT} visible ASCII characters in lower case, without a port"
    )]
    Host,
    #[error("an upgrade is at most {UPGRADE_LIMIT} visible ASCII characters in lower case")]
    Upgrade,
    #[error("at most {HEADER_LIMIT} conditions on headers are recorded")]
    Headers,
    #[error("only a CONNECT has no path")]
    Path,
}

impl FlowRequest {
    /// Whether each part is one that is recorded: bounded, and safe to show.
    pub fn check(&self) -> Result<(), FlowError> {
        if !is_method(&self.method) {
            return Err(FlowError::Method);
        }
        if let FlowHost::Named(host) = &self.host
            && !(is_host(host) && is_lower(host))
        {
            return Err(FlowError::Host);
        }
        if let Some(upgrade) = &self.upgrade
            && !(is_upgrade(upgrade) && is_lower(upgrade))
        {
            return Err(FlowError::Upgrade);
        }
        if self.headers.len() > HEADER_LIMIT {
            return Err(FlowError::Headers);
        }
        if self.path.is_none() && !self.connect {
            return Err(FlowError::Path);
        }
        Ok(())
    }
}

/// Whether a method is recorded; in whatever case, as it came.
pub fn is_method(text: &str) -> bool {
    text.len() <= METHOD_LIMIT && is_token(text)
}

/// Whether a host, without its port, is recorded by its name.
pub fn is_host(text: &str) -> bool {
    (1..=HOST_LIMIT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && host_of(text) == text
}

/// Whether a value of `Upgrade` is recorded.
pub fn is_upgrade(text: &str) -> bool {
    (1..=UPGRADE_LIMIT).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_lower(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

impl HeaderSeen {
    /// How `condition` comes out for these headers.
    pub fn of(condition: &HeaderCondition, headers: &dyn HeaderLookup) -> Self {
        match headers.lookup(condition.name.as_str()) {
            HeaderValue::Absent => Self::Absent,
            HeaderValue::Many => Self::Many,
            HeaderValue::One(value) if condition.test.admits(value) => Self::Matched,
            HeaderValue::One(_) => Self::Differed,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Differed => "differed",
            Self::Absent => "absent",
            Self::Many => "many",
        }
    }
}

/// Most conditions on headers that a flow tells of.
pub const HEADER_LIMIT: usize = 32;
const METHOD_LIMIT: usize = 32;
const HOST_LIMIT: usize = 253;
const UPGRADE_LIMIT: usize = 64;
