//! The model: one `Allow` as the evaluator reads it, and a `Quarantine`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_identity::{
    DnsLabel, RuleName, ServiceName, SpiffeId, TrustDomain, WorkloadName,
    document::{Document, Metadata},
};

use crate::{
    documents::{AllowSpec, Destination, QuarantineSpec},
    http::HttpCondition,
    lists::{Match, NonEmpty},
    sources::{Source, Sources},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub name: RuleName,
    /// In the rule's own namespace.
    pub service: ServiceName,
    pub ports: Match<DnsLabel>,
    pub from: Sources,
    pub http: Match<HttpCondition>,
    pub expires: Option<Timestamp>,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    #[default]
    Enforce,
    /// Matched and logged, grants nothing.
    Audit,
}

impl Mode {
    pub fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }
}

/// What the types of a rule cannot refuse by themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("metadata.namespace: missing; an {kind} stands in a namespace")]
    NoNamespace { kind: &'static str },
    #[error(
        "spec.http[{index}]: a condition must state something; leave `http` out where it means everything"
    )]
    EmptyCondition { index: usize },
    #[error("spec.from: missing; a rule names who may call, in `from` or `fromAddresses`")]
    NoSource,
    #[error("spec.to.service: `{service}` is not in the rule's own namespace")]
    ForeignNamespace { service: ServiceName },
}

impl Rule {
    pub fn from_document(document: &Document<AllowSpec>) -> Result<Self, RuleError> {
        let Document { metadata, spec } = document;
        let namespace = namespace_of(metadata, "Allow")?;
        let rule = Self {
            name: RuleName {
                namespace: namespace.clone(),
                name: metadata.name.clone(),
            },
            service: ServiceName {
                namespace,
                name: spec.to.service.clone(),
            },
            ports: spec.to.ports.clone(),
            from: Sources::new(in_full(&spec.from), in_full(&spec.from_addresses))
                .ok_or(RuleError::NoSource)?,
            http: spec.http.clone(),
            expires: spec.expires,
            mode: spec.mode,
        };
        rule.check()?;
        Ok(rule)
    }

    /// For those who build a rule otherwise: what [`Rule::from_document`] checks.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.service.namespace != self.name.namespace {
            return Err(RuleError::ForeignNamespace {
                service: self.service.clone(),
            });
        }
        match self.http.listed().iter().position(HttpCondition::is_empty) {
            Some(index) => Err(RuleError::EmptyCondition { index }),
            None => Ok(()),
        }
    }

    /// The document that this rule is; labels are not part of a rule.
    pub fn to_document(&self) -> Document<AllowSpec> {
        Document {
            metadata: Metadata {
                name: self.name.name.clone(),
                namespace: Some(self.name.namespace.clone()),
                labels: Default::default(),
            },
            spec: AllowSpec {
                to: Destination {
                    service: self.service.name.clone(),
                    ports: self.ports.clone(),
                },
                from: NonEmpty::new(self.from.identities().to_vec()),
                from_addresses: NonEmpty::new(self.from.addresses().to_vec()),
                http: self.http.clone(),
                expires: self.expires,
                mode: self.mode,
            },
        }
    }

    /// Whether it names this verified identity.
    pub fn matches_source(&self, source: &SpiffeId, trust_domain: &TrustDomain) -> bool {
        self.from.matches(Source::Identity(source), trust_domain)
    }

    pub fn matches_port(&self, port: &DnsLabel) -> bool {
        self.ports.admits(|listed| listed == port)
    }

    /// The rule with only those source patterns that match `source`, and no addresses: all that its sidecar needs to know.
    pub fn narrowed_to(&self, source: &SpiffeId, trust_domain: &TrustDomain) -> Option<Self> {
        let from = self
            .from
            .identities()
            .iter()
            .filter(|pattern| pattern.matches(source, trust_domain))
            .cloned()
            .collect();
        Some(Self {
            from: Sources::new(from, Vec::new())?,
            ..self.clone()
        })
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it can grant anything at this time.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.mode == Mode::Enforce && !self.is_expired(now)
    }
}

/// Cuts one workload off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    pub name: RuleName,
    pub workload: WorkloadName,
    pub reason: String,
}

impl Quarantine {
    pub fn from_document(document: &Document<QuarantineSpec>) -> Result<Self, RuleError> {
        let Document { metadata, spec } = document;
        Ok(Self {
            name: RuleName {
                namespace: namespace_of(metadata, "Quarantine")?,
                name: metadata.name.clone(),
            },
            workload: spec.workload.clone(),
            reason: spec.reason.clone(),
        })
    }

    pub fn to_document(&self) -> Document<QuarantineSpec> {
        Document {
            metadata: Metadata {
                name: self.name.name.clone(),
                namespace: Some(self.name.namespace.clone()),
                labels: Default::default(),
            },
            spec: QuarantineSpec {
                workload: self.workload.clone(),
                reason: self.reason.clone(),
            },
        }
    }
}

fn namespace_of(metadata: &Metadata, kind: &'static str) -> Result<DnsLabel, RuleError> {
    metadata
        .namespace
        .clone()
        .ok_or(RuleError::NoNamespace { kind })
}

/// A list that is absent names nobody.
fn in_full<T: Clone>(list: &Option<NonEmpty<T>>) -> Vec<T> {
    list.iter().flatten().cloned().collect()
}

/// The newest schema of security messages that this code understands: 2 knows learn mode, 3 external services, 4 addresses of
/// plaintext sources.
pub const SCHEMA: u32 = 4;

/// The schema that a reader must understand to let a namespace learn.
pub const LEARN_SCHEMA: u32 = 2;

/// The schema that a reader must understand to tell a rule's addresses from nobody.
pub const ADDRESSES_SCHEMA: u32 = 4;

/// The schema that a reader must understand to enforce this rule.
pub fn required_schema(rule: &Rule) -> u32 {
    if rule.from.addresses().is_empty() {
        1
    } else {
        ADDRESSES_SCHEMA
    }
}
