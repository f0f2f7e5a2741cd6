//! The documents `Allow` and `Quarantine`, as people write them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use weft_identity::{DnsLabel, WorkloadName};

use crate::{
    address::AddressRange,
    http::HttpCondition,
    lists::{Match, NonEmpty},
    rule::Mode,
    source::SourcePattern,
};

/// The kinds as documents name them.
pub const ALLOW: &str = "Allow";
pub const QUARANTINE: &str = "Quarantine";

/// Lets named sources reach a service: `from`, `fromAddresses` or both say which. Rules only add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["from"]}, {"required": ["fromAddresses"]}]))]
pub struct AllowSpec {
    /// What may be reached.
    pub to: Destination,
    /// Workloads that may reach it, as the handshake verifies them.
    #[serde(
        default,
        deserialize_with = "stated",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "NonEmpty<SourcePattern>")]
    pub from: Option<NonEmpty<SourcePattern>>,
    /// Where plaintext may come from that may reach it: ranges, `10.1.0.0/16`, or single addresses. Never matches a workload with a
    /// verified identity. No sidecar accepts plaintext yet, so that this lets nothing in.
    #[serde(
        default,
        deserialize_with = "stated",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "NonEmpty<AddressRange>")]
    pub from_addresses: Option<NonEmpty<AddressRange>>,
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

/// A list that is named is there: `from:` with nothing behind it is an error, as an empty list is.
fn stated<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
