//! The verdicts: what the rules say, and what learn mode makes of their refusals.
//!
//! Invariant: learning never changes which rule allows. It lets pass only what the rules refuse, says for which reason they do, and ends
//! exactly when it is said to.

use jiff::Timestamp;

use crate::{
    request::{Connection, ConnectionVerdict, HttpRequest, Reason, Verdict},
    set::PolicySet,
    source::SourcePattern,
};

impl PolicySet {
    /// Decides about a connection before anything of it is read.
    pub fn decide_connection(
        &self,
        connection: &Connection<'_>,
        now: Timestamp,
    ) -> ConnectionVerdict<'_> {
        match self.judge_connection(connection, now) {
            ConnectionVerdict::Deny(reason) if self.learns(connection, reason, now) => {
                ConnectionVerdict::Learn(reason)
            }
            judged => judged,
        }
    }

    /// Decides about a connection into which nobody looks: nothing on it can meet HTTP conditions.
    pub fn decide_bytes(&self, connection: &Connection<'_>, now: Timestamp) -> Verdict<'_> {
        let reason = match self.judge_connection(connection, now) {
            ConnectionVerdict::Allow(rule) => return Verdict::Allow(rule),
            ConnectionVerdict::NeedsHttp => Reason::NoRule,
            ConnectionVerdict::Learn(reason) | ConnectionVerdict::Deny(reason) => reason,
        };
        self.learned_or_denied(connection, reason, now)
    }

    /// Decides about one request on a connection.
    pub fn decide_request(
        &self,
        connection: &Connection<'_>,
        request: &HttpRequest<'_>,
        now: Timestamp,
    ) -> Verdict<'_> {
        match self.judge_request(connection, request, now) {
            Verdict::Allow(rule) => Verdict::Allow(rule),
            Verdict::Learn(reason) | Verdict::Deny(reason) => {
                self.learned_or_denied(connection, reason, now)
            }
        }
    }

    /// When the next rule expires after `now`, or learning ends: the time to check live connections again.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let learning = self.learn_until().filter(|until| *until > now);
        learning.into_iter().chain(self.next_rule_expiry(now)).min()
    }

    fn learned_or_denied(
        &self,
        connection: &Connection<'_>,
        reason: Reason,
        now: Timestamp,
    ) -> Verdict<'_> {
        if self.learns(connection, reason, now) {
            Verdict::Learn(reason)
        } else {
            Verdict::Deny(reason)
        }
    }

    fn learns(&self, connection: &Connection<'_>, reason: Reason, now: Timestamp) -> bool {
        self.learn_until().is_some_and(|until| now < until)
            && is_lifted(reason)
            && connection
                .source
                .identity()
                .is_some_and(|id| SourcePattern::AnyLocal.matches(id, self.trust_domain()))
    }
}

/// Whether learning lifts a refusal for this reason: only those that rules give.
pub(crate) fn is_lifted(reason: Reason) -> bool {
    match reason {
        Reason::NoRule
        | Reason::PathNotCanonical
        | Reason::Malformed
        | Reason::UpgradeNotAllowed => true,
        Reason::Quarantined
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::PolicyUnreadable
        | Reason::Stale
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => false,
    }
}
