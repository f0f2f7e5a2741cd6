//! The verdict about a recorded flow in three values.
//!
//! Invariant: `Allowed` and `Denied` hold for every connection or request that is recorded as this flow; where they differ, or
//! could, the ruling is `Unknown`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use weft_identity::{RuleName, WorkloadName};

use super::ground::Ground;
use super::headers::{Seen, header_matches, is_repeated};
use super::path::{is_canonical, path_matches};
use super::tri::Tri;
use crate::flow::{Flow, FlowHost, FlowRequest, HeaderSeen, Judged};
use crate::header::HeaderName;
use crate::http::{HttpCondition, PARTS, names_all};
use crate::learn;
use crate::lists::Match;
use crate::request::{Condition, Reason};
use crate::rule::Rule;

/// What would be decided about all traffic that one flow stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    Allowed(RuleName),
    /// Let through because the namespace learns, whatever the rules say.
    Learned,
    Denied(Reason),
    /// The record does not say enough.
    Unknown(Why),
}

/// What the record of a flow lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Whether this part of the rule matches.
    Rule { rule: RuleName, part: Condition },
    /// Whether the path is in canonical form.
    Canonical,
    /// Whether a header came more than once that this rule names.
    Repeated {
        rule: Option<RuleName>,
        header: HeaderName,
    },
    /// Whether this workload of the service was reached, which is cut off.
    Cut(WorkloadName),
    /// The connection was recorded, not what was asked on it.
    NoRequest,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule, part } => {
                let what = match part {
                    Condition::Path => "paths are recorded by their shape",
                    Condition::Header => "no rule asked for the header's value then",
                    Condition::Host => "hosts beyond a number are not kept apart",
                    Condition::Source
                    | Condition::Port
                    | Condition::Protocol
                    | Condition::Connect
                    | Condition::Method
                    | Condition::Upgrade
                    | Condition::Expired
                    | Condition::Audit => "it was not recorded",
                };
                write!(f, "{part} of {rule}: {what}")
            }
            Self::Canonical => f.write_str("the path may not be in canonical form"),
            Self::Repeated { rule, header } => {
                if let Some(rule) = rule {
                    write!(f, "{rule} names header {header}: ")?;
                }
                write!(f, "whether {header} came twice was not recorded")
            }
            Self::Cut(workload) => write!(
                f,
                "{workload} is cut off, and which workload was reached is not recorded"
            ),
            Self::NoRequest => f.write_str("the connection is recorded, not its requests"),
        }
    }
}

