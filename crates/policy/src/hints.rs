//! What else an operator should look at: typos, expired rules, rules in Audit mode.

use crate::{
    explain::{Judged, Question},
    request::{Condition, Reason},
    source::SourcePattern,
    sources::Source,
};

pub(crate) fn hints(judged: &[Judged<'_>], question: &Question<'_>, reason: Reason) -> Vec<String> {
    let mut hints = Vec::new();
    hints.extend(hint_of_reason(reason).map(str::to_owned));
    hints.extend(hint_of_outside(question, reason));
    if judged.is_empty() && reason == Reason::NoRule {
        hints.push(format!("no rule is about {}", question.target.service));
    }
    hints.extend(hints_of_source(question));
    hints.extend(unknown_source(question));
    for judged in judged.iter().take(RULES_LIMIT) {
        hints.extend(hint_of_rule(judged, question));
    }
    hints.truncate(HINTS_LIMIT);
    hints
}

fn hint_of_reason(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Quarantined => Some("one end is under Quarantine, which beats every rule"),
        Reason::PathNotCanonical => Some(
            "a rule for this port has path conditions, so paths must be in canonical form: no rule can allow this one",
        ),
        Reason::Malformed => Some("a header that a rule for this port names came more than once"),
        Reason::UpgradeNotAllowed => {
            Some("an upgrade needs a rule that names it, CONNECT a rule without HTTP conditions")
        }
        Reason::NoRule
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::PolicyUnreadable
        | Reason::Stale
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => None,
    }
}

/// What is so of the source whatever the verdict.
pub(crate) fn hints_of_source(question: &Question<'_>) -> Vec<String> {
    match question.source {
        Source::Identity(_) => Vec::new(),
        Source::Address(_) => vec![NO_PLAINTEXT.to_owned()],
    }
}

/// What of a destination outside of the mesh refuses it.
fn hint_of_outside(question: &Question<'_>, reason: Reason) -> Option<String> {
    let service = &question.target.service;
    question.outside?.services.port(question.target)?;
    match reason {
        Reason::Misdirected => Some(format!(
            "spec.hosts of {service} do not name that host, or it is not the one that was asked for"
        )),
        Reason::WrongProtocol => Some(format!(
            "port {} of {service} is declared for another protocol",
            question.target.port
        )),
        Reason::UnknownTarget => Some(format!(
            "bytes name no host, and {service} has no single exact one"
        )),
        Reason::ForbiddenAddress => Some(format!(
            "the host may not lead there unless spec.allowAddresses of {service} lists it"
        )),
        Reason::NoRule
        | Reason::Quarantined
        | Reason::Revoked
        | Reason::PathNotCanonical
        | Reason::Malformed
        | Reason::UpgradeNotAllowed
        | Reason::PolicyUnreadable
        | Reason::Stale
        | Reason::Unauthenticated => None,
    }
}

fn unknown_source(question: &Question<'_>) -> Option<String> {
    let id = question.source.identity()?;
    let source = id.workload()?;
    let known = question.known_workloads;
    if known.is_empty() || known.contains(&source) || !id.is_in(question.trust_domain) {
        return None;
    }
    let nearest = nearest_of(&source.to_string(), known.iter().map(ToString::to_string));
    Some(match nearest {
        Some(nearest) => format!("no workload is named {source}; did you mean {nearest}?"),
        None => format!("no workload is named {source}"),
    })
}

fn hint_of_rule(judged: &Judged<'_>, question: &Question<'_>) -> Option<String> {
    let name = &judged.rule.name;
    match judged.failed.as_slice() {
        [Condition::Expired] => {
            let at = judged.rule.expires?;
            Some(format!("rule {name} would allow this; it expired at {at}"))
        }
        [Condition::Audit] => Some(format!(
            "rule {name} would allow this; it is in Audit mode and grants nothing"
        )),
        [Condition::Path] => path_hint(judged, question),
        [Condition::Source, ..] => source_hint(judged, question),
        [Condition::Port, ..] => {
            let port = question.target.port.to_string();
            let nearest = nearest_of(
                &port,
                judged.rule.ports.listed().iter().map(ToString::to_string),
            )?;
            Some(format!("rule {name} names port {nearest}, not {port}"))
        }
        _ => None,
    }
}

/// A source that differs by a letter or two, and that no workload has as far as is known.
fn source_hint(judged: &Judged<'_>, question: &Question<'_>) -> Option<String> {
    question.source.identity()?;
    let source = question.source_text();
    let is_unknown = |pattern: &&SourcePattern| {
        pattern
            .exact(question.trust_domain)
            .is_some_and(|id| match id.workload() {
                Some(workload) => !question.known_workloads.contains(&workload),
                None => true,
            })
    };
    let candidates = judged.rule.from.identities().iter().filter(is_unknown);
    let nearest = nearest_of(&source, candidates.map(ToString::to_string))?;
    let name = &judged.rule.name;
    Some(if question.known_workloads.is_empty() {
        format!("rule {name} names {nearest}, which is nearly {source}: a typo?")
    } else {
        format!("rule {name} names {nearest}, which no workload has; did it mean {source}?")
    })
}

fn path_hint(judged: &Judged<'_>, question: &Question<'_>) -> Option<String> {
    question.http?;
    let path = question.path_text();
    let name = &judged.rule.name;
    let patterns = judged.http?.paths.listed();
    let other = match path.strip_suffix('/') {
        Some(short) => short.to_owned(),
        None => format!("{path}/"),
    };
    if patterns.iter().any(|pattern| pattern.matches(&other)) {
        return Some(format!(
            "rule {name} would allow {other}: the final `/` matters"
        ));
    }
    let lower = path.to_ascii_lowercase();
    let differs_by_case = patterns.iter().any(|pattern| {
        let pattern = pattern.as_str().to_ascii_lowercase();
        pattern
            .parse::<crate::path::PathPattern>()
            .is_ok_and(|pattern| pattern.matches(&lower))
    });
    differs_by_case
        .then(|| format!("rule {name} would allow this path in another case: case matters"))
}

/// The candidate that `text` is likely a misspelling of; not `text` itself.
pub(crate) fn nearest_of(text: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(text, &candidate), candidate))
        .filter(|(distance, _)| (1..=TYPO_DISTANCE).contains(distance))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Nothing is promised that does not exist: see sentences 58 and 71 of docs/POLICY.md.
const NO_PLAINTEXT: &str = "no sidecar accepts plaintext yet: this is what the rules say, and such a connection is refused before they are asked";
const TYPO_DISTANCE: usize = 2;
const RULES_LIMIT: usize = 50;
const HINTS_LIMIT: usize = 10;
