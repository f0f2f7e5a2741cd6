//! What a proposed rule rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::SpiffeId;

use super::{Basis, set_of, verdict_of};
use crate::flow::Flow;
use crate::rule::Rule;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Connections and requests that the rule allows.
    pub count: u64,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub sources: BTreeSet<SpiffeId>,
    /// How many paths of different form.
    pub paths: usize,
    /// The most frequent kinds of request, the first the most frequent; at most three.
    pub examples: Vec<Example>,
    /// How many kinds of request there are besides the examples.
    pub more: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// A method and a folded path, or what else was seen.
    pub text: String,
    pub count: u64,
}

impl Evidence {
    /// Of those flows, what the rule by itself allows.
    pub(crate) fn of(rule: &Arc<Rule>, flows: &[&Flow], basis: &Basis<'_>) -> Self {
        let set = set_of(basis.world, &rule.service, std::slice::from_ref(rule));
        let mut evidence = Self::default();
        let mut kinds = BTreeMap::<String, u64>::new();
        let mut paths = BTreeSet::new();
        for flow in flows {
            let is_its = flow.key.target.service == rule.service
                && verdict_of(&set, flow, basis.now).is_ok();
            if !is_its {
                continue;
            }
            evidence.see(flow);
            let count = kinds.entry(kind(flow)).or_default();
            *count = count.saturating_add(flow.count);
            let request = flow.key.request.as_ref();
            paths.extend(request.and_then(|request| request.path.as_ref()));
        }
        evidence.paths = paths.len();
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(text, count)| (std::cmp::Reverse(*count), text.clone()));
        evidence.more = kinds.len().saturating_sub(EXAMPLES);
        evidence.examples = kinds
            .into_iter()
            .take(EXAMPLES)
            .map(|(text, count)| Example { text, count })
            .collect();
        evidence
    }

    fn see(&mut self, flow: &Flow) {
        self.count = self.count.saturating_add(flow.count);
        let first = self.first_seen.unwrap_or(flow.first_seen);
        self.first_seen = Some(first.min(flow.first_seen));
        let last = self.last_seen.unwrap_or(flow.last_seen);
        self.last_seen = Some(last.max(flow.last_seen));
        self.sources.insert(flow.key.source.clone());
    }
}

fn kind(flow: &Flow) -> String {
    let Some(request) = &flow.key.request else {
        return "connections of bytes".to_owned();
    };
    let path = request.path.as_ref().map_or("", |path| path.as_str());
    match (&request.upgrade, request.connect) {
        (_, true) => format!("CONNECT {path}").trim_end().to_owned(),
        (Some(upgrade), false) => format!("{} {path} (upgrade: {upgrade})", request.method),
        (None, false) => format!("{} {path}", request.method),
    }
}

const EXAMPLES: usize = 3;