/// A ruling with what it rests on, so that two of them can be compared where neither is known.
#[derive(Debug)]
pub(super) struct Judgement<'s> {
    pub(super) ruling: Ruling,
    /// The rules that match or may, by name.
    pub(super) rules: Vec<(&'s Arc<Rule>, Tri)>,
    learns: bool,
    /// What is not known and may refuse the flow.
    doubts: BTreeSet<Doubt<'s>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt<'s> {
    /// This workload of the service is cut off.
    Cut(WorkloadName),
    Canonical,
    Repeated(&'s HeaderName),
}

impl<'s> Judgement<'s> {
    pub(super) fn of(flow: &Flow, ground: &Ground<'s>) -> Self {
        let request = flow.key.request.as_ref();
        let rules: Vec<_> = ground
            .rules
            .iter()
            .map(|rule| (*rule, rule_matches(rule, request, ground.opaque)))
            .filter(|(_, answer)| *answer != Tri::No)
            .collect();
        let doubts = doubts(request, ground);
        let mut ruling = ruling(flow, ground, &rules, &doubts);
        if ground.learns && is_lifted(&ruling) && refused_by_itself(flow).is_none() {
            ruling = match ground.cut.targets.first() {
                Some((cut, _)) => Ruling::Unknown(Why::Cut(cut.clone())),
                None => Ruling::Learned,
            };
        }
        Self {
            ruling,
            rules,
            learns: ground.learns,
            doubts,
        }
    }

    /// Whether all that is let through before is let through after, whatever the record left out.
    pub(super) fn is_kept_by(&self, after: &Self) -> bool {
        match (&self.ruling, &after.ruling) {
            (Ruling::Denied(_), _) | (_, Ruling::Allowed(_) | Ruling::Learned) => true,
            (_, Ruling::Denied(_)) | (Ruling::Allowed(_) | Ruling::Learned, Ruling::Unknown(_)) => {
                false
            }
            (Ruling::Unknown(_), Ruling::Unknown(_)) => {
                let is_kept = |(rule, _): &(&Arc<Rule>, Tri)| {
                    let same = |(other, answer): &(&Arc<Rule>, Tri)| {
                        *answer == Tri::Yes || other.http == rule.http
                    };
                    after.rules.iter().any(same)
                };
                let is_let_through = match (self.learns, after.learns) {
                    (_, true) => true,
                    (true, false) => false,
                    (false, false) => self.rules.iter().all(is_kept),
                };
                is_let_through && after.doubts.is_subset(&self.doubts)
            }
        }
    }
}

fn ruling(
    flow: &Flow,
    ground: &Ground<'_>,
    rules: &[(&Arc<Rule>, Tri)],
    doubts: &BTreeSet<Doubt<'_>>,
) -> Ruling {
    if ground.lacks_target {
        return Ruling::Denied(Reason::UnknownTarget);
    }
    let request = flow.key.request.as_ref();
    if let Some(reason) = refused_by_itself(flow)
        .or_else(|| {
            ground
                .cut
                .reason()
                .filter(|_| ground.cut.answer() == Tri::Yes)
        })
        .or_else(|| ground.rules.is_empty().then_some(Reason::NoRule))
        .or_else(|| request.and_then(|request| ambiguity(request, ground)))
    {
        return Ruling::Denied(reason);
    }
    if rules.is_empty() {
        let lacks_upgrade = request.is_some_and(|request| lacks_upgrade(request, ground));
        return Ruling::Denied(if lacks_upgrade {
            Reason::UpgradeNotAllowed
        } else {
            Reason::NoRule
        });
    }
    let matching = rules.iter().find(|(_, answer)| *answer == Tri::Yes);
    match (doubts.first(), matching) {
        (Some(doubt), _) => Ruling::Unknown(doubt.why(ground)),
        (None, Some((rule, _))) => Ruling::Allowed(rule.name.clone()),
        (None, None) => Ruling::Unknown(why_unknown(rules, request)),
    }
}

/// Whether learn mode lets it through, if there it is refused by the rules.
fn is_lifted(ruling: &Ruling) -> bool {
    match ruling {
        Ruling::Denied(reason) => learn::is_lifted(*reason),
        Ruling::Unknown(Why::Cut(_)) | Ruling::Allowed(_) | Ruling::Learned => false,
        Ruling::Unknown(
            Why::Rule { .. } | Why::Canonical | Why::Repeated { .. } | Why::NoRequest,
        ) => true,
    }
}

/// What was refused for what it was, which no rule changes.
fn refused_by_itself(flow: &Flow) -> Option<Reason> {
    let Judged::Denied(reason) = flow.key.judged else {
        return None;
    };
    let came_twice = |request: &FlowRequest| {
        let mut outcomes = request.headers.iter().map(|(_, outcome)| outcome);
        outcomes.any(|outcome| *outcome == HeaderSeen::Many)
    };
    let by_itself = match reason {
        Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => true,
        // a repeated header is malformed only where a rule names it
        Reason::Malformed => !flow.key.request.as_ref().is_some_and(came_twice),
        Reason::NoRule
        | Reason::Quarantined
        | Reason::PathNotCanonical
        | Reason::UpgradeNotAllowed
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::PolicyUnreadable
        | Reason::Stale => false,
    };
    by_itself.then_some(reason)
}

/// Sentences 27 and 34, where the record is sure of it.
fn ambiguity(request: &FlowRequest, ground: &Ground<'_>) -> Option<Reason> {
    if canonical(request, ground) == Tri::No {
        return Some(Reason::PathNotCanonical);
    }
    let is_repeated = |name| is_repeated(name, &request.headers) == Tri::Yes;
    let mut names = ground.headers.keys();
    names
        .any(|name| is_repeated(name))
        .then_some(Reason::Malformed)
}

/// Whether the path stands as sentence 27 asks for; `Yes` where it asks for nothing.
fn canonical(request: &FlowRequest, ground: &Ground<'_>) -> Tri {
    match &request.path {
        Some(path) if !ground.spelled_paths.is_empty() => is_canonical(path, ground.slashes),
        Some(_) | None => Tri::Yes,
    }
}

fn doubts<'s>(request: Option<&FlowRequest>, ground: &Ground<'s>) -> BTreeSet<Doubt<'s>> {
    let mut doubts = BTreeSet::new();
    if ground.cut.answer() == Tri::Unknown {
        let cut = ground.cut.targets.iter();
        doubts.extend(cut.map(|(workload, _)| Doubt::Cut(workload.clone())));
    }
    let Some(request) = request else {
        return doubts;
    };
    if canonical(request, ground) == Tri::Unknown {
        doubts.insert(Doubt::Canonical);
    }
    let unknown = |name: &&&HeaderName| is_repeated(name, &request.headers) == Tri::Unknown;
    doubts.extend(
        ground
            .headers
            .keys()
            .filter(unknown)
            .map(|name| Doubt::Repeated(name)),
    );
    doubts
}

