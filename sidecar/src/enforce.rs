//! Asks policy, and is the only place that makes a [`Permit`].
//!
//! Every question is put to one [`Enforced`] and one time, so that a verdict never mixes two revisions. What is stale, unreadable,
//! revoked or quarantined is refused before any rule is looked at.

mod answer;
mod target;

use jiff::Timestamp;
use weft_catalog::HostName;
use weft_identity::{
    DnsLabel, RuleName, ServiceName, ServicePort, SpiffeId, Verified, split_mesh_host,
};
use weft_policy::{
    Connection, ConnectionVerdict, HttpRequest, PolicySet, Reason, Source, Verdict, host_of,
};

pub use self::answer::{Admission, Permit, Refusal};
use self::target::port_named;
pub use self::target::{Target, admit_port, inbound_target};
use crate::external;
use crate::view::Enforced;

/// Which end of the connection this sidecar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The workload calls: refused early, for a clear answer.
    Client,
    /// The workload is called: the authority.
    Server,
}

/// Who wants to reach what, and which end of it this sidecar is.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    pub side: Side,
    pub source: &'a SpiffeId,
    pub target: &'a ServicePort,
}

/// Whether this peer may be spoken with at all. Asked after every handshake, full or resumed, in both roles.
pub fn admit_peer(enforced: &Enforced, peer: &Verified) -> Result<(), Refusal> {
    if enforced.stale {
        return Err(Refusal::new(Reason::Stale));
    }
    if enforced.revocations_unreadable {
        return Err(Refusal::new(Reason::PolicyUnreadable).because("the revocations"));
    }
    if enforced.revocations.is_revoked(peer) {
        return Err(Refusal::new(Reason::Revoked));
    }
    if enforced.revocations.is_quarantined(&peer.id) {
        return Err(Refusal::new(Reason::Quarantined));
    }
    Ok(())
}

/// The verdict about a connection before any of its bytes.
pub fn admit_connection(enforced: &Enforced, parties: Parties<'_>, now: Timestamp) -> Admission {
    let (policy, connection) = match prepare(enforced, parties) {
        Ok(prepared) => prepared,
        Err(refusal) => return Admission::Deny(refusal),
    };
    match policy.decide_connection(&connection, now) {
        ConnectionVerdict::Allow(rule) => Admission::Allow(Permit::by(rule, enforced.revision)),
        ConnectionVerdict::NeedsHttp => Admission::NeedsHttp,
        ConnectionVerdict::Learn(reason) => {
            Admission::Allow(Permit::learned(reason, enforced.revision))
        }
        ConnectionVerdict::Deny(reason) => Admission::Deny(Refusal::new(reason)),
    }
}

/// The verdict about a connection of bytes, on which nothing can meet HTTP conditions.
pub fn admit_bytes(
    enforced: &Enforced,
    parties: Parties<'_>,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    let (policy, connection) = prepare(enforced, parties)?;
    permit(policy.decide_bytes(&connection, now), enforced.revision)
}

/// The verdict about one request.
pub fn admit_request(
    enforced: &Enforced,
    parties: Parties<'_>,
    request: &HttpRequest<'_>,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    let (policy, connection) = prepare(enforced, parties)?;
    if let Err(misdirected) = check_authority(enforced, parties, request.authority) {
        // Who may not call at all is told the same whatever service it asked for.
        return Err(match policy.decide_connection(&connection, now) {
            ConnectionVerdict::Deny(reason) => Refusal::new(reason),
            ConnectionVerdict::Allow(_)
            | ConnectionVerdict::NeedsHttp
            | ConnectionVerdict::Learn(_) => misdirected,
        });
    }
    let verdict = policy.decide_request(&connection, request, now);
    permit(verdict, enforced.revision)
}

fn permit(verdict: Verdict<'_>, revision: u64) -> Result<Permit, Refusal> {
    match verdict {
        Verdict::Allow(rule) => Ok(Permit::by(rule, revision)),
        Verdict::Learn(reason) => Ok(Permit::learned(reason, revision)),
        Verdict::Deny(reason) => Err(Refusal::new(reason)),
    }
}

/// The verdict about a CONNECT behind which requests are judged one by one: the host that they are for, if any might be allowed.
pub fn admit_inside(
    enforced: &Enforced,
    parties: Parties<'_>,
    authority: Option<&str>,
    now: Timestamp,
) -> Result<HostName, Refusal> {
    match admit_connection(enforced, parties, now) {
        Admission::Allow(_) | Admission::NeedsHttp => {}
        Admission::Deny(refusal) => return Err(refusal),
    }
    let outside = external::port(enforced, parties.target);
    let outside = outside.ok_or_else(|| Refusal::new(Reason::WrongProtocol))?;
    outside.host(authority)
}

