//! Asks policy, and is the only place that makes a [`Permit`].
//!
//! Every question is put to one [`Enforced`] and one time, so that a verdict never mixes two revisions. What is stale, unreadable,
//! revoked or quarantined is refused before any rule is looked at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use weft_catalog::{HostName, Port};
use weft_identity::{
    DnsLabel, RuleName, ServiceName, ServicePort, SpiffeId, Verified, parse_server_name,
    split_mesh_host,
};
use weft_policy::{
    Connection, ConnectionVerdict, HttpRequest, PolicySet, Reason, Rule, Source, Verdict, host_of,
};

use crate::config::Config;
use crate::connections::DeclaredPort;
use crate::external;
use crate::flows::Judged;
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

/// What an inbound connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub service: ServiceName,
    pub port: DnsLabel,
    pub declared: DeclaredPort,
    /// Where the application listens.
    pub app: SocketAddr,
}

impl Permit {
    fn by(rule: &Rule, revision: u64) -> Self {
        Self {
            grounds: Grounds::Rule(rule.name.clone()),
            revision,
        }
    }

    fn learned(reason: Reason, revision: u64) -> Self {
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

impl Target {
    pub fn service_port(&self) -> ServicePort {
        ServicePort {
            service: self.service.clone(),
            port: self.port.clone(),
        }
    }
}

/// The target of an inbound connection: what its SNI names, else the workload's only service port, else none.
pub fn inbound_target(
    enforced: &Enforced,
    config: &Config,
    server_name: Option<&str>,
) -> Result<Target, Refusal> {
    if enforced.stale {
        return Err(Refusal::new(Reason::Stale));
    }
    let (service, port) = match server_name {
        Some(name) => named_port(enforced, name)?,
        None => only_port(enforced)?,
    };
    let named = ServicePort {
        service: service.clone(),
        port: port.name.clone(),
    };
    let app = config.apps.get(&named).copied().unwrap_or(SocketAddr::new(
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        port.target_port,
    ));
    Ok(Target {
        service: named.service,
        port: named.port,
        declared: declared(port),
        app,
    })
}

/// Whether the port is declared as it was: what is no longer declared, or leads elsewhere now, is no longer reachable.
pub fn admit_port(
    enforced: &Enforced,
    target: &ServicePort,
    as_before: DeclaredPort,
) -> Result<(), Refusal> {
    let now = enforced
        .inbound
        .get(&target.service)
        .and_then(|offered| port_named(&offered.view.ports, &target.port));
    match now {
        Some(port) if declared(port) == as_before => Ok(()),
        Some(_) | None => Err(Refusal::new(Reason::UnknownTarget)),
    }
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

fn named_port<'a>(
    enforced: &'a Enforced,
    name: &str,
) -> Result<(&'a ServiceName, &'a Port), Refusal> {
    let unknown = || Refusal::new(Reason::UnknownTarget);
    let named = parse_server_name(name, &enforced.trust_domain).map_err(|_| unknown())?;
    if enforced.unreadable_inbound.contains(&named.service) {
        return Err(Refusal::new(Reason::PolicyUnreadable));
    }
    let (service, offered) = enforced
        .inbound
        .get_key_value(&named.service)
        .ok_or_else(unknown)?;
    let port = port_named(&offered.view.ports, &named.port).ok_or_else(unknown)?;
    Ok((service, port))
}

fn port_named<'p>(ports: &'p [Port], name: &DnsLabel) -> Option<&'p Port> {
    ports.iter().find(|port| port.name == *name)
}

fn declared(port: &Port) -> DeclaredPort {
    DeclaredPort {
        protocol: port.protocol,
        target_port: port.target_port,
    }
}