impl Doubt<'_> {
    fn why(&self, ground: &Ground<'_>) -> Why {
        match self {
            Self::Canonical => Why::Canonical,
            Self::Repeated(header) => Why::Repeated {
                rule: ground.headers.get(header).map(|rule| (*rule).clone()),
                header: (*header).clone(),
            },
            Self::Cut(workload) => Why::Cut(workload.clone()),
        }
    }
}

fn rule_matches(rule: &Rule, request: Option<&FlowRequest>, opaque: bool) -> Tri {
    let Match::OneOf(conditions) = &rule.http else {
        return Tri::Yes;
    };
    match request {
        Some(request) if request.connect => Tri::No,
        Some(request) => Tri::any(conditions.iter().map(|c| condition_matches(c, request))),
        // bytes that are not HTTP meet no HTTP condition
        None if opaque => Tri::No,
        None => Tri::Unknown,
    }
}

fn condition_matches(condition: &HttpCondition, request: &FlowRequest) -> Tri {
    Tri::all(PARTS.map(|part| part_matches(condition, part, request)))
}

fn part_matches(condition: &HttpCondition, part: Condition, request: &FlowRequest) -> Tri {
    match part {
        Condition::Method => Tri::from(
            condition
                .methods
                .admits(|method| method.as_str() == &*request.method),
        ),
        Condition::Path => match (&condition.paths, &request.path) {
            (Match::Any, _) => Tri::Yes,
            (Match::OneOf(patterns), Some(path)) => {
                Tri::any(patterns.iter().map(|pattern| path_matches(pattern, path)))
            }
            (Match::OneOf(_), None) => Tri::Unknown,
        },
        Condition::Host => match (&condition.hosts, &request.host) {
            (Match::Any, _) => Tri::Yes,
            (Match::OneOf(_), FlowHost::None) => Tri::No,
            (Match::OneOf(hosts), FlowHost::Named(host)) => {
                Tri::from(hosts.iter().any(|pattern| pattern.matches_host(host)))
            }
            (Match::OneOf(_), FlowHost::Folded) => Tri::Unknown,
        },
        Condition::Header => {
            let headers = condition.headers.listed().iter();
            Tri::all(headers.map(|header| header_matches(header, seen(request))))
        }
        Condition::Upgrade => Tri::from(
            request
                .upgrade
                .as_ref()
                .is_none_or(|offered| names_all(condition.upgrades.listed(), offered)),
        ),
        // the rule as a whole answers for these
        Condition::Source
        | Condition::Port
        | Condition::Protocol
        | Condition::Connect
        | Condition::Expired
        | Condition::Audit => Tri::Yes,
    }
}

fn seen(request: &FlowRequest) -> &Seen {
    &request.headers
}

/// Sentence 36 and 37: why it is refused, where only the upgrade is missing. For the reason alone.
fn lacks_upgrade(request: &FlowRequest, ground: &Ground<'_>) -> bool {
    let but_upgrade = |condition: &HttpCondition| {
        PARTS.into_iter().all(|part| {
            part == Condition::Upgrade || part_matches(condition, part, request) == Tri::Yes
        })
    };
    let mut conditions = ground.rules.iter().flat_map(|rule| rule.http.listed());
    request.connect || request.upgrade.is_some() && conditions.any(but_upgrade)
}

/// Of the first rule that may match, the first part that is not known.
fn why_unknown(rules: &[(&Arc<Rule>, Tri)], request: Option<&FlowRequest>) -> Why {
    let (Some((rule, _)), Some(request)) = (rules.first(), request) else {
        return Why::NoRequest;
    };
    let mut may_match = rule
        .http
        .listed()
        .iter()
        .filter(|condition| condition_matches(condition, request) == Tri::Unknown);
    let part = may_match.next().and_then(|condition| {
        PARTS
            .into_iter()
            .find(|part| part_matches(condition, *part, request) == Tri::Unknown)
    });
    Why::Rule {
        rule: rule.name.clone(),
        part: part.unwrap_or(Condition::Path),
    }
}
