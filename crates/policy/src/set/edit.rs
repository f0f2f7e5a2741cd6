//! What differs between two lists of rules: all that is compiled anew.

use std::{cmp::Ordering, collections::HashMap, hash::Hash, sync::Arc};

use weft_identity::RuleName;

use crate::rule::Rule;

/// Rules that go and rules that come, each by name. A rule that changed does both.
#[derive(Debug, Clone, Default)]
pub(super) struct Edit {
    removed: Vec<Arc<Rule>>,
    added: Vec<Arc<Rule>>,
}

impl Edit {
    pub(super) fn adding(rules: Vec<Arc<Rule>>) -> Self {
        Self {
            removed: Vec::new(),
            added: rules,
        }
    }

    /// What leads from `old` to `new`, both sorted by name; and `new`, with the old values where they are the same.
    pub(super) fn between(old: &[Arc<Rule>], new: &[Arc<Rule>]) -> (Self, Vec<Arc<Rule>>) {
        let mut edit = Self::default();
        let mut rules = Vec::with_capacity(new.len());
        let (mut old, mut new) = (by_name(old).peekable(), by_name(new).peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return (edit, rules),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(goes), Some(comes)) => name(goes).cmp(&name(comes)),
            };
            let goes = old.next_if(|_| order.is_le()).unwrap_or_default();
            let comes = new.next_if(|_| order.is_ge()).unwrap_or_default();
            if goes == comes {
                rules.extend_from_slice(goes);
            } else {
                edit.removed.extend_from_slice(goes);
                edit.added.extend_from_slice(comes);
                rules.extend_from_slice(comes);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// The part of it that is about some rules only.
    pub(super) fn only(&self, about: impl Fn(&Rule) -> bool) -> Self {
        let only = |rules: &[Arc<Rule>]| {
            let rules = rules.iter().filter(|rule| about(rule));
            rules.cloned().collect()
        };
        Self {
            removed: only(&self.removed),
            added: only(&self.added),
        }
    }

    /// Its parts by key. A rule has any number of keys, and is once in the part of each.
    pub(super) fn by<K: Eq + Hash>(&self, keys: impl Fn(&Rule) -> Vec<K>) -> HashMap<K, Self> {
        let mut parts = HashMap::<K, Self>::new();
        for rule in &self.removed {
            for key in keys(rule) {
                push_once(&mut parts.entry(key).or_default().removed, rule);
            }
        }
        for rule in &self.added {
            for key in keys(rule) {
                push_once(&mut parts.entry(key).or_default().added, rule);
            }
        }
        parts
    }

    /// `rules`, which are sorted by name, after it.
    pub(super) fn applied_to(&self, rules: &[Arc<Rule>]) -> Vec<Arc<Rule>> {
        let goes = |rule: &Arc<Rule>| {
            let found = self
                .removed
                .binary_search_by(|gone| gone.name.cmp(&rule.name));
            found.is_ok()
        };
        let stays = rules.iter().filter(|rule| !goes(rule));
        let mut rules: Vec<_> = stays.chain(&self.added).cloned().collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        rules
    }
}

/// Rules of one name lie together; there is one, unless a caller has two of a name.
fn by_name(rules: &[Arc<Rule>]) -> impl Iterator<Item = &[Arc<Rule>]> {
    rules.chunk_by(|a, b| a.name == b.name)
}

fn name(run: &[Arc<Rule>]) -> Option<&RuleName> {
    run.first().map(|rule| &rule.name)
}

fn push_once(rules: &mut Vec<Arc<Rule>>, rule: &Arc<Rule>) {
    if rules.last().is_none_or(|last| !Arc::ptr_eq(last, rule)) {
        rules.push(Arc::clone(rule));
    }
}
