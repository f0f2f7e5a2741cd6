//! `PolicyTest`: tables of expected verdicts, and the judge that holds rules against them.
//!
//! Invariant: the judge asks the same evaluator as a sidecar does; it has no opinion of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_identity::{RuleName, ServicePort, TrustDomain};

use crate::{
    explain::Question,
    lists::NonEmpty,
    outside::{Carries, Leads, MeshName, Target},
    request::{HttpRequest, Reason, Verdict},
    set::PolicySet,
    source::SourcePattern,
    sources::OwnedSource,
    world::World,
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
    /// `namespace/service:port`, or `host:port` outside of the mesh as the HTTP proxy is asked for it.
    pub to: Target,
    /// `GET` where other HTTP fields are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// As on the wire; `/` where other HTTP fields are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The request's `Host`; on a port of `tls` the server name. Absent: the host of `to`, or the only one of its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// An address that the host of an external service leads to; absent: none is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<IpAddr>,
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

    /// Whether it is about a request whatever it is asked of: a host alone may be the server name of TLS.
    fn says_a_request(&self) -> bool {
        self.method.is_some()
            || self.path.is_some()
            || !self.headers.is_empty()
            || self.upgrade.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The port of a service that it was judged as; `None`: none was found.
    pub target: Option<ServicePort>,
    /// Whether it was judged as a request.
    pub is_request: bool,
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
                let asked = match Asked::of(case, self, case.at.unwrap_or(now)) {
                    Ok(asked) => asked,
                    Err(problem) => return Outcome::unanswered(&problem),
                };
                let Some(target) = asked.target.as_ref().filter(|target| self.has_port(target))
                else {
                    return asked.outcome(Verdict::Deny(Reason::UnknownTarget));
                };
                let set = sets.entry(target.service.clone());
                let set = set.or_insert_with(|| self.compile(&target.service));
                asked.outcome(asked.judge(self, set, target))
            })
            .collect()
    }
}

/// Why a case cannot be judged.
#[derive(Debug, thiserror::Error)]
enum Unanswerable {
    #[error("{0}")]
    Source(&'static str),
    #[error("to: {0}")]
    MeshName(#[from] MeshName),
}

/// A case as it is put to the evaluator.
struct Asked<'c> {
    case: &'c Case,
    source: OwnedSource,
    /// `None`: no service outside has that host and port.
    target: Option<ServicePort>,
    is_request: bool,
    now: Timestamp,
}

impl<'c> Asked<'c> {
    fn of(case: &'c Case, world: &World, now: Timestamp) -> Result<Self, Unanswerable> {
        let source = case.source(&world.trust_domain);
        let source = source.map_err(Unanswerable::Source)?;
        let target = world.find(source.borrowed(), &case.to, now)?;
        let outside = world.outside.as_deref().zip(target.as_ref());
        let port = outside.and_then(|(outside, target)| outside.port(target));
        let is_opaque = port.is_some_and(|port| port.carries != Carries::Http);
        Ok(Self {
            is_request: case.says_a_request() || case.host.is_some() && !is_opaque,
            case,
            source,
            target,
            now,
        })
    }

    fn judge<'s>(&self, world: &World, set: &'s PolicySet, target: &ServicePort) -> Verdict<'s> {
        let case = self.case;
        let outside = world.outside.as_deref().map(|services| {
            let asked = case.to.host().map(|asked| &*asked.host);
            Leads::of(services, target, asked, case.host.as_deref(), case.address)
        });
        let authority = match (&outside, &case.host) {
            (Some(leads), None) => leads.authority(target),
            (_, stated) => stated.clone(),
        };
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
            authority: authority.as_deref(),
            headers: &headers,
            upgrade: case.upgrade.as_deref(),
            connect,
        };
        let question = Question {
            trust_domain: &world.trust_domain,
            source: self.source.borrowed(),
            target,
            quarantined: world.is_quarantined(self.source.borrowed(), &target.service),
            learn_until: world.learn_until(&target.service),
            http: self.is_request.then_some(request),
            encoded_slashes: world.encoded_slashes(&target.service),
            now: self.now,
            folded: None,
            outside,
            known_workloads: &[],
        };
        question.decide(set)
    }

    fn outcome(&self, answer: Verdict<'_>) -> Outcome {
        let case = self.case;
        let (verdict, rule, reason) = match answer {
            Verdict::Allow(rule) => (Expect::Allow, Some(rule.name.clone()), None),
            Verdict::Learn(reason) => (Expect::Learn, None, Some(reason)),
            Verdict::Deny(reason) if reason.is_bad_request() => {
                (Expect::Error400, None, Some(reason))
            }
            Verdict::Deny(reason) => (Expect::Deny, None, Some(reason)),
        };
        let matches = verdict == case.expect
            && (case.rule.is_none() || case.rule == rule)
            && (case.reason.is_none() || case.reason == reason);
        let mismatch = (!matches).then(|| {
            let wanted = shown(case.expect, case.rule.as_ref(), case.reason);
            format!(
                "expected {wanted}, got {}",
                shown(verdict, rule.as_ref(), reason)
            )
        });
        Outcome {
            target: self.target.clone(),
            is_request: self.is_request,
            verdict,
            rule,
            reason,
            mismatch,
        }
    }
}

impl Outcome {
    fn unanswered(problem: &Unanswerable) -> Self {
        Self {
            target: None,
            is_request: false,
            verdict: Expect::Deny,
            rule: None,
            reason: None,
            mismatch: Some(problem.to_string()),
        }
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
