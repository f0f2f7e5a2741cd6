//! Rules by who may call: one part for each source that rules name, found without looking at the others.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use smallvec::SmallVec;
use smol_str::SmolStr;
use weft_identity::{DnsLabel, SpiffeId, TrustDomain, WorkloadName};

use super::{
    edit::Edit,
    table::{Keyed, Table, Text},
};
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
    /// By what [`exact_key`] says.
    exact: Table<Arc<Exact<P>>>,
    /// By namespace.
    prefixes: Table<Arc<Prefixes<P>>>,
    any_local: Option<Arc<P>>,
}

/// What is compiled for one identity, after the text that names it: whoever has compared that has this at hand.
#[derive(Debug)]
#[repr(C)]
struct Exact<P> {
    key: Text,
    part: P,
}

impl<P> Keyed for Exact<P> {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// A local workload goes by its path without `/ns/`, any other identity by its whole ID. Only that holds a `:`, so that they never collide.
fn exact_key<'i>(id: &'i SpiffeId, trust_domain: &TrustDomain) -> &'i str {
    let local = id.workload_path();
    let local = local.filter(|_| id.is_in(trust_domain));
    local.unwrap_or(id.as_str())
}

impl<P> Default for Sources<P> {
    fn default() -> Self {
        Self {
            exact: Table::default(),
            prefixes: Table::default(),
            any_local: None,
        }
    }
}

impl<P> Clone for Sources<P> {
    fn clone(&self) -> Self {
        Self {
            exact: self.exact.clone(),
            prefixes: self.prefixes.clone(),
            any_local: self.any_local.clone(),
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
        let key = exact_key(source, trust_domain).as_bytes();
        let local = source.workload_parts();
        let local = local.filter(|_| source.is_in(trust_domain));
        let prefixes = local.and_then(|(namespace, name)| {
            let prefixes = self.prefixes.get(namespace.as_bytes())?;
            Some(prefixes.of(name))
        });
        Matching {
            exact: self.exact.get(key).map(|exact| &exact.part),
            any_local: local.and(self.any_local.as_deref()),
            prefixes: prefixes.unwrap_or_default(),
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &P> {
        let exact = self.exact.iter().map(|exact| &exact.part);
        let prefixes = self.prefixes.iter().flat_map(|prefixes| &prefixes.all);
        let prefixed = prefixes.map(|prefix| &*prefix.part);
        exact.chain(prefixed).chain(self.any_local.as_deref())
    }

    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        let any_local = self.any_local.as_ref().map(Arc::as_ptr);
        self.exact.is(&other.exact)
            && self.prefixes.is(&other.prefixes)
            && any_local == other.any_local.as_ref().map(Arc::as_ptr)
    }

    #[cfg(test)]
    pub(super) fn by_pattern(&self) -> BTreeMap<String, &P> {
        let exact = self.exact.iter().map(|exact| {
            let key = String::from_utf8(exact.key.to_vec()).unwrap();
            (key, &exact.part)
        });
        let prefixes = self.prefixes.iter().flat_map(|prefixes| {
            let entries = prefixes.all.iter();
            entries.map(|entry| {
                let pattern = format!("{}/{}*", prefixes.namespace, entry.text);
                (pattern, &*entry.part)
            })
        });
        let any_local = self.any_local.iter().map(|part| ("*".to_owned(), &**part));
        exact.chain(prefixes).chain(any_local).collect()
    }
}

impl<P: Part> Sources<P> {
    /// These after an edit. Parts of sources that the edit does not name are the same ones.
    pub(super) fn edited(&self, edit: &Edit, trust_domain: &TrustDomain) -> Self {
        let mut exact = HashMap::new();
        let mut by_namespace = HashMap::<DnsLabel, Vec<(SmolStr, Edit)>>::new();
        let mut any_local = self.any_local.clone();
        let parts = edit.by(|rule| {
            let sources = rule.from.identities().iter();
            sources
                .map(|source| Key::of(source, trust_domain))
                .collect()
        });
        for (key, edit) in parts {
            match key {
                Key::Exact(id) => {
                    let key = Text::from(exact_key(&id, trust_domain).as_bytes());
                    let old = self.exact.get(&key).map(|exact| &exact.part);
                    let part = recompiled(old, &edit);
                    let new = part.map(|part| Exact {
                        key: key.clone(),
                        part,
                    });
                    exact.insert(key, new);
                }
                Key::Prefix(namespace, prefix) => {
                    let edits = by_namespace.entry(namespace).or_default();
                    edits.push((prefix, edit));
                }
                Key::AnyLocal => {
                    any_local = recompiled(any_local.as_deref(), &edit).map(Arc::new);
                }
            }
        }
        let prefixes = by_namespace.into_iter().map(|(namespace, edits)| {
            let key = Text::from(namespace.as_str().as_bytes());
            let old = self.prefixes.get(&key);
            let all = old.map(|old| old.by_text()).unwrap_or_default();
            (key, Prefixes::edited(&namespace, all, edits))
        });
        Self {
            prefixes: self.prefixes.with(prefixes.collect()),
            exact: self.exact.with(exact),
            any_local,
        }
    }
}

/// `None` when no rule is left.
pub(super) fn recompiled<P: Part>(old: Option<&P>, edit: &Edit) -> Option<P> {
    let rules = edit.applied_to(old.map_or(&[], |part| part.rules()));
    (!rules.is_empty()).then(|| P::compile(rules))
}

/// A source pattern in the form in which it is looked up.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Exact(SpiffeId),
    Prefix(DnsLabel, SmolStr),
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
            } => Self::Prefix(namespace.clone(), SmolStr::new(prefix)),
            SourcePattern::Exact(id) => Self::Exact(id.clone()),
        }
    }
}

