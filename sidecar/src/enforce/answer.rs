//! What policy answers: a [`Permit`], which only this module's parent makes, or a [`Refusal`].

use weft_identity::RuleName;
use weft_policy::{Reason, Rule};

use crate::flows::Judged;

/// Proof that policy was asked and allowed. Bytes reach an application only through functions that take one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    grounds: Grounds,
    revision: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Grounds {
    Rule(RuleName),
    /// No rule, for that reason: the namespace learns.
    Learned(Reason),
}

/// The verdict about a connection.
#[derive(Debug)]
pub enum Admission {
    /// Its bytes may pass.
    Allow(Permit),
    /// Only its requests can be judged, one by one.
    NeedsHttp,
    Deny(Refusal),
}

/// Why something may not pass, and how an HTTP client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused: {reason:?} {detail}")]
pub struct Refusal {
    pub reason: Reason,
    /// 400, 403, 421 or 503.
    pub status: u16,
    /// For operators; holds no user data.
    pub detail: String,
}

impl Permit {
    pub(super) fn by(rule: &Rule, revision: u64) -> Self {
        Self {
            grounds: Grounds::Rule(rule.name.clone()),
            revision,
        }
    }

    pub(super) fn learned(reason: Reason, revision: u64) -> Self {
        Self {
            grounds: Grounds::Learned(reason),
            revision,
        }
    }

    /// What was judged, as flows record it.
    pub fn judged(&self) -> Judged<'_> {
        match &self.grounds {
            Grounds::Rule(rule) => Judged::Allowed(rule),
            Grounds::Learned(reason) => Judged::Learned(*reason),
        }
    }

    /// The rule that allowed; `None`: it was learned.
    pub fn rule(&self) -> Option<&RuleName> {
        match &self.grounds {
            Grounds::Rule(rule) => Some(rule),
            Grounds::Learned(_) => None,
        }
    }

    /// Why no rule allows it, where learn mode alone let it pass.
    pub fn learned_for(&self) -> Option<Reason> {
        match &self.grounds {
            Grounds::Rule(_) => None,
            Grounds::Learned(reason) => Some(*reason),
        }
    }

    /// The revision that it was judged at.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl Refusal {
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            status: status_of(reason),
            detail: String::new(),
        }
    }

    #[must_use]
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

fn status_of(reason: Reason) -> u16 {
    match reason {
        Reason::NoRule
        | Reason::Quarantined
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::WrongProtocol
        | Reason::UpgradeNotAllowed
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => 403,
        Reason::PathNotCanonical | Reason::Malformed => 400,
        Reason::Misdirected => 421,
        Reason::PolicyUnreadable | Reason::Stale => 503,
    }
}
