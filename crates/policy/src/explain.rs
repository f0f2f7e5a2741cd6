//! Why a verdict is what it is: the nearest rules, the first condition that failed in each, and the rule that would allow it.
//!
//! Invariant: the verdict is the one that [`PolicySet`] gives; an explanation never judges by itself.

use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{RuleName, ServicePort, SpiffeId, TrustDomain, WorkloadName};

use crate::{
    canonical::EncodedSlashes,
    fold::FoldedPath,
    hints::{hints, hints_of_source},
    http::{HttpCondition, PARTS},
    lists::Match,
    outside::Leads,
    request::{
        Condition, Connection, ConnectionVerdict, HeaderValue, HttpRequest, Reason, Verdict,
    },
    rule::{Mode, Rule},
    set::PolicySet,
    sources::Source,
    suggest::suggested_yaml,
};

/// What is asked: may this source do this, now?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub trust_domain: &'a TrustDomain,
    pub source: Source<'a>,
    pub target: &'a ServicePort,
    /// Whether either end is under Quarantine.
    pub quarantined: bool,
    /// Until when the target's namespace learns.
    pub learn_until: Option<Timestamp>,
    /// `None`: a connection that is not HTTP.
    pub http: Option<HttpRequest<'a>>,
    /// What the request's path is one instance of, where only that is known; it is shown and suggested in its place.
    pub folded: Option<&'a FoldedPath>,
    /// Where it leads, if it may be outside of the mesh.
    pub outside: Option<Leads<'a>>,
    pub encoded_slashes: EncodedSlashes,
    pub now: Timestamp,
    /// The workloads that exist, to find typos; empty: not known.
    pub known_workloads: &'a [WorkloadName],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub allowed: bool,
    /// The rule that allows.
    pub rule: Option<RuleName>,
    /// Why it is refused, or would be if its namespace did not learn.
    pub reason: Option<Reason>,
    /// It is allowed by learn mode alone, until then.
    pub learn_until: Option<Timestamp>,
    /// Rules for that service that do not match, the nearest first; at most [`NEAREST_LIMIT`].
    pub nearest: Vec<Near>,
    /// The smallest rule that would allow it; `None` where no rule can help.
    pub suggested_yaml: Option<String>,
    pub hints: Vec<String>,
}

/// A rule that did not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    pub rule: RuleName,
    /// The first condition that failed.
    pub failed: Condition,
    pub wanted: String,
    pub got: String,
}

/// Explains what the rules (of any services) say about one question.
pub fn explain(rules: &[Arc<Rule>], question: &Question<'_>) -> Explanation {
    let service = &question.target.service;
    let set = PolicySet::compile(
        question.trust_domain.clone(),
        service,
        rules.iter().cloned(),
        question.encoded_slashes,
    )
    .learning(question.learn_until);
    let (reason, learn_until) = match question.decide(&set) {
        Verdict::Allow(rule) => return allowed_by(rule, question),
        Verdict::Learn(reason) => (reason, question.learn_until),
        Verdict::Deny(reason) => (reason, None),
    };
    let judged = nearest(&set, question);
    Explanation {
        allowed: learn_until.is_some(),
        rule: None,
        reason: Some(reason),
        learn_until,
        suggested_yaml: suggested_yaml(&set, question, reason),
        hints: hints(&judged, question, reason),
        nearest: judged
            .iter()
            .take(NEAREST_LIMIT)
            .filter_map(|judged| near(judged, question, reason))
            .collect(),
    }
}

fn allowed_by(rule: &Rule, question: &Question<'_>) -> Explanation {
    Explanation {
        allowed: true,
        rule: Some(rule.name.clone()),
        reason: None,
        learn_until: None,
        nearest: Vec::new(),
        suggested_yaml: None,
        hints: hints_of_source(question),
    }
}

impl Question<'_> {
    pub(crate) fn decide<'s>(&self, set: &'s PolicySet) -> Verdict<'s> {
        let connection = Connection {
            source: self.source,
            port: &self.target.port,
            quarantined: self.quarantined,
        };
        let by_rules = |http: Option<HttpRequest<'_>>| match http {
            Some(request) => set.decide_request(&connection, &request, self.now),
            None => set.decide_bytes(&connection, self.now),
        };
        let Some(outside) = &self.outside else {
            return by_rules(self.http);
        };
        let is_outside = outside.services.port(self.target).is_some();
        if is_outside && self.source.identity().is_none() {
            // its caller's own sidecar is the only one there is, and knows who it is (sentence 77)
            return Verdict::Deny(Reason::NoRule);
        }
        if let Some(reason) = outside.misleads(self.target, self.http) {
            // Who may not call at all is told the same whatever was asked.
            return match set.decide_connection(&connection, self.now) {
                ConnectionVerdict::Deny(reason) => Verdict::Deny(reason),
                ConnectionVerdict::Allow(_)
                | ConnectionVerdict::NeedsHttp
                | ConnectionVerdict::Learn(_) => Verdict::Deny(reason),
            };
        }
        match by_rules(outside.seen(self.target, self.http)) {
            Verdict::Allow(_) | Verdict::Learn(_) if outside.leads_astray(self.target) => {
                Verdict::Deny(Reason::ForbiddenAddress)
            }
            verdict => verdict,
        }
    }

    /// The path as far as it is known.
    pub(crate) fn path_text(&self) -> &str {
        match self.folded {
            Some(folded) => folded.as_str(),
            None => self.http.map_or("", |request| request.path),
        }
    }

    /// The source as people write it.
    pub(crate) fn source_text(&self) -> String {
        let id = self.source.identity();
        let local = id.filter(|id| id.is_in(self.trust_domain));
        match local.and_then(SpiffeId::workload) {
            Some(workload) => workload.to_string(),
            None => self.source.to_string(),
        }
    }
}

