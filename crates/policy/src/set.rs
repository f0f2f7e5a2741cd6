//! The compiled set: every rule of one service, by port, source, path and method.
//!
//! Invariants: immutable; a decision allocates nothing; among several rules that match, the first by name is the one named, so
//! that every evaluator names the same. Parts that an edit does not touch are shared with the set before it.
//!
//! Types that are `repr(C)` keep the order of their fields: what a decision reads first stands first, so that it shares cache lines
//! (docs/PERFORMANCE.md, Decisions). Another order would be slower, never wrong.

mod addresses;
mod alternatives;
mod edit;
mod form;
mod grants;
mod lasting;
mod methods;
mod paths;
mod peers;
mod port;
mod sources;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use smallvec::SmallVec;
use smol_str::SmolStr;
use weft_identity::{DnsLabel, RuleName, ServiceName, TrustDomain};

use self::{
    edit::Edit, grants::Grants, methods::Methods, peers::Matched, port::Port, sources::Part,
};
use crate::{
    canonical::EncodedSlashes,
    lists::Match,
    request::{Connection, ConnectionVerdict, HttpRequest, Reason, Verdict},
    rule::Rule,
};

/// Cheap to clone and share. Beside the rules stands until when the namespace learns.
#[derive(Debug, Clone)]
pub struct PolicySet(Arc<Compiled>, Option<Timestamp>);

#[derive(Debug)]
struct Compiled {
    trust_domain: TrustDomain,
    service: ServiceName,
    encoded_slashes: EncodedSlashes,
    /// Ports that some rule names, each with the rules for any port too. They lie here, a pointer less to follow: few services have more than three.
    named: SmallVec<[(SmolStr, Port); 3]>,
    /// For all other ports: the rules for any port.
    others: Port,
    /// By name.
    rules: Box<[Arc<Rule>]>,
}

impl PolicySet {
    /// Compiles the rules of one service; rules of other services are left out.
    pub fn compile(
        trust_domain: TrustDomain,
        service: &ServiceName,
        rules: impl IntoIterator<Item = Arc<Rule>>,
        encoded_slashes: EncodedSlashes,
    ) -> Self {
        let nothing = Arc::new(Compiled {
            trust_domain,
            service: service.clone(),
            encoded_slashes,
            named: SmallVec::new(),
            others: Port::default(),
            rules: Box::default(),
        });
        let nothing = Self(nothing, None);
        nothing.updated(rules, encoded_slashes)
    }

    /// What [`PolicySet::compile`] makes of these rules for the same service. Sources that they do not change keep what was compiled for them; only tables of pointers are made anew.
    pub fn updated(
        &self,
        rules: impl IntoIterator<Item = Arc<Rule>>,
        encoded_slashes: EncodedSlashes,
    ) -> Self {
        let old = &*self.0;
        let mut rules: Vec<_> = rules
            .into_iter()
            .filter(|rule| rule.service == old.service)
            .collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        let (edit, rules) = Edit::between(&old.rules, &rules);
        if edit.is_empty() && encoded_slashes == old.encoded_slashes {
            return self.clone();
        }
        let for_any_port = edit.only(|rule| rule.ports.is_any());
        let others = old.others.edited(&for_any_port, &old.trust_domain);
        let ports: BTreeSet<&DnsLabel> =
            rules.iter().flat_map(|rule| rule.ports.listed()).collect();
        let port = |name: &DnsLabel| match old.named_port(name) {
            Some(port) => {
                let edit = edit.only(|rule| rule.matches_port(name));
                port.edited(&edit, &old.trust_domain)
            }
            None => {
                let named = rules
                    .iter()
                    .filter(|rule| rule.ports.listed().contains(name));
                others.edited(&Edit::adding(named.cloned().collect()), &old.trust_domain)
            }
        };
        let named = ports
            .into_iter()
            .map(|name| (SmolStr::new(name), port(name)));
        let compiled = Compiled {
            trust_domain: old.trust_domain.clone(),
            service: old.service.clone(),
            encoded_slashes,
            named: named.collect(),
            others,
            rules: rules.into(),
        };
        Self(Arc::new(compiled), self.1)
    }

    /// The same rules in a namespace that learns until then; `None`: in a strict one.
    #[must_use]
    pub fn learning(self, until: Option<Timestamp>) -> Self {
        Self(self.0, until)
    }