/// Prefixes of one namespace, sorted. Those that begin a name are one of them and those that begin that one in turn.
#[derive(Debug)]
struct Prefixes<P> {
    namespace: SmolStr,
    all: SmallVec<[Prefix<P>; 1]>,
}

#[derive(Debug)]
struct Prefix<P> {
    text: SmolStr,
    /// Where the longest other one stands that this begins with.
    shorter: Option<usize>,
    part: Arc<P>,
}

impl<P> Keyed for Prefixes<P> {
    fn key(&self) -> &[u8] {
        self.namespace.as_bytes()
    }
}

impl<P> Prefixes<P> {
    fn new(namespace: &DnsLabel, parts: BTreeMap<SmolStr, Arc<P>>) -> Self {
        let mut all = SmallVec::<[Prefix<P>; 1]>::with_capacity(parts.len());
        for (text, part) in parts {
            let mut shorter = all.len().checked_sub(1);
            while let Some(before) = shorter.and_then(|place| all.get(place)) {
                if text.starts_with(&*before.text) {
                    break;
                }
                shorter = before.shorter;
            }
            all.push(Prefix {
                text,
                shorter,
                part,
            });
        }
        Self {
            namespace: namespace.as_str().into(),
            all,
        }
    }

    fn by_text(&self) -> BTreeMap<SmolStr, Arc<P>> {
        let entries = self.all.iter();
        entries
            .map(|entry| (entry.text.clone(), Arc::clone(&entry.part)))
            .collect()
    }

    fn of(&self, name: &str) -> Chain<'_, P> {
        // whatever begins the name is not after it, and begins all that lies between
        let after = self.all.partition_point(|entry| *entry.text <= *name);
        let mut next = after.checked_sub(1);
        while let Some(entry) = next.and_then(|place| self.all.get(place)) {
            if name.starts_with(&*entry.text) {
                break;
            }
            next = entry.shorter;
        }
        Chain {
            all: &self.all,
            next,
        }
    }
}

impl<P: Part> Prefixes<P> {
    /// `None` when no prefix is left.
    fn edited(
        namespace: &DnsLabel,
        mut parts: BTreeMap<SmolStr, Arc<P>>,
        edits: Vec<(SmolStr, Edit)>,
    ) -> Option<Self> {
        for (text, edit) in edits {
            match recompiled(parts.get(&text).map(|part| &**part), &edit) {
                Some(part) => drop(parts.insert(text, Arc::new(part))),
                None => drop(parts.remove(&text)),
            }
        }
        (!parts.is_empty()).then(|| Self::new(namespace, parts))
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
    type Item = &'s P;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.all.get(self.next?)?;
        self.next = entry.shorter;
        Some(&*entry.part)
    }
}

/// The parts that match one source, in no order.
#[derive(Debug)]
pub(super) struct Matching<'s, P> {
    exact: Option<&'s P>,
    any_local: Option<&'s P>,
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
    type Item = &'s P;

    fn next(&mut self) -> Option<Self::Item> {
        let single = self.exact.take().or_else(|| self.any_local.take());
        single.or_else(|| self.prefixes.next())
    }
}