fn only_port(enforced: &Enforced) -> Result<(&ServiceName, &Port), Refusal> {
    let unknown =
        || Refusal::new(Reason::UnknownTarget).because("no server name, and no only port");
    // A service that cannot be read might have been a second one.
    if !enforced.unreadable_inbound.is_empty() {
        return Err(Refusal::new(Reason::PolicyUnreadable));
    }
    let mut ports = enforced
        .inbound
        .iter()
        .flat_map(|(service, offered)| offered.view.ports.iter().map(move |port| (service, port)));
    let only = ports.next().ok_or_else(unknown)?;
    match ports.next() {
        None => Ok(only),
        Some(_) => Err(unknown()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{id, received, received_learning, rule, target};
    use weft_policy::NoHeaders;

    fn enforced() -> Enforced {
        received(vec![rule("all", "  from: [shop/web]")]).enforced(false)
    }

    fn ask(enforced: &Enforced, authority: &str) -> Result<Permit, Refusal> {
        let request = HttpRequest {
            method: "GET",
            path: "/",
            authority: Some(authority),
            headers: &NoHeaders,
            upgrade: None,
            connect: false,
        };
        let source = id("shop/web");
        admit_request(
            enforced,
            Parties {
                side: Side::Server,
                source: &source,
                target: &target("http"),
            },
            &request,
            Timestamp::now(),
        )
    }

    #[test]
    fn row_03_a_host_that_is_another_services_mesh_name_is_misdirected_and_others_pass() {
        let enforced = enforced();
        for authority in [
            "api.shop",
            "api.shop:80",
            "API.Shop.weft.local.",
            "example.com",
            "127.0.0.1:9000",
            "[::1]:80",
        ] {
            assert_eq!(
                ask(&enforced, authority)
                    .map_err(|refusal| refusal.reason)
                    .err(),
                None,
                "{authority}"
            );
        }
        for authority in [
            "orders.shop",
            "ORDERS.shop:80",
            "orders.shop.weft.local",
            "a.unknown.weft.local",
        ] {
            let refusal = ask(&enforced, authority).unwrap_err();
            assert_eq!(
                (refusal.reason, refusal.status),
                (Reason::Misdirected, 421),
                "{authority}"
            );
        }
    }

    fn learning() -> Enforced {
        let until = Timestamp::now() + jiff::SignedDuration::from_hours(1);
        received_learning(Vec::new(), until).enforced(false)
    }

    #[test]
    fn sentences_51_and_54_learning_permits_without_a_rule_and_lifts_nothing_else() {
        let permit = ask(&learning(), "api.shop").unwrap();
        assert_eq!(permit.rule(), None);
        assert_eq!(permit.judged(), Judged::Learned(Reason::NoRule));
        let refused = |enforced: &Enforced, host: &str| ask(enforced, host).unwrap_err().reason;
        assert_eq!(refused(&learning(), "orders.shop"), Reason::Misdirected);
        let with = |change: &dyn Fn(&mut Enforced)| {
            let mut enforced = learning();
            change(&mut enforced);
            refused(&enforced, "api.shop")
        };
        let revocations = |e: &mut Enforced| std::sync::Arc::make_mut(&mut e.revocations).clone();
        assert_eq!(with(&|e| e.stale = true), Reason::Stale);
        assert_eq!(
            with(&|e| e.revocations_unreadable = true),
            Reason::PolicyUnreadable
        );
        assert_eq!(
            with(&|e| {
                let mut changed = revocations(e);
                changed.identities.insert(id("shop/web"));
                e.revocations = changed.into();
            }),
            Reason::Revoked
        );
        assert_eq!(
            with(&|e| {
                let mut changed = revocations(e);
                changed.quarantined.insert(id("shop/web"));
                e.revocations = changed.into();
            }),
            Reason::Quarantined
        );
        let web = id("shop/web");
        let unknown = Parties {
            side: Side::Server,
            source: &web,
            target: &target("other"),
        };
        let answer = admit_bytes(&learning(), unknown, Timestamp::now());
        assert_eq!(answer.unwrap_err().reason, Reason::UnknownTarget);
    }

    #[test]
    fn stale_denies_everything_whatever_the_rules() {
        let mut enforced = enforced();
        enforced.stale = true;
        let refusal = ask(&enforced, "api.shop").unwrap_err();
        assert_eq!((refusal.reason, refusal.status), (Reason::Stale, 503));
    }

    fn config(apps: &str) -> Config {
        let text = format!(
            "{{workload: shop/api, instance: a, trustDomain: weft.local, runtime: /r, inbound: {{listen: '127.0.0.1:0'}}, \
             controlPlane: {{api: 'x:1', attestation: 'x:2'}}, apps: {apps}}}"
        );
        Config::from_raw(serde_saphyr::from_str(&text).unwrap()).unwrap()
    }

    #[test]
    fn row_03_only_a_declared_port_that_the_server_name_names_is_a_target() {
        let enforced = enforced();
        let apps = "[{service: shop/api, port: raw, address: '127.0.0.2:7'}]";
        let found =
            inbound_target(&enforced, &config(apps), Some("http.api.shop.weft.local")).unwrap();
        assert_eq!(found.app.to_string(), "127.0.0.1:80");
        let found =
            inbound_target(&enforced, &config(apps), Some("raw.api.shop.weft.local")).unwrap();
        assert_eq!(found.app.to_string(), "127.0.0.2:7");
        for name in [
            Some("ssh.api.shop.weft.local"),
            Some("http.orders.shop.weft.local"),
            Some("http.api.shop.other.domain"),
            Some("api.shop"),
            None,
        ] {
            let refusal = inbound_target(&enforced, &config("[]"), name).unwrap_err();
            assert_eq!(refusal.reason, Reason::UnknownTarget, "{name:?}");
        }
    }
}