/// One rule with what failed in it, in the order of [`Condition`]s as people read a rule.
pub(crate) struct Judged<'s> {
    pub(crate) rule: &'s Arc<Rule>,
    pub(crate) failed: Vec<Condition>,
    /// The alternative of `http` that came nearest.
    pub(crate) http: Option<&'s HttpCondition>,
}

fn nearest<'s>(set: &'s PolicySet, question: &Question<'_>) -> Vec<Judged<'s>> {
    let mut judged: Vec<_> = set
        .rules()
        .iter()
        .map(|rule| judge(rule, question))
        .collect();
    // stable, and the rules come by name
    judged.sort_by_key(|judged| {
        let misses_source = judged.failed.contains(&Condition::Source);
        (judged.failed.len(), misses_source)
    });
    judged
}

fn judge<'s>(rule: &'s Arc<Rule>, question: &Question<'_>) -> Judged<'s> {
    let mut failed = Vec::new();
    if !rule.from.matches(question.source, question.trust_domain) {
        failed.push(Condition::Source);
    }
    if !rule.matches_port(&question.target.port) {
        failed.push(Condition::Port);
    }
    let mut http = None;
    if let Match::OneOf(conditions) = &rule.http {
        match &question.http {
            None => failed.push(Condition::Protocol),
            Some(request) if request.connect => failed.push(Condition::Connect),
            Some(request) => {
                let fails = |condition: &HttpCondition| -> Vec<_> {
                    let fails = |part: &Condition| !condition.part_matches(*part, request);
                    PARTS.into_iter().filter(fails).collect()
                };
                http = conditions.iter().min_by_key(|c| fails(c).len());
                failed.extend(http.map(fails).unwrap_or_default());
            }
        }
    }
    if rule.is_expired(question.now) {
        failed.push(Condition::Expired);
    }
    if rule.mode == Mode::Audit {
        failed.push(Condition::Audit);
    }
    Judged { rule, failed, http }
}

/// `None` for a rule that matches although the request is refused: then the reason says everything.
fn near(judged: &Judged<'_>, question: &Question<'_>, reason: Reason) -> Option<Near> {
    let failed = match judged.failed.first() {
        Some(failed) => *failed,
        None if reason == Reason::PathNotCanonical => Condition::Path,
        None => return None,
    };
    let (wanted, got) = if judged.failed.is_empty() {
        let path = question.path_text();
        ("a path in canonical form".to_owned(), path.to_owned())
    } else {
        wanted_and_got(failed, judged, question)
    };
    Some(Near {
        rule: judged.rule.name.clone(),
        failed,
        wanted,
        got,
    })
}

fn wanted_and_got(
    failed: Condition,
    judged: &Judged<'_>,
    question: &Question<'_>,
) -> (String, String) {
    let rule = judged.rule;
    let request = question.http.as_ref();
    let nothing = HttpCondition::default();
    let http = judged.http.unwrap_or(&nothing);
    match failed {
        Condition::Source => (
            rule.from.texts().collect::<Vec<_>>().join(", "),
            question.source_text(),
        ),
        Condition::Port => (
            joined(rule.ports.listed()),
            question.target.port.to_string(),
        ),
        Condition::Protocol => ("HTTP".to_owned(), "a connection without HTTP".to_owned()),
        Condition::Connect => (
            "a request that is not CONNECT".to_owned(),
            "CONNECT".to_owned(),
        ),
        Condition::Method => (
            joined(http.methods.listed()),
            request.map_or("", |r| r.method).to_owned(),
        ),
        Condition::Path => (joined(http.paths.listed()), question.path_text().to_owned()),
        Condition::Host => (
            joined(http.hosts.listed()),
            request
                .and_then(|r| r.authority)
                .unwrap_or("none")
                .to_owned(),
        ),
        Condition::Header => header_wanted_and_got(http, request),
        Condition::Upgrade => (
            match http.upgrades.listed() {
                [] => "no upgrade".to_owned(),
                named => joined(named),
            },
            request.and_then(|r| r.upgrade).unwrap_or("none").to_owned(),
        ),
        Condition::Expired => (
            rule.expires
                .map(|at| format!("a time before {at}"))
                .unwrap_or_default(),
            question.now.to_string(),
        ),
        Condition::Audit => ("mode Enforce".to_owned(), "mode Audit".to_owned()),
    }
}

/// Header values may be secrets: what came is described, not shown.
fn header_wanted_and_got(
    http: &HttpCondition,
    request: Option<&HttpRequest<'_>>,
) -> (String, String) {
    let failed = http
        .headers
        .listed()
        .iter()
        .find(|header| request.is_none_or(|request| !header.matches(request.headers)));
    let Some(header) = failed else {
        return Default::default();
    };
    let got = match request.map(|request| request.headers.lookup(header.name.as_str())) {
        None | Some(HeaderValue::Absent) => "no such header",
        Some(HeaderValue::One(_)) => "another value",
        Some(HeaderValue::Many) => "more than one",
    };
    (header.to_string(), got.to_owned())
}

fn joined<T: ToString>(values: &[T]) -> String {
    let values: Vec<_> = values.iter().map(T::to_string).collect();
    values.join(", ")
}

pub const NEAREST_LIMIT: usize = 10;
