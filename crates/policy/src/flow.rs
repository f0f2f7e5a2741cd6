//! Flows: traffic as it was judged, aggregated, in the terms that rules have.
//!
//! Invariant: a flow holds no value of a header, no query and no segment of a path that could be a secret.

use jiff::Timestamp;
use weft_identity::{RuleName, ServicePort, SpiffeId};

use crate::fold::FoldedPath;
use crate::header::HeaderCondition;
use crate::request::Reason;

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
    /// In lower case, without its port; `None`: there was none.
    pub host: Option<Box<str>>,
    /// `None`: a CONNECT, which has no path.
    pub path: Option<FoldedPath>,
    /// Every condition on a header that a rule for the port had when the request was judged, in order, and how it came out.
    pub headers: Vec<(HeaderCondition, HeaderSeen)>,
    /// The value of `Upgrade`, in lower case.
    pub upgrade: Option<Box<str>>,
    pub connect: bool,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Judged {
    Allowed(RuleName),
    /// No rule allows it; it passed because its namespace is in learn mode.
    Learned(Reason),
    Denied(Reason),
}
