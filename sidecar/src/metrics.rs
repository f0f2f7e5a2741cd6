//! Every metric of the sidecar, with its name. No label is fed by a peer.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weft_policy::Reason;

use crate::enforce::Permit;

/// Shared counters; each field's doc is what the registry says of it.
#[derive(Default)]
pub struct Metrics {
    /// Refusals by reason.
    pub refusals: Family<ReasonLabel, Counter>,
    /// Refusals that were forgotten before they were reported.
    pub decisions_dropped: Counter,
    /// Flows that were reported.
    pub flows_reported: Counter,
    /// Requests and connections that are in no flow, for want of room.
    pub flows_dropped: Counter,
    /// Requests whose flow tells their path or host less exactly, for want of room.
    pub flows_folded: Counter,
    /// Flows that are kept apart.
    pub flows_kept: Gauge,
    /// Connections of bytes that the sidecar at the other end refused.
    pub refused_by_peer: Counter,
    /// Live connections and requests that a change of policy cut.
    pub cut: Counter,
    /// The revision that is enforced.
    pub enforced_revision: Gauge,
    /// 1 while the control plane is heard.
    pub control_plane_connected: Gauge,
    /// Responses that were acknowledged.
    pub discovery_acks: Counter,
    /// Responses that held something unreadable.
    pub discovery_nacks: Counter,
    /// 1 while everything is denied because no control plane was heard for too long, or none yet.
    pub stale: Gauge,
    /// SVIDs that replaced another.
    pub renewals: Counter,
    /// Renewals that failed and are tried again.
    pub renewal_failures: Counter,
    /// When the own SVID ends, in seconds since 1970.
    pub svid_not_after: Gauge,
    /// Connections that listeners accepted, by listener.
    pub accepted: Family<ListenerLabel, Counter>,
    /// Connections that a listener did not take because its limit was reached.
    pub over_limit: Family<ListenerLabel, Counter>,
    /// Connections that are open, by listener.
    pub open: Family<ListenerLabel, Gauge>,
    /// Inbound handshakes that failed.
    pub handshake_failures: Counter,
    /// Requests that were forwarded, by side.
    pub requests: Family<SideLabel, Counter>,
    /// What no rule allows and learn mode let pass, by the reason for which it would have been refused.
    pub learned: Family<ReasonLabel, Counter>,
    /// What rules in Audit mode matched, by rule: an operator's names, never a peer's.
    pub audit_matches: Family<RuleLabel, Counter>,
    /// Endpoints that could not be used and were passed over.
    pub endpoint_failures: Counter,
    /// Requests that began on a mesh connection after one of its SVIDs had expired. Inbound they are refused, outbound they take
    /// another connection; the pool and the drain before expiry keep it at zero.
    pub requests_on_expired_connection: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    pub listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SideLabel {
    pub side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabel {
    pub rule: String,
}

impl Metrics {
    /// Counts what passes by learn mode alone.
    pub fn note_learned(&self, permit: &Permit) {
        if let Some(reason) = permit.learned_for() {
            self.learned.get_or_create(&ReasonLabel::of(reason)).inc();
        }
    }

    /// Enters every metric into a new registry.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("weft");
        registry.register(
            "requests_on_expired_connection",
            "Requests that began on a mesh connection with an expired SVID; refused, or sent over another",
            self.requests_on_expired_connection.clone(),
        );
        let r = registry.sub_registry_with_prefix("flows");
        r.register(
            "reported",
            "Flows reported to the control plane",
            self.flows_reported.clone(),
        );
        r.register(
            "dropped",
            "Requests and connections that are in no flow, for want of room",
            self.flows_dropped.clone(),
        );
        r.register(
            "folded",
            "Requests whose flow tells their path or host less exactly, for want of room",
            self.flows_folded.clone(),
        );
        r.register("kept", "Flows that are kept apart", self.flows_kept.clone());
        let r = registry.sub_registry_with_prefix("sidecar");
        r.register("refusals", "Refusals by reason", self.refusals.clone());
        r.register(
            "decisions_dropped",
            "Refusals forgotten before they were reported",
            self.decisions_dropped.clone(),
        );
        r.register(
            "refused_by_peer",
            "Connections of bytes that the sidecar at the other end refused",
            self.refused_by_peer.clone(),
        );
        r.register(
            "cut",
            "Live connections and requests cut by a change of policy",
            self.cut.clone(),
        );
        r.register(
            "enforced_revision",
            "The revision that is enforced",
            self.enforced_revision.clone(),
        );
        r.register(
            "control_plane_connected",
            "1 while the control plane is heard",
            self.control_plane_connected.clone(),
        );
        r.register(
            "discovery_acks",
            "Discovery responses acknowledged",
            self.discovery_acks.clone(),
        );
        r.register(
            "discovery_nacks",
            "Discovery responses with something unreadable",
            self.discovery_nacks.clone(),
        );
        r.register(
            "stale",
            "1 while everything is denied for want of a recent view",
            self.stale.clone(),
        );
        r.register("renewals", "SVIDs renewed", self.renewals.clone());
        r.register(
            "renewal_failures",
            "Renewals that failed and are tried again",
            self.renewal_failures.clone(),
        );
        r.register(
            "svid_not_after_seconds",
            "When the own SVID ends, since 1970",
            self.svid_not_after.clone(),
        );
        r.register(
            "accepted",
            "Connections accepted, by listener",
            self.accepted.clone(),
        );
        r.register(
            "over_limit",
            "Connections not taken at a listener's limit",
            self.over_limit.clone(),
        );
        r.register("open", "Open connections, by listener", self.open.clone());
        r.register(
            "handshake_failures",
            "Inbound handshakes that failed",
            self.handshake_failures.clone(),
        );
        r.register(
            "requests",
            "Requests forwarded, by side",
            self.requests.clone(),
        );
        r.register(
            "learned",
            "What learn mode let pass, by the reason for which it would have been refused",
            self.learned.clone(),
        );
        r.register(
            "audit_matches",
            "Matches of rules in Audit mode, by rule",
            self.audit_matches.clone(),
        );
        r.register(
            "endpoint_failures",
            "Endpoints passed over",
            self.endpoint_failures.clone(),
        );
        registry
    }
}

impl ReasonLabel {
    pub fn of(reason: Reason) -> Self {
        let reason = match reason {
            Reason::NoRule => "no_rule",
            Reason::Quarantined => "quarantined",
            Reason::Revoked => "revoked",
            Reason::PathNotCanonical => "path_not_canonical",
            Reason::Malformed => "malformed",
            Reason::UnknownTarget => "unknown_target",
            Reason::Misdirected => "misdirected",
            Reason::WrongProtocol => "wrong_protocol",
            Reason::UpgradeNotAllowed => "upgrade_not_allowed",
            Reason::PolicyUnreadable => "policy_unreadable",
            Reason::Stale => "stale",
            Reason::Unauthenticated => "unauthenticated",
            Reason::ForbiddenAddress => "forbidden_address",
        };
        Self { reason }
    }
}
