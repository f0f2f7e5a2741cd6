//! Warnings about rules that are valid and yet hardly what someone meant.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use weft_identity::{RuleName, ServiceName};

use crate::{
    address::AddressRange,
    hints::nearest_of,
    lists::Match,
    rule::{Mode, Rule},
    source::{NamePattern, SourcePattern},
    sources::Sources,
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Allow/{rule}: {kind}")]
pub struct Warning {
    pub rule: RuleName,
    pub kind: WarningKind,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WarningKind {
    #[error("expired at {at}; it grants nothing")]
    Expired { at: Timestamp },
    #[error("says the same as {other}")]
    Duplicate { other: RuleName },
    #[error("adds nothing to {other}, which allows all of it")]
    Shadowed { other: RuleName },
    #[error("no service is named {service}{}", hint.as_ref().map(|h| format!("; did you mean {h}?")).unwrap_or_default())]
    UnknownService {
        service: ServiceName,
        hint: Option<String>,
    },
    #[error("`from: [\"*\"]` lets every workload of this trust domain in")]
    AnySource,
    #[error("`fromAddresses: [\"{range}\"]` stands for every plaintext source of that family")]
    AnyAddress { range: AddressRange },
    #[error(
        "has `fromAddresses` and no `from`: no sidecar accepts plaintext yet, so that it lets nothing in"
    )]
    PlaintextOnly,
}

/// `services`: those that exist, `None` when the caller does not know them.
pub fn lint(rules: &[Arc<Rule>], services: Option<&[ServiceName]>, now: Timestamp) -> Vec<Warning> {
    let mut by_service = BTreeMap::<_, Vec<&Arc<Rule>>>::new();
    for rule in rules {
        by_service.entry(&rule.service).or_default().push(rule);
    }
    let mut warnings = Vec::new();
    for rule in rules {
        let mut warn = |kind| {
            warnings.push(Warning {
                rule: rule.name.clone(),
                kind,
            });
        };
        if let Some(kind) = unknown_service(rule, services) {
            warn(kind);
        }
        if rule.from.identities().contains(&SourcePattern::AnyLocal) {
            warn(WarningKind::AnySource);
        }
        if rule.from.are_addresses_only() {
            warn(WarningKind::PlaintextOnly);
        }
        let addresses = rule.from.addresses().iter();
        for range in addresses.filter(|range| range.is_everything()) {
            warn(WarningKind::AnyAddress { range: *range });
        }
        match rule.expires {
            Some(at) if at <= now => warn(WarningKind::Expired { at }),
            _ => {
                let siblings = by_service.get(&rule.service).map(Vec::as_slice);
                if let Some(kind) = shadow(rule, siblings.unwrap_or_default(), now) {
                    warn(kind);
                }
            }
        }
    }
    warnings
}

fn unknown_service(rule: &Rule, services: Option<&[ServiceName]>) -> Option<WarningKind> {
    let services = services?;
    if services.contains(&rule.service) {
        return None;
    }
    let text = rule.service.to_string();
    Some(WarningKind::UnknownService {
        service: rule.service.clone(),
        hint: nearest_of(&text, services.iter().map(ToString::to_string)),
    })
}

/// Of two equal rules, the later by name is the duplicate.
fn shadow(rule: &Rule, siblings: &[&Arc<Rule>], now: Timestamp) -> Option<WarningKind> {
    if rule.mode == Mode::Audit || siblings.len() > COMPARED_LIMIT {
        return None;
    }
    let covering = siblings
        .iter()
        .filter(|other| other.name != rule.name && other.is_in_force(now))
        .filter(|other| covers(other, rule))
        .find(|other| !covers(rule, other) || other.name < rule.name)?;
    let other = covering.name.clone();
    Some(if covers(rule, covering) {
        WarningKind::Duplicate { other }
    } else {
        WarningKind::Shadowed { other }
    })
}

/// Whether all that `narrow` allows, `wide` allows for at least as long. May miss some, never claims too much.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let lasts = match (wide.expires, narrow.expires) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide >= narrow,
    };
    lasts
        && listed_in(&narrow.ports, &wide.ports)
        && sources_in(&narrow.from, &wide.from)
        && listed_in(&narrow.http, &wide.http)
}

fn listed_in<T: PartialEq>(narrow: &Match<T>, wide: &Match<T>) -> bool {
    match (narrow, wide) {
        (_, Match::Any) => true,
        (Match::Any, Match::OneOf(_)) => false,
        (Match::OneOf(narrow), Match::OneOf(wide)) => {
            narrow.iter().all(|n| wide.as_slice().contains(n))
        }
    }
}

fn sources_in(narrow: &Sources, wide: &Sources) -> bool {
    let (identities, addresses) = (wide.identities(), wide.addresses());
    let is_in = |range: &AddressRange| addresses.iter().any(|wide| wide.contains(range));
    narrow.identities().iter().all(|n| source_in(n, identities))
        && narrow.addresses().iter().all(is_in)
}

fn source_in(narrow: &SourcePattern, wide: &[SourcePattern]) -> bool {
    wide.iter().any(|wide| match (wide, narrow) {
        (SourcePattern::AnyLocal, SourcePattern::Local { .. }) => true,
        (
            SourcePattern::Local {
                namespace,
                name: NamePattern::Prefix(prefix),
            },
            SourcePattern::Local {
                namespace: inner,
                name,
            },
        ) => {
            let text = match name {
                NamePattern::Exact(name) => name.as_str(),
                NamePattern::Prefix(inner) => inner,
            };
            namespace == inner && text.starts_with(&**prefix)
        }
        _ => wide == narrow,
    })
}

/// Comparing each with each is quadratic; beyond this a service's rules are not compared.
const COMPARED_LIMIT: usize = 2_000;
