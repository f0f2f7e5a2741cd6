//! Rules by who may call: one part for each source that rules name, found without looking at the others.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weft_identity::{DnsLabel, SpiffeId, TrustDomain, WorkloadName};

use super::{Index, edit::Edit};
use crate::{
    rule::Rule,
    source::{NamePattern, SourcePattern},
};

/// What is compiled from the rules that name one source, sorted by name.
pub(super) trait Part {
    fn compile(rules: Vec<Arc<Rule>>) -> Self;
    fn rules(&self) -> &[Arc<Rule>];
}

#[derive(Debug)]
pub(super) struct Sources<P> {
    exact: Index<SpiffeId, Arc<P>>,
    /// By namespace.
    prefixes: Index<DnsLabel, Prefixes<P>>,
    any_local: Option<Arc<P>>,
}

impl<P> Default for Sources<P> {
    fn default() -> Self {
        Self {
            exact: Index::default(),
            prefixes: Index::default(),
            any_local: None,
        }
    }
}

impl<P> Sources<P> {
    /// The parts whose source matches. A rule that names several of them is in each.
    pub(super) fn matching<'s>(
        &'s self,
        source: &SpiffeId,
        trust_domain: &TrustDomain,
    ) -> Matching<'s, P> {
        let mut matching = Matching {
            exact: self.exact.get(source),
            any_local: None,
            prefixes: Chain::default(),
        };
        let has_patterns = self.any_local.is_some() || !self.prefixes.is_empty();
        if has_patterns
            && source.is_in(trust_domain)
            && let Some((namespace, name)) = source.workload_parts()
        {
            matching.any_local = self.any_local.as_ref();
            if let Some(prefixes) = self.prefixes.get(namespace) {
                matching.prefixes = prefixes.of(name);
            }
        }
        matching
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Arc<P>> {
        let prefixes = self.prefixes.values();
        let prefixed = prefixes.flat_map(|prefixes| prefixes.0.iter().map(|entry| &entry.part));
        self.exact.values().chain(prefixed).chain(&self.any_local)
    }

    #[cfg(test)]
    pub(super) fn by_pattern(&self) -> BTreeMap<String, &Arc<P>> {
        let exact = self.exact.iter().map(|(id, part)| (id.to_string(), part));
        let prefixes = self.prefixes.iter().flat_map(|(namespace, prefixes)| {
            let entries = prefixes.0.iter();
            entries.map(move |entry| (format!("{namespace}/{}*", entry.text), &entry.part))
        });
        let any_local = self.any_local.iter().map(|part| ("*".to_owned(), part));
        exact.chain(prefixes).chain(any_local).collect()
    }
}

impl<P: Part> Sources<P> {
    /// These after an edit. Parts of sources that the edit does not name are the same ones.
    pub(super) fn edited(&self, edit: &Edit, trust_domain: &TrustDomain) -> Self {
        let mut exact = self.exact.clone();
        let mut prefixes = self.prefixes.clone();
        let mut any_local = self.any_local.clone();
        let mut by_namespace = HashMap::<DnsLabel, Vec<(Box<str>, Edit)>>::new();
        let parts = edit.by(|rule| {
            let sources = rule.from.identities().iter();
            sources
                .map(|source| Key::of(source, trust_domain))
                .collect()
        });
        for (key, edit) in parts {
            match key {
                Key::Exact(id) => match recompiled(exact.get(&id), &edit) {
                    Some(part) => drop(exact.insert(id, part)),
                    None => drop(exact.remove(&id)),
                },
                Key::Prefix(namespace, prefix) => {
                    by_namespace
                        .entry(namespace)
                        .or_default()
                        .push((prefix, edit));
                }
                Key::AnyLocal => any_local = recompiled(any_local.as_ref(), &edit),
            }
        }
        for (namespace, edits) in by_namespace {
            let edited = prefixes
                .remove(&namespace)
                .unwrap_or_default()
                .edited(edits);
            if !edited.0.is_empty() {
                prefixes.insert(namespace, edited);
            }
        }
        Self {
            exact,
            prefixes,
            any_local,
        }
    }
}

/// `None` when no rule is left.
pub(super) fn recompiled<P: Part>(old: Option<&Arc<P>>, edit: &Edit) -> Option<Arc<P>> {
    let rules = edit.applied_to(old.map_or(&[], |part| part.rules()));
    (!rules.is_empty()).then(|| Arc::new(P::compile(rules)))
}

