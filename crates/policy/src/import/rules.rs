//! Grants → rules: one for each set of callers, with names that are ours.

use std::collections::{BTreeMap, BTreeSet};

use weft_identity::{DnsLabel, RuleName, ServiceName};

use super::{
    Import,
    grants::{Grant, simplified},
};
use crate::{
    lists::{Match, NonEmpty},
    rule::{Mode, Rule},
    source::SourcePattern,
    sources::Sources,
};

/// The rules for one service that say what `grants` say of each of its ports.
pub(super) fn rules(
    stem: &str,
    service: &ServiceName,
    grants: Vec<(DnsLabel, Vec<Grant>)>,
) -> Vec<Rule> {
    // ports of which the same is said share their rules
    let mut said: Vec<(Vec<DnsLabel>, Vec<Grant>)> = Vec::new();
    for (port, grants) in grants {
        let grants = simplified(grants);
        match said.iter_mut().find(|(_, other)| *other == grants) {
            Some((ports, _)) => ports.push(port),
            None => said.push((vec![port], grants)),
        }
    }
    said.into_iter()
        .flat_map(|(ports, grants)| {
            by_callers(grants)
                .into_iter()
                .filter_map(move |(from, grants)| rule(stem, service, ports.clone(), from, &grants))
        })
        .collect()
}

fn by_callers(grants: Vec<Grant>) -> Vec<(Vec<SourcePattern>, Vec<Grant>)> {
    let mut callers: Vec<(Vec<SourcePattern>, Vec<Grant>)> = Vec::new();
    for grant in grants {
        match callers.iter_mut().find(|(from, _)| *from == grant.from) {
            Some((_, grants)) => grants.push(grant),
            None => callers.push((grant.from.clone(), vec![grant])),
        }
    }
    callers
}

fn rule(
    stem: &str,
    service: &ServiceName,
    ports: Vec<DnsLabel>,
    from: Vec<SourcePattern>,
    grants: &[Grant],
) -> Option<Rule> {
    let conditions: Option<Vec<_>> = grants
        .iter()
        .map(|grant| grant.requests.condition())
        .collect();
    let http = match conditions {
        // one of them is everything
        None => Match::Any,
        Some(conditions) => Match::OneOf(NonEmpty::new(conditions)?),
    };
    Some(Rule {
        name: RuleName {
            namespace: service.namespace.clone(),
            name: label(&format!("{stem}-{}", service.name), "")?,
        },
        service: service.clone(),
        ports: Match::OneOf(NonEmpty::new(ports)?),
        from: Sources::new(from, Vec::new())?,
        http,
        expires: None,
        mode: Mode::Enforce,
    })
}

/// Gives rules of the same name a number each; equal rules stand once.
pub(super) fn name_apart(import: &mut Import) {
    let mut counts = BTreeMap::<RuleName, usize>::new();
    for rule in import.rules() {
        *counts.entry(rule.name.clone()).or_default() += 1;
    }
    let mut taken: BTreeSet<RuleName> = counts
        .iter()
        .filter(|(_, count)| **count == 1)
        .map(|(name, _)| name.clone())
        .collect();
    let rules = import
        .sections
        .iter_mut()
        .flat_map(|section| &mut section.rules);
    for rule in rules.filter(|rule| counts.get(&rule.name).is_some_and(|count| *count > 1)) {
        let numbered = (1..).map_while(|number| {
            let name = label(rule.name.name.as_str(), &format!("-{number}"))?;
            Some(RuleName {
                namespace: rule.name.namespace.clone(),
                name,
            })
        });
        if let Some(name) = numbered.into_iter().find(|name| !taken.contains(name)) {
            taken.insert(name.clone());
            rule.name = name;
        }
    }
}

/// A text as a label: object names may hold dots and be longer.
fn label(text: &str, end: &str) -> Option<DnsLabel> {
    let plain: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(LABEL_LIMIT.saturating_sub(end.len()))
        .collect();
    format!("{}{end}", plain.trim_matches('-')).parse().ok()
}

const LABEL_LIMIT: usize = 63;
