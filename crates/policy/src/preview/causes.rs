//! What of an edit changes a flow: the rules, quarantines and services that differ and that the flow meets.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{DnsLabel, RuleName, ServiceName, WorkloadName};

use super::ground::{Ground, Indexed};
use super::ruling::Judgement;
use crate::request::Reason;
use crate::rule::{Mode, Rule};

/// One difference between the two sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    RuleAdded(RuleName),
    RuleEdited(RuleName),
    RuleRemoved(RuleName),
    /// It no longer is in force at the later time.
    RuleExpires {
        rule: RuleName,
        at: Timestamp,
    },
    /// An end is under Quarantine or revoked: this workload of the service, or the source.
    Cut(Option<WorkloadName>, Reason),
    /// It no longer is.
    CutLifted(Option<WorkloadName>, Reason),
    ServiceEdited(ServiceName),
    /// Learn mode begins or ends there.
    LearnMode(DnsLabel),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RuleAdded(rule) => write!(f, "{rule} added"),
            Self::RuleEdited(rule) => write!(f, "{rule} edited"),
            Self::RuleRemoved(rule) => write!(f, "{rule} removed"),
            Self::RuleExpires { rule, at } => write!(f, "{rule} expires at {at}"),
            Self::Cut(end, reason) => write!(f, "{} {}", whom(end), cut_word(*reason)),
            Self::CutLifted(end, reason) => {
                write!(f, "{} no longer {}", whom(end), cut_word(*reason))
            }
            Self::ServiceEdited(service) => write!(f, "service {service} edited"),
            Self::LearnMode(namespace) => write!(f, "learn mode of {namespace}"),
        }
    }
}

fn whom(end: &Option<WorkloadName>) -> String {
    end.as_ref()
        .map_or_else(|| "the source".to_owned(), ToString::to_string)
}

fn cut_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Revoked => "revoked",
        Reason::Quarantined
        | Reason::NoRule
        | Reason::PathNotCanonical
        | Reason::Malformed
        | Reason::UpgradeNotAllowed
        | Reason::UnknownTarget
        | Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::PolicyUnreadable
        | Reason::Stale
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => "quarantined",
    }
}

type Judged<'a, 's> = (&'a Ground<'s>, &'a Judgement<'s>);

pub(super) fn causes(
    before: &Indexed<'_>,
    after: &Indexed<'_>,
    service: &ServiceName,
    (was, old): Judged<'_, '_>,
    (will_be, new): Judged<'_, '_>,
) -> Vec<Cause> {
    let mut causes = BTreeSet::new();
    if was.cut != will_be.cut {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (was.cut.ends().collect(), will_be.cut.ends().collect());
        let cut = new.difference(&old).cloned();
        causes.extend(cut.map(|(end, reason)| Cause::Cut(end, reason)));
        let lifted = old.difference(&new).cloned();
        causes.extend(lifted.map(|(end, reason)| Cause::CutLifted(end, reason)));
    }
    for (rule, _) in old.rules.iter().chain(&new.rules) {
        causes.extend(fate(before, after, service, &rule.name));
    }
    if was.service_facts() != will_be.service_facts() {
        causes.insert(Cause::ServiceEdited(service.clone()));
    }
    if was.learns != will_be.learns {
        causes.insert(Cause::LearnMode(service.namespace.clone()));
    }
    if causes.is_empty() {
        // rules for other sources matter by the form of requests that they ask for
        let forms = [was, will_be].into_iter().flat_map(|ground| {
            let paths = ground.spelled_paths.iter().copied();
            paths.chain(ground.headers.values().copied())
        });
        causes.extend(forms.filter_map(|name| fate(before, after, service, name)));
    }
    causes.into_iter().collect()
}

/// What becomes of a rule; `None`: nothing.
fn fate(
    before: &Indexed<'_>,
    after: &Indexed<'_>,
    service: &ServiceName,
    name: &RuleName,
) -> Option<Cause> {
    let name = name.clone();
    let (old, new) = match (before.rule(service, &name), after.rule(service, &name)) {
        (None, None) => return None,
        (Some(_), None) => return Some(Cause::RuleRemoved(name)),
        (None, Some(_)) => return Some(Cause::RuleAdded(name)),
        (Some(old), Some(new)) => (old, new),
    };
    if !Arc::ptr_eq(old, new) && old != new {
        return Some(Cause::RuleEdited(name));
    }
    let ends = |rule: &Rule| rule.expires.filter(|_| rule.mode == Mode::Enforce);
    let at = ends(new).filter(|at| *at > before.side.at && *at <= after.side.at)?;
    Some(Cause::RuleExpires { rule: name, at })
}
