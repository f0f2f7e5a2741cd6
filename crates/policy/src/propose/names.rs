//! Names of proposed rules: who calls whom, free and always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_identity::{DnsLabel, RuleName, ServiceName, SpiffeId, TrustDomain};

use super::drafts::{Draft, Shared};
use crate::lists::{Match, NonEmpty};
use crate::rule::{Mode, Rule};
use crate::source::SourcePattern;
use crate::world::World;

/// A rule of the mesh never loses its name to a proposed one, which `apply` would put in its place.
pub(super) fn named(drafts: BTreeMap<Draft, Shared>, world: &World) -> Vec<Arc<Rule>> {
    let mut taken: BTreeSet<RuleName> = world.rules.iter().map(|rule| rule.name.clone()).collect();
    let mut wanted: Vec<_> = drafts
        .into_iter()
        .map(|(draft, shared)| {
            let base = base(&draft.service, &shared.sources, &world.trust_domain);
            let ending = shared.endings.first().cloned().unwrap_or_default();
            (draft.service.clone(), base, ending, draft, shared.sources)
        })
        .collect();
    wanted.sort();
    let mut rules: Vec<_> = wanted
        .into_iter()
        .filter_map(|(service, base, ending, draft, sources)| {
            let name = free(&service.namespace, &base, &ending, &taken)?;
            taken.insert(name.clone());
            rule(name, draft, &sources, &world.trust_domain).map(Arc::new)
        })
        .collect();
    rules.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
    rules
}

fn rule(
    name: RuleName,
    draft: Draft,
    sources: &BTreeSet<SpiffeId>,
    trust_domain: &TrustDomain,
) -> Option<Rule> {
    let http = match draft.http {
        None => Match::Any,
        Some(conditions) => {
            let mut ordered: Vec<_> = conditions.into_iter().collect();
            ordered.sort_by_cached_key(|condition| condition.order());
            let http = ordered.iter().map(|condition| condition.to_http());
            Match::OneOf(NonEmpty::new(http.collect::<Option<_>>()?)?)
        }
    };
    let from = sources
        .iter()
        .map(|source| SourcePattern::for_id(source, trust_domain));
    Some(Rule {
        name,
        service: draft.service,
        ports: Match::OneOf(NonEmpty::new(draft.ports.into_iter().collect())?),
        from: NonEmpty::new(from.collect::<Vec<_>>())?.into(),
        http,
        expires: None,
        mode: Mode::Enforce,
    })
}

/// `web-to-api`, `batch-and-web-to-api`, `many-to-api`.
fn base(service: &ServiceName, sources: &BTreeSet<SpiffeId>, trust_domain: &TrustDomain) -> String {
    let names: Vec<_> = sources
        .iter()
        .take(3)
        .map(|source| caller(source, service, trust_domain))
        .collect();
    let callers = match names.as_slice() {
        [one] => one.clone(),
        [one, other] => format!("{one}-and-{other}"),
        _ => "many".to_owned(),
    };
    format!("{callers}-to-{}", service.name.as_str())
}

/// Where it is not of the service's own namespace, that stands before its name; before that, a foreign trust domain's first label.
fn caller(source: &SpiffeId, service: &ServiceName, trust_domain: &TrustDomain) -> String {
    let Some(workload) = source.workload() else {
        return "other".to_owned();
    };
    let mut name = workload.name.as_str().to_owned();
    if workload.namespace != service.namespace || !source.is_in(trust_domain) {
        name = format!("{}-{name}", workload.namespace.as_str());
    }
    if !source.is_in(trust_domain) {
        let foreign = source.trust_domain_str().split('.').next();
        let foreign = foreign.filter(|label| DnsLabel::is_valid(label));
        name = format!("{}-{name}", foreign.unwrap_or("foreign"));
    }
    name
}

fn free(
    namespace: &DnsLabel,
    base: &str,
    ending: &str,
    taken: &BTreeSet<RuleName>,
) -> Option<RuleName> {
    // the first is not numbered
    let numbered = |number: usize| match number {
        1 => ending.to_owned(),
        _ => format!("{ending}-{number}"),
    };
    (1..NAMES_TRIED).find_map(|number| {
        let ending: String = numbered(number).chars().take(ENDING_LIMIT).collect();
        let room = LABEL_LIMIT.saturating_sub(ending.len());
        let base: String = base.chars().take(room).collect();
        let text = format!("{}{ending}", base.trim_end_matches('-'));
        let name = RuleName {
            namespace: namespace.clone(),
            name: text.trim_end_matches('-').parse().ok()?,
        };
        (!taken.contains(&name)).then_some(name)
    })
}

const LABEL_LIMIT: usize = 63;
const ENDING_LIMIT: usize = 40;
const NAMES_TRIED: usize = 100_000;
