//! `PolicyTest`: tables of expected verdicts, and the judge that holds rules against them.
//!
//! Invariant: the judge asks the same evaluator as a sidecar does; it has no opinion of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_identity::{
    DnsLabel, RuleName, ServiceName, ServicePort, SpiffeId, TrustDomain, WorkloadName,
};

use crate::{
    canonical::EncodedSlashes,
    explain::Question,
    lists::NonEmpty,
    request::{HttpRequest, Reason, Verdict},
    rule::{Quarantine, Rule},
    set::PolicySet,
    source::SourcePattern,
    sources::{OwnedSource, Source},
};

/// The kind as documents name it.
pub const POLICY_TEST: &str = "PolicyTest";

/// Expected verdicts; no resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyTestSpec {
    /// Questions with their expected answers.
    pub cases: NonEmpty<Case>,
}

/// One question with its expected answer. Without any HTTP field it is about a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["from"]}, {"required": ["fromAddress"]}]))]
pub struct Case {
    /// For people.
    pub name: String,
    /// `namespace/name` or a whole SPIFFE ID; this or `fromAddress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SourcePattern>,
    /// The address of a plaintext source, which no sidecar accepts yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_address: Option<IpAddr>,
    /// `namespace/service:port`.
    pub to: ServicePort,
    /// `GET` where other HTTP fields are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// As on the wire; `/` where other HTTP fields are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The request's `Host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// In order; a name may come twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CaseHeader>,
    /// The value of `Upgrade`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
    /// The time to judge at; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    /// What the answer must be.
    pub expect: Expect,
    /// The rule that must be the one that allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleName>,
    /// The reason that must be the one of the refusal, or of what would be one if the namespace did not learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// `false`: no real connection can ask this (a foreign identity, another time).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub over_sockets: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaseHeader {
    /// The header's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Expect {
    Allow,
    /// No rule allows it; it passes because the target's namespace learns.
    Learn,
    /// Refused by policy: 403, or a closed connection.
    Deny,
    /// Refused as ambiguous or malformed: 400.
    Error400,
}

impl Case {
    /// Who asks; else what is wrong with how it is named.
    pub fn source(&self, trust_domain: &TrustDomain) -> Result<OwnedSource, &'static str> {
        match (&self.from, self.from_address) {
            (Some(from), None) => {
                let id = from.exact(trust_domain);
                id.map(OwnedSource::Identity)
                    .ok_or("`from` must be one identity")
            }
            (None, Some(address)) => Ok(OwnedSource::Address(address)),
            (Some(_), Some(_)) | (None, None) => Err("a case has either `from` or `fromAddress`"),
        }
    }

    /// Who asks, for people.
    pub fn source_text(&self) -> String {
        let from = self.from.iter().map(ToString::to_string);
        let address = self.from_address.iter().map(ToString::to_string);
        from.chain(address).collect::<Vec<_>>().join(", ")
    }

    pub fn is_http(&self) -> bool {
        self.method.is_some()
            || self.path.is_some()
            || self.host.is_some()
            || !self.headers.is_empty()
            || self.upgrade.is_some()
    }
}

/// What the cases are judged against.
#[derive(Debug, Clone)]
pub struct World {
    pub trust_domain: TrustDomain,
    pub rules: Vec<Arc<Rule>>,
    pub quarantines: Vec<Quarantine>,
    /// Namespaces that learn, each with the end of it.
    pub learning: BTreeMap<DnsLabel, Timestamp>,
    /// Empty: services are not known, so that each target is taken to exist.
    pub services: BTreeMap<ServiceName, ServiceFacts>,
}

/// What a verdict needs to know of a `Service`.
#[derive(Debug, Clone, Default)]
pub struct ServiceFacts {
    pub workloads: Vec<WorkloadName>,
    pub ports: Vec<DnsLabel>,
    /// Those of them that are declared to carry bytes, never HTTP.
    pub opaque_ports: Vec<DnsLabel>,
    pub encoded_slashes: EncodedSlashes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Expect,
    pub rule: Option<RuleName>,
    pub reason: Option<Reason>,
    /// How the answer differs from the expected one; `None`: it does not.
    pub mismatch: Option<String>,
}

