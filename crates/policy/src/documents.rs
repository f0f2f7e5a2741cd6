//! The documents `Allow` and `Quarantine`, as people write them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_identity::{DnsLabel, WorkloadName};

use crate::{
    http::HttpCondition,
    lists::{Match, NonEmpty},
    rule::Mode,
    source::SourcePattern,
};

/// The kinds as documents name them.
pub const ALLOW: &str = "Allow";
pub const QUARANTINE: &str = "Quarantine";

/// Lets named sources reach a service. Rules only add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowSpec {
    /// What may be reached.
    pub to: Destination,
    /// Who may reach it.
    pub from: NonEmpty<SourcePattern>,
    /// Conditions on requests, of which one must match; absent: everything on those ports.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    pub http: Match<HttpCondition>,
    /// From this time on the rule is no longer in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
    /// `Enforce`, or `Audit`: matched and logged, grants nothing.
    #[serde(default, skip_serializing_if = "Mode::is_enforce")]
    pub mode: Mode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// A service in the rule's own namespace.
    pub service: DnsLabel,
    /// Names of its ports; absent: all of them.
    #[serde(default, skip_serializing_if = "Match::is_any")]
    pub ports: Match<DnsLabel>,
}

/// Cuts everything to and from a workload at once; beats every `Allow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuarantineSpec {
    /// `namespace/name` of this trust domain.
    pub workload: WorkloadName,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
