//! The compiled set: every rule of one service, indexed by port and exact source.
//!
//! Invariants: immutable; a decision allocates nothing; among several rules that match, the first by name is the one named, so
//! that every evaluator names the same.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use weft_identity::{DnsLabel, ServiceName, SpiffeId, TrustDomain};

use crate::{
    canonical::{EncodedSlashes, is_canonical},
    header::HeaderName,
    lists::Match,
    request::{Connection, ConnectionVerdict, HeaderValue, HttpRequest, Reason, Verdict},
    rule::{Mode, Rule},
};

/// Cheap to clone and share. Beside the rules stands until when the namespace learns.
#[derive(Debug, Clone)]
pub struct PolicySet(Arc<Compiled>, Option<Timestamp>);

#[derive(Debug)]
struct Compiled {
    trust_domain: TrustDomain,
    service: ServiceName,
    encoded_slashes: EncodedSlashes,
    /// Ports that some rule names.
    named: HashMap<DnsLabel, PortRules>,
    /// For all other ports: the rules for any port.
    others: PortRules,
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
        let mut rules: Vec<_> = rules
            .into_iter()
            .filter(|rule| rule.service == *service)
            .collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        let ports: BTreeSet<&DnsLabel> =
            rules.iter().flat_map(|rule| rule.ports.listed()).collect();
        let named = ports
            .into_iter()
            .map(|port| {
                let compiled = PortRules::compile(
                    rules.iter().filter(|rule| rule.matches_port(port)),
                    &trust_domain,
                );
                (port.clone(), compiled)
            })
            .collect();
        let others = PortRules::compile(
            rules.iter().filter(|rule| rule.ports.is_any()),
            &trust_domain,
        );
        let compiled = Compiled {
            trust_domain,
            service: service.clone(),
            encoded_slashes,
            named,
            others,
            rules: rules.into(),
        };
        Self(Arc::new(compiled), None)
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
        let mut needs_http = false;
        for rule in self.in_force(connection, now) {
            if rule.http.is_any() {
                return ConnectionVerdict::Allow(rule);
            }
            needs_http = true;
        }
        if needs_http {
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
        let mut candidates = self.in_force(connection, now).peekable();
        if candidates.peek().is_none() {
            // before the request is looked at: who may not call learns nothing from how it is refused
            return Verdict::Deny(Reason::NoRule);
        }
        let port = self.port(connection.port);
        if let Some(reason) = port.ambiguity(request, self.0.encoded_slashes, now) {
            return Verdict::Deny(reason);
        }
        let mut lacks_upgrade = request.connect;
        for rule in candidates {
            match match_request(rule, request) {
                RequestMatch::Yes => return Verdict::Allow(rule),
                RequestMatch::ButUpgrade => lacks_upgrade = true,
                RequestMatch::No => {}
            }
        }
        Verdict::Deny(if lacks_upgrade {
            Reason::UpgradeNotAllowed
        } else {
            Reason::NoRule
        })
    }