    pub(crate) fn learn_until(&self) -> Option<Timestamp> {
        self.1
    }

    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// What the rules alone say about a connection before anything of it is read.
    pub(crate) fn judge_connection(
        &self,
        connection: &Connection<'_>,
        now: Timestamp,
    ) -> ConnectionVerdict<'_> {
        if connection.quarantined {
            return ConnectionVerdict::Deny(Reason::Quarantined);
        }
        let (_, grants) = self.grants(connection);
        let whole = grants.clone().filter_map(|grants| grants.whole(now));
        if let Some(rule) = whole.reduce(first_by_name) {
            return ConnectionVerdict::Allow(rule);
        }
        if grants.clone().any(|grants| grants.has_conditions(now)) {
            ConnectionVerdict::NeedsHttp
        } else {
            ConnectionVerdict::Deny(Reason::NoRule)
        }
    }

    /// What the rules alone say about one request on a connection.
    pub(crate) fn judge_request(
        &self,
        connection: &Connection<'_>,
        request: &HttpRequest<'_>,
        now: Timestamp,
    ) -> Verdict<'_> {
        if connection.quarantined {
            return Verdict::Deny(Reason::Quarantined);
        }
        let (port, grants) = self.grants(connection);
        if !grants.clone().any(|grants| grants.is_in_force(now)) {
            // before the request is looked at: who may not call learns nothing from how it is refused
            return Verdict::Deny(Reason::NoRule);
        }
        if let Some(reason) = port.form.ambiguity(request, self.0.encoded_slashes, now) {
            return Verdict::Deny(reason);
        }
        let method = Methods::one(request.method);
        let mut first: Option<&Arc<Rule>> = None;
        let mut but_upgrade = false;
        for grants in grants {
            let judged = grants.judge(request, method, now);
            first = match (first, judged.rule) {
                (Some(one), Some(other)) => Some(first_by_name(one, other)),
                (one, other) => one.or(other),
            };
            but_upgrade |= judged.but_upgrade;
        }
        match first {
            Some(rule) => Verdict::Allow(rule),
            None if but_upgrade => Verdict::Deny(Reason::UpgradeNotAllowed),
            None => Verdict::Deny(Reason::NoRule),
        }
    }

    /// The rules in Audit mode that would match, by name: what they would grant is for logs. Without a request, those that need none.
    pub fn audit_matches<'s, 'c>(
        &'s self,
        connection: &Connection<'c>,
        request: Option<&'c HttpRequest<'c>>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'s Arc<Rule>> + use<'s, 'c> {
        let audited = &self.port(connection.port).audited;
        let matching = audited.matching(connection.source, &self.0.trust_domain);
        let matches = move |rule: &Rule| {
            !rule.is_expired(now)
                && match (&rule.http, request) {
                    (Match::Any, _) => true,
                    (Match::OneOf(_), None) => false,
                    (Match::OneOf(conditions), Some(request)) => {
                        !request.connect && conditions.iter().any(|c| c.matches(request))
                    }
                }
        };
        let mut last: Option<&RuleName> = None;
        std::iter::from_fn(move || {
            // a rule with two sources may lie in two parts: the next one is the next by name
            let next = matching
                .clone()
                .filter_map(|part| {
                    let rules = part.rules();
                    let done = rules.partition_point(|rule| Some(&rule.name) <= last);
                    rules.iter().skip(done).find(|rule| matches(rule))
                })
                .reduce(first_by_name)?;
            last = Some(&next.name);
            Some(next)
        })
    }

    /// Every rule of the service, by name.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.0.rules
    }

    pub fn service(&self) -> &ServiceName {
        &self.0.service
    }

    pub(crate) fn next_rule_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.0
            .rules
            .iter()
            .filter_map(|rule| rule.expires)
            .filter(|expires| *expires > now)
            .min()
    }

    fn grants(&self, connection: &Connection<'_>) -> (&Port, Matched<'_, Grants>) {
        let port = self.port(connection.port);
        let matching = port
            .enforced
            .matching(connection.source, &self.0.trust_domain);
        (port, matching)
    }

    fn port(&self, name: &DnsLabel) -> &Port {
        self.0.named_port(name).unwrap_or(&self.0.others)
    }
}

impl Compiled {
    fn named_port(&self, name: &DnsLabel) -> Option<&Port> {
        let is_it = |(named, _): &&(SmolStr, Port)| named == name.as_str();
        self.named.iter().find(is_it).map(|(_, port)| port)
    }
}

fn first_by_name<'s>(one: &'s Arc<Rule>, other: &'s Arc<Rule>) -> &'s Arc<Rule> {
    if one.name <= other.name { one } else { other }
}
