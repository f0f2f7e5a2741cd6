//! What the store keeps beside the public API's own messages.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_wire::v1;

/// The endpoints that one sidecar offers. Durable, so that a restarted control plane does not announce emptiness;
/// each endpoint carries its own `lease_expires`.
pub type StoredEndpoints = Vec<v1::CatalogEndpoint>;

/// [`StoredEndpoints`] with whose they are.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedEndpoints {
    /// The SPIFFE ID that registered them.
    pub owner: String,
    pub instance: String,
    pub endpoints: StoredEndpoints,
}

/// Something that is no longer trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revocation {
    pub target: RevocationTarget,
    /// The SPIFFE ID that it concerns; `None` when a serial is not one of ours.
    pub identity: Option<String>,
    /// Hex serials that are refused because of this: a serial itself, or every live one of a lineage.
    pub serials: Vec<String>,
    pub reason: String,
    pub actor: String,
    pub at: Timestamp,
    /// When the last of `serials` has expired and this can be forgotten; `None`: never.
    pub expires: Option<Timestamp>,
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevocationTarget {
    /// A SPIFFE ID: all its SVIDs, and any that it would ask for.
    Identity(String),
    Lineage(String),
    /// Hex, without leading zeroes.
    Serial(String),
}

impl RevocationTarget {
    pub(crate) fn key(&self) -> String {
        match self {
            RevocationTarget::Identity(id) => format!("identity/{id}"),
            RevocationTarget::Lineage(id) => format!("lineage/{id}"),
            RevocationTarget::Serial(serial) => format!("serial/{serial}"),
        }
    }
}

/// One line of the audit record, before it has its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub time: Timestamp,
    /// The SPIFFE ID that acted; `uid:<n>` on the Unix socket; empty: unknown.
    pub actor: String,
    /// `apply`, `delete`, `attest`, `renew`, `revoke`, `token.create`, `login`, `register`, `call`.
    pub action: &'static str,
    /// The resource, identity or service concerned.
    pub subject: String,
    pub outcome: Outcome,
    pub detail: String,
}

/// How an audited action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    Refused,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Refused => "refused",
        }
    }
}