/// The rules in Audit mode that match, for those who watch them. Without a request, those that need none.
pub fn audit_matches(
    enforced: &Enforced,
    parties: Parties<'_>,
    request: Option<&HttpRequest<'_>>,
    now: Timestamp,
    mut note: impl FnMut(&RuleName),
) {
    if let Ok((policy, connection)) = prepare(enforced, parties) {
        policy
            .audit_matches(&connection, request, now)
            .for_each(|rule| note(&rule.name));
    }
}

/// What must hold before any rule is asked, and the policy to ask.
fn prepare<'a>(
    enforced: &'a Enforced,
    parties: Parties<'a>,
) -> Result<(&'a PolicySet, Connection<'a>), Refusal> {
    let Parties {
        side,
        source,
        target,
    } = parties;
    if enforced.stale {
        return Err(Refusal::new(Reason::Stale));
    }
    if enforced.revocations_unreadable {
        return Err(Refusal::new(Reason::PolicyUnreadable).because("the revocations"));
    }
    let revocations = &enforced.revocations;
    if [source, &enforced.own_id]
        .iter()
        .any(|id| revocations.identities.contains(*id))
    {
        return Err(Refusal::new(Reason::Revoked));
    }
    let unreadable = match side {
        Side::Client => &enforced.unreadable_outbound,
        Side::Server => &enforced.unreadable_inbound,
    };
    if unreadable.contains(&target.service) {
        return Err(Refusal::new(Reason::PolicyUnreadable));
    }
    let quarantined = revocations.is_quarantined(source)
        || revocations.is_quarantined(&enforced.own_id)
        || (side == Side::Client && is_cut_off(enforced, &target.service));
    let connection = Connection {
        source: Source::Identity(source),
        port: &target.port,
        quarantined,
    };
    // Unknown and forbidden services answer alike to a client.
    let policy = match side {
        Side::Client => enforced
            .outbound
            .get(&target.service)
            .filter(|service| port_named(&service.view.ports, &target.port).is_some())
            .map(|service| &service.policy)
            .ok_or_else(|| {
                Refusal::new(if quarantined {
                    Reason::Quarantined
                } else {
                    Reason::NoRule
                })
            })?,
        Side::Server => enforced
            .inbound
            .get(&target.service)
            .filter(|service| port_named(&service.view.ports, &target.port).is_some())
            .map(|service| &service.policy)
            .ok_or_else(|| Refusal::new(Reason::UnknownTarget))?,
    };
    Ok((policy, connection))
}

/// Whether everyone who could answer for the service is under Quarantine.
fn is_cut_off(enforced: &Enforced, service: &ServiceName) -> bool {
    let revocations = &enforced.revocations;
    if revocations.quarantined.is_empty() {
        return false;
    }
    enforced.outbound.get(service).is_some_and(|service| {
        let endpoints = &service.view.endpoints;
        !endpoints.is_empty()
            && endpoints
                .iter()
                .all(|endpoint| revocations.is_quarantined(&endpoint.identity))
    })
}

/// Whether the request's host is one that the target may be asked for.
fn check_authority(
    enforced: &Enforced,
    parties: Parties<'_>,
    authority: Option<&str>,
) -> Result<(), Refusal> {
    let outside = match parties.side {
        Side::Client => external::port(enforced, parties.target),
        Side::Server => None,
    };
    match (outside, authority) {
        (Some(outside), authority) => outside.host(authority).map(|_| ()),
        (None, Some(authority)) => check_host(enforced, authority, &parties.target.service),
        (None, None) => Ok(()),
    }
}

/// A `Host` that is the mesh name of another service is misdirected (RFC 9110 §15.5.20); any other passes unchanged.
fn check_host(enforced: &Enforced, authority: &str, service: &ServiceName) -> Result<(), Refusal> {
    let host = host_of(authority);
    let Some((name, namespace)) = split_mesh_host(host, &enforced.trust_domain) else {
        return Ok(());
    };
    let is = |label: &DnsLabel, text: &str| label.as_str().eq_ignore_ascii_case(text);
    if is(&service.name, name) && is(&service.namespace, namespace) {
        return Ok(());
    }
    // `example.com` has the form of a mesh name too; it is one only if the mesh has such a namespace.
    let is_full = name.len() + 1 + namespace.len() < host.trim_end_matches('.').len();
    if is_full || enforced.knows_namespace(|known| is(known, namespace)) {
        return Err(Refusal::new(Reason::Misdirected));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