/// A source pattern in the form in which it is looked up.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Exact(SpiffeId),
    Prefix(DnsLabel, Box<str>),
    AnyLocal,
}

impl Key {
    fn of(pattern: &SourcePattern, trust_domain: &TrustDomain) -> Self {
        match pattern {
            SourcePattern::AnyLocal => Self::AnyLocal,
            SourcePattern::Local {
                namespace,
                name: NamePattern::Exact(name),
            } => Self::Exact(SpiffeId::for_workload(
                trust_domain,
                &WorkloadName {
                    namespace: namespace.clone(),
                    name: name.clone(),
                },
            )),
            SourcePattern::Local {
                namespace,
                name: NamePattern::Prefix(prefix),
            } => Self::Prefix(namespace.clone(), prefix.clone()),
            SourcePattern::Exact(id) => Self::Exact(id.clone()),
        }
    }
}

/// Prefixes of one namespace, sorted. Those that begin a name are one of them and those that begin that one in turn.
#[derive(Debug)]
struct Prefixes<P>(Box<[Prefix<P>]>);

#[derive(Debug)]
struct Prefix<P> {
    text: Box<str>,
    /// Where the longest other one stands that this begins with.
    shorter: Option<usize>,
    part: Arc<P>,
}

impl<P> Default for Prefixes<P> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<P> Clone for Prefixes<P> {
    fn clone(&self) -> Self {
        Self::new(self.by_text())
    }
}

impl<P> Prefixes<P> {
    fn new(parts: BTreeMap<Box<str>, Arc<P>>) -> Self {
        let mut prefixes = Vec::<Prefix<P>>::with_capacity(parts.len());
        for (text, part) in parts {
            let mut shorter = prefixes.len().checked_sub(1);
            while let Some(before) = shorter.and_then(|place| prefixes.get(place)) {
                if text.starts_with(&*before.text) {
                    break;
                }
                shorter = before.shorter;
            }
            prefixes.push(Prefix {
                text,
                shorter,
                part,
            });
        }
        Self(prefixes.into())
    }

    fn by_text(&self) -> BTreeMap<Box<str>, Arc<P>> {
        let entries = self.0.iter();
        entries
            .map(|entry| (entry.text.clone(), Arc::clone(&entry.part)))
            .collect()
    }

    fn of(&self, name: &str) -> Chain<'_, P> {
        // whatever begins the name is not after it, and begins all that lies between
        let after = self.0.partition_point(|entry| *entry.text <= *name);
        let mut next = after.checked_sub(1);
        while let Some(entry) = next.and_then(|place| self.0.get(place)) {
            if name.starts_with(&*entry.text) {
                break;
            }
            next = entry.shorter;
        }
        Chain { all: &self.0, next }
    }
}

impl<P: Part> Prefixes<P> {
    fn edited(&self, edits: Vec<(Box<str>, Edit)>) -> Self {
        let mut parts = self.by_text();
        for (text, edit) in edits {
            match recompiled(parts.get(&text), &edit) {
                Some(part) => drop(parts.insert(text, part)),
                None => drop(parts.remove(&text)),
            }
        }
        Self::new(parts)
    }
}

/// Walks from the longest prefix of a name to the shortest.
#[derive(Debug)]
struct Chain<'s, P> {
    all: &'s [Prefix<P>],
    next: Option<usize>,
}

impl<P> Default for Chain<'_, P> {
    fn default() -> Self {
        Self {
            all: &[],
            next: None,
        }
    }
}

impl<P> Clone for Chain<'_, P> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'s, P> Iterator for Chain<'s, P> {
    type Item = &'s Arc<P>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.all.get(self.next?)?;
        self.next = entry.shorter;
        Some(&entry.part)
    }
}

/// The parts that match one source, in no order.
#[derive(Debug)]
pub(super) struct Matching<'s, P> {
    exact: Option<&'s Arc<P>>,
    any_local: Option<&'s Arc<P>>,
    prefixes: Chain<'s, P>,
}

impl<P> Clone for Matching<'_, P> {
    fn clone(&self) -> Self {
        Self {
            prefixes: self.prefixes.clone(),
            ..*self
        }
    }
}

impl<'s, P> Iterator for Matching<'s, P> {
    type Item = &'s Arc<P>;

    fn next(&mut self) -> Option<Self::Item> {
        let single = self.exact.take().or_else(|| self.any_local.take());
        single.or_else(|| self.prefixes.next())
    }
}