    /// The rules in Audit mode that would match: what they would grant is for logs. Without a request, those that need none.
    pub fn audit_matches<'s, 'c>(
        &'s self,
        connection: &Connection<'c>,
        request: Option<&'c HttpRequest<'c>>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'s Arc<Rule>> + use<'s, 'c> {
        self.port(connection.port)
            .audited
            .candidates(connection.source, &self.0.trust_domain)
            .filter(move |rule| !rule.is_expired(now))
            .filter(move |rule| match request {
                Some(request) => match_request(rule, request) == RequestMatch::Yes,
                None => rule.http.is_any(),
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

    fn port(&self, port: &DnsLabel) -> &PortRules {
        self.0.named.get(port).unwrap_or(&self.0.others)
    }

    fn in_force<'s, 'c>(
        &'s self,
        connection: &Connection<'c>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'s Arc<Rule>> + use<'s, 'c> {
        self.port(connection.port)
            .enforced
            .candidates(connection.source, &self.0.trust_domain)
            .filter(move |rule| rule.is_in_force(now))
    }
}

#[derive(PartialEq, Eq)]
enum RequestMatch {
    Yes,
    /// All but the upgrade, or CONNECT where there are HTTP conditions.
    ButUpgrade,
    No,
}

fn match_request(rule: &Rule, request: &HttpRequest<'_>) -> RequestMatch {
    let Match::OneOf(conditions) = &rule.http else {
        return RequestMatch::Yes;
    };
    if request.connect {
        return RequestMatch::ButUpgrade;
    }
    if conditions
        .iter()
        .any(|condition| condition.matches(request))
    {
        return RequestMatch::Yes;
    }
    let lacks_upgrade = request.upgrade.is_some()
        && conditions
            .iter()
            .any(|condition| condition.lacks_only_upgrade(request));
    if lacks_upgrade {
        RequestMatch::ButUpgrade
    } else {
        RequestMatch::No
    }
}

/// The rules that can match on one port.
#[derive(Debug, Default)]
struct PortRules {
    enforced: BySource,
    audited: BySource,
    /// How long some enforced rule has path conditions.
    has_paths: Lasting,
    /// Headers that enforced rules match, and how long.
    headers: Box<[(HeaderName, Lasting)]>,
}

impl PortRules {
    fn compile<'r>(rules: impl Iterator<Item = &'r Arc<Rule>>, trust_domain: &TrustDomain) -> Self {
        let (enforced, audited): (Vec<_>, Vec<_>) =
            rules.cloned().partition(|rule| rule.mode == Mode::Enforce);
        let mut has_paths = Lasting::Never;
        let mut headers = BTreeMap::<_, Lasting>::new();
        for rule in &enforced {
            for condition in rule.http.listed() {
                if !condition.paths.is_any() {
                    has_paths.extend(rule.expires);
                }
                for header in condition.headers.listed() {
                    headers
                        .entry(header.name.clone())
                        .or_default()
                        .extend(rule.expires);
                }
            }
        }
        Self {
            enforced: BySource::compile(enforced, trust_domain),
            audited: BySource::compile(audited, trust_domain),
            has_paths,
            headers: headers.into_iter().collect(),
        }
    }

    /// What makes a request ambiguous to the rules of this port, whoever sends it.
    fn ambiguity(
        &self,
        request: &HttpRequest<'_>,
        encoded_slashes: EncodedSlashes,
        now: Timestamp,
    ) -> Option<Reason> {
        // the target of a plain CONNECT is no path
        let has_path = !(request.connect && request.path.is_empty());
        if has_path && self.has_paths.holds(now) && !is_canonical(request.path, encoded_slashes) {
            return Some(Reason::PathNotCanonical);
        }
        let doubled = self.headers.iter().any(|(name, lasting)| {
            lasting.holds(now) && request.headers.lookup(name.as_str()) == HeaderValue::Many
        });
        doubled.then_some(Reason::Malformed)
    }
}

/// Until when something holds: the latest expiry of the rules that make it hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Lasting {
    #[default]
    Never,
    Until(Timestamp),
    Always,
}

impl Lasting {
    fn extend(&mut self, expires: Option<Timestamp>) {
        *self = (*self).max(expires.map_or(Self::Always, Self::Until));
    }

    fn holds(self, now: Timestamp) -> bool {
        match self {
            Self::Never => false,
            Self::Until(end) => now < end,
            Self::Always => true,
        }
    }
}

/// Rules by who may call.
#[derive(Debug, Default)]
struct BySource {
    exact: HashMap<SpiffeId, Vec<Entry>>,
    /// Rules of which some source is a pattern.
    patterned: Vec<Entry>,
}

/// A rule and its place among its port's rules.
#[derive(Debug, Clone)]
struct Entry {
    place: usize,
    rule: Arc<Rule>,
}

impl BySource {
    fn compile(rules: Vec<Arc<Rule>>, trust_domain: &TrustDomain) -> Self {
        let mut compiled = Self::default();
        for (place, rule) in rules.into_iter().enumerate() {
            let entry = Entry { place, rule };
            for pattern in &entry.rule.from {
                let list = match pattern.exact(trust_domain) {
                    Some(id) => compiled.exact.entry(id).or_default(),
                    None => &mut compiled.patterned,
                };
                if list.last().is_none_or(|last| last.place != place) {
                    list.push(entry.clone());
                }
            }
        }
        compiled
    }

    /// The rules that match the source, in order, each once.
    fn candidates<'s, 'c>(
        &'s self,
        source: &'c SpiffeId,
        trust_domain: &'s TrustDomain,
    ) -> impl Iterator<Item = &'s Arc<Rule>> + use<'s, 'c> {
        let mut exact = self
            .exact
            .get(source)
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .peekable();
        let mut patterned = self
            .patterned
            .iter()
            .filter(move |entry| entry.rule.matches_source(source, trust_domain))
            .peekable();
        std::iter::from_fn(move || {
            let (next_exact, next_patterned) = (
                exact.peek().map_or(usize::MAX, |entry| entry.place),
                patterned.peek().map_or(usize::MAX, |entry| entry.place),
            );
            if next_exact == next_patterned {
                patterned.next();
            }
            let entry = if next_exact <= next_patterned {
                exact.next()
            } else {
                patterned.next()
            };
            entry.map(|entry| &entry.rule)
        })
    }
}
