//! What rules in Audit mode match: counted for each rule, and told in the log at most once a minute. They grant nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use weft_identity::{RuleName, ServicePort, SpiffeId};

use crate::metrics::{Metrics, RuleLabel};

/// The counts; clones share them.
#[derive(Clone)]
pub struct Trials {
    metrics: Arc<Metrics>,
    told: Arc<DashMap<RuleName, Told>>,
}

struct Told {
    at: Instant,
    since: u64,
}

impl Trials {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            told: Arc::default(),
        }
    }

    /// Something that the rule would allow was judged, whatever the verdict.
    pub fn note(&self, rule: &RuleName, source: &SpiffeId, target: &ServicePort) {
        if self.told.len() >= MOST_RULES && !self.told.contains_key(rule) {
            return;
        }
        let label = RuleLabel {
            rule: rule.to_string(),
        };
        self.metrics.audit_matches.get_or_create(&label).inc();
        let now = Instant::now();
        let count = match self.told.entry(rule.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Told { at: now, since: 0 });
                1
            }
            Entry::Occupied(mut known) => {
                let told = known.get_mut();
                told.since += 1;
                if now.duration_since(told.at) < TELL_EVERY {
                    return;
                }
                told.at = now;
                std::mem::take(&mut told.since)
            }
        };
        tracing::info!(%rule, %source, %target, count, "a rule in Audit mode matches");
    }
}

/// Rules that are counted; more are not, until a restart.
const MOST_RULES: usize = 1000;
const TELL_EVERY: Duration = Duration::from_secs(60);