impl World {
    /// Judges cases at `now`, unless they say another time. Compiles each service's rules once.
    pub fn judge<'c>(
        &self,
        cases: impl IntoIterator<Item = &'c Case>,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let mut sets = BTreeMap::new();
        cases
            .into_iter()
            .map(|case| {
                let service = &case.to.service;
                let set = sets.entry(service).or_insert_with(|| self.compile(service));
                outcome(case, self.answer(case, set, case.at.unwrap_or(now)))
            })
            .collect()
    }

    fn compile(&self, service: &ServiceName) -> PolicySet {
        PolicySet::compile(
            self.trust_domain.clone(),
            service,
            self.rules.iter().cloned(),
            self.encoded_slashes(service),
        )
        .learning(self.learn_until(service))
    }

    /// Until when the namespace of a service learns.
    pub fn learn_until(&self, service: &ServiceName) -> Option<Timestamp> {
        self.learning.get(&service.namespace).copied()
    }

    fn encoded_slashes(&self, service: &ServiceName) -> EncodedSlashes {
        self.services
            .get(service)
            .map(|facts| facts.encoded_slashes)
            .unwrap_or_default()
    }

    fn answer<'a>(
        &self,
        case: &Case,
        set: &'a PolicySet,
        now: Timestamp,
    ) -> Result<Verdict<'a>, String> {
        let source = case.source(&self.trust_domain)?;
        let source = source.borrowed();
        if self.is_unknown(&case.to) {
            return Ok(Verdict::Deny(Reason::UnknownTarget));
        }
        let headers: Vec<_> = case
            .headers
            .iter()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        let method = case.method.as_deref().unwrap_or("GET");
        let connect = method == "CONNECT";
        let whole_path = case
            .path
            .as_deref()
            .unwrap_or(if connect { "" } else { "/" });
        let request = HttpRequest {
            method,
            path: whole_path.split('?').next().unwrap_or_default(),
            authority: case.host.as_deref(),
            headers: &headers,
            upgrade: case.upgrade.as_deref(),
            connect,
        };
        let question = Question {
            trust_domain: &self.trust_domain,
            source,
            target: &case.to,
            quarantined: self.is_quarantined(source, &case.to.service),
            learn_until: self.learn_until(&case.to.service),
            http: case.is_http().then_some(request),
            encoded_slashes: self.encoded_slashes(&case.to.service),
            now,
            folded: None,
            known_workloads: &[],
        };
        Ok(question.decide(set))
    }

    fn is_unknown(&self, target: &ServicePort) -> bool {
        !self.services.is_empty()
            && self
                .services
                .get(&target.service)
                .is_none_or(|facts| !facts.ports.contains(&target.port))
    }

    /// Whether a connection between them meets a quarantined end, whichever of the service's workloads it reaches.
    pub fn is_quarantined<'s>(&self, source: impl Into<Source<'s>>, service: &ServiceName) -> bool {
        let cut = |workload: &WorkloadName| {
            self.quarantines
                .iter()
                .any(|quarantine| quarantine.workload == *workload)
        };
        // a plaintext source is no workload that could be cut by its name
        let local = source.into().identity();
        let local = local.filter(|id| id.is_in(&self.trust_domain));
        let source_is_cut = local
            .and_then(SpiffeId::workload)
            .is_some_and(|workload| cut(&workload));
        let target_is_cut = self
            .services
            .get(service)
            .is_some_and(|facts| !facts.workloads.is_empty() && facts.workloads.iter().all(cut));
        source_is_cut || target_is_cut
    }
}

fn outcome(case: &Case, answer: Result<Verdict<'_>, String>) -> Outcome {
    let (verdict, rule, reason, problem) = match answer {
        Ok(Verdict::Allow(rule)) => (Expect::Allow, Some(rule.name.clone()), None, None),
        Ok(Verdict::Learn(reason)) => (Expect::Learn, None, Some(reason), None),
        Ok(Verdict::Deny(reason)) if reason.is_bad_request() => {
            (Expect::Error400, None, Some(reason), None)
        }
        Ok(Verdict::Deny(reason)) => (Expect::Deny, None, Some(reason), None),
        Err(problem) => (Expect::Deny, None, None, Some(problem)),
    };
    let matches = verdict == case.expect
        && (case.rule.is_none() || case.rule == rule)
        && (case.reason.is_none() || case.reason == reason);
    let mismatch = problem.or_else(|| {
        (!matches).then(|| {
            let wanted = shown(case.expect, case.rule.as_ref(), case.reason);
            format!(
                "expected {wanted}, got {}",
                shown(verdict, rule.as_ref(), reason)
            )
        })
    });
    Outcome {
        verdict,
        rule,
        reason,
        mismatch,
    }
}

fn shown(verdict: Expect, rule: Option<&RuleName>, reason: Option<Reason>) -> String {
    let word = match verdict {
        Expect::Allow => "allow",
        Expect::Learn => "learn",
        Expect::Deny => "deny",
        Expect::Error400 => "error400",
    };
    match (rule, reason) {
        (Some(rule), _) => format!("{word} by {rule}"),
        (None, Some(reason)) => format!("{word} ({reason})"),
        (None, None) => word.to_owned(),
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}
