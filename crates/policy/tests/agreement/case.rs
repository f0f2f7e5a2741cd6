//! A policy and a question to it, all in text: what both implementations are given.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use weft_identity::{DnsLabel, ServiceName};
use weft_policy::{
    Connection, EncodedSlashes, HeaderCondition, HeaderTest, HttpCondition, HttpRequest, Match,
    Mode, NonEmpty, OwnedSource, PolicySet, Reason, Rule, Sources, Verdict,
};

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) rules: Vec<RuleText>,
    pub(crate) keep_slashes: bool,
    /// The verified identity; `None`: the source is plaintext.
    pub(crate) source: Option<String>,
    /// Where the connection comes from, whoever it is.
    pub(crate) address: &'static str,
    pub(crate) port: &'static str,
    pub(crate) quarantined: bool,
    pub(crate) now: i64,
    /// Until when the namespace learns.
    pub(crate) learn_until: Option<i64>,
    /// `None`: a connection that is not HTTP.
    pub(crate) request: Option<RequestText>,
}

#[derive(Debug, Clone)]
pub(crate) struct RuleText {
    pub(crate) name: String,
    pub(crate) service: &'static str,
    pub(crate) ports: Option<Vec<&'static str>>,
    /// One of these two has something in it.
    pub(crate) from: Vec<String>,
    pub(crate) addresses: Vec<&'static str>,
    pub(crate) http: Option<Vec<ConditionText>>,
    pub(crate) expires: Option<i64>,
    pub(crate) audit: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ConditionText {
    pub(crate) methods: Option<Vec<&'static str>>,
    pub(crate) paths: Option<Vec<String>>,
    pub(crate) hosts: Option<Vec<&'static str>>,
    pub(crate) headers: Option<Vec<(&'static str, HeaderTest)>>,
    pub(crate) upgrades: Option<Vec<&'static str>>,
    /// Never beside methods and paths.
    pub(crate) grpc: Option<Vec<&'static str>>,
}

#[derive(Debug, Clone)]
pub(crate) struct RequestText {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) upgrade: Option<&'static str>,
    pub(crate) connect: bool,
}

/// The one service that is asked for.
pub(crate) const SERVICE: &str = "shop/api";
pub(crate) const TRUST_DOMAIN: &str = "weft.local";

/// What is to be decided, as both say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) verdict: Told,
    /// Names of the rules in mode Audit that would match, in order.
    pub(crate) audited: Vec<String>,
}

/// A verdict in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// By the rule of that name.
    Allow(String),
    /// It passes, though the rules refuse it for that reason.
    Learn(Reason),
    Deny(Reason),
}

impl Case {
    /// The rules as the product reads them.
    pub(crate) fn parsed(&self) -> Vec<Arc<Rule>> {
        self.rules
            .iter()
            .map(|rule| Arc::new(rule.parsed()))
            .collect()
    }

    pub(crate) fn slashes(&self) -> EncodedSlashes {
        if self.keep_slashes {
            EncodedSlashes::Keep
        } else {
            EncodedSlashes::Refuse
        }
    }

    pub(crate) fn learn_until(&self) -> Option<Timestamp> {
        self.learn_until.map(time)
    }

    pub(crate) fn compiled(&self) -> PolicySet {
        let (trust_domain, service) = (parsed(TRUST_DOMAIN), parsed::<ServiceName>(SERVICE));
        PolicySet::compile(trust_domain, &service, self.parsed(), self.slashes())
            .learning(self.learn_until())
    }

    /// What the product answers.
    pub(crate) fn answer(&self, set: &PolicySet) -> Answer {
        let source = match &self.source {
            Some(id) => OwnedSource::Identity(parsed(id)),
            None => OwnedSource::Address(parsed(self.address)),
        };
        let port = parsed::<DnsLabel>(self.port);
        let connection = Connection {
            source: source.borrowed(),
            port: &port,
            quarantined: self.quarantined,
        };
        let now = time(self.now);
        let request = self.request.as_ref().map(RequestText::borrowed);
        let verdict = match &request {
            None => set.decide_bytes(&connection, now),
            Some(request) => set.decide_request(&connection, request, now),
        };
        let verdict = match verdict {
            Verdict::Allow(rule) => Told::Allow(rule.name.to_string()),
            Verdict::Learn(reason) => Told::Learn(reason),
            Verdict::Deny(reason) => Told::Deny(reason),
        };
        let audited = set.audit_matches(&connection, request.as_ref(), now);
        Answer {
            verdict,
            audited: audited.map(|rule| rule.name.to_string()).collect(),
        }
    }
}

impl RuleText {
    fn parsed(&self) -> Rule {
        let rule = Rule {
            name: parsed(&self.name),
            service: parsed(self.service),
            ports: listed(&self.ports, |port| parsed(port)),
            from: Sources::new(
                self.from.iter().map(|from| parsed(from)).collect(),
                self.addresses.iter().map(|range| parsed(range)).collect(),
            )
            .unwrap(),
            http: listed(&self.http, ConditionText::parsed),
            expires: self.expires.map(time),
            mode: if self.audit {
                Mode::Audit
            } else {
                Mode::Enforce
            },
        };
        rule.check().unwrap();
        rule
    }
}

impl ConditionText {
    pub(crate) fn is_empty(&self) -> bool {
        self.methods.is_none()
            && self.paths.is_none()
            && self.hosts.is_none()
            && self.headers.is_none()
            && self.upgrades.is_none()
            && self.grpc.is_none()
    }

    fn parsed(&self) -> HttpCondition {
        if self.grpc.is_some() {
            return self.read();
        }
        HttpCondition {
            methods: listed(&self.methods, |text| parsed(text)),
            paths: listed(&self.paths, |text| parsed(text)),
            hosts: listed(&self.hosts, |text| parsed(text)),
            headers: listed(&self.headers, |(name, test)| HeaderCondition {
                name: parsed(name),
                test: test.clone(),
            }),
            upgrades: listed(&self.upgrades, |text| parsed(text)),
        }
    }
}

impl ConditionText {
    /// As a document says it: there is no other place where `grpc` becomes a method and paths.
    fn read(&self) -> HttpCondition {
        let header = |(name, test): &(&str, HeaderTest)| match test {
            HeaderTest::Exact(value) => json!({"name": name, "exact": value}),
            HeaderTest::Prefix(value) => json!({"name": name, "prefix": value}),
            HeaderTest::Present => json!({"name": name, "present": true}),
        };
        let headers = self.headers.as_ref();
        let headers = headers.map(|headers| headers.iter().map(header).collect::<Vec<_>>());
        let mut document = json!({
            "grpc": self.grpc, "hosts": self.hosts, "headers": headers, "upgrades": self.upgrades,
        });
        // what is not stated is absent
        let fields = document.as_object_mut().unwrap();
        fields.retain(|_, value| *value != Value::Null);
        serde_json::from_value(document).unwrap()
    }
}

impl RequestText {
    fn borrowed(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method,
            path: &self.path,
            authority: self.host.as_deref(),
            headers: &self.headers,
            upgrade: self.upgrade,
            connect: self.connect,
        }
    }
}

fn listed<T, U>(values: &Option<Vec<T>>, read: impl Fn(&T) -> U) -> Match<U> {
    match values {
        None => Match::Any,
        Some(values) => Match::OneOf(NonEmpty::new(values.iter().map(read).collect()).unwrap()),
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}
