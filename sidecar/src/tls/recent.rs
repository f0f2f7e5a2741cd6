//! A map that forgets what was not asked for lately, so that nobody who makes entries can make it grow.
//!
//! Invariant: what is kept never weighs more than twice the limit. Entries are young or old; when the young ones weigh too much they
//! become the old ones, and the old ones go. Who is found is young again.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

pub(super) struct Recent<K, V> {
    limit: usize,
    weight: usize,
    young: HashMap<K, Entry<V>>,
    old: HashMap<K, Entry<V>>,
}

struct Entry<V> {
    value: V,
    weight: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            weight: 0,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(super) fn find<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some((key, entry)) = self.old.remove_entry(key) {
            self.insert(key, entry.value, entry.weight);
        }
        self.young.get(key).map(|entry| &entry.value)
    }

    /// Keeps an entry; one that alone weighs more than the limit is not kept.
    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.limit {
            return;
        }
        if self.weight.saturating_add(weight) > self.limit {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(key, Entry { value, weight });
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(entry) = self.young.remove(key) {
            self.weight = self.weight.saturating_sub(entry.weight);
            return Some(entry.value);
        }
        self.old.remove(key).map(|entry| entry.value)
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut recent = Recent::new(10);
        recent.insert("kept", 0, 1);
        for number in 0..1000 {
            recent.insert("kept again", number, 1);
            recent.insert(if number % 2 == 0 { "even" } else { "odd" }, number, 6);
            assert_eq!(recent.find("kept"), Some(&0));
            let weight = |entries: &std::collections::HashMap<_, super::Entry<_>>| {
                entries.values().map(|entry| entry.weight).sum::<usize>()
            };
            assert_eq!(weight(&recent.young), recent.weight);
            assert!(weight(&recent.young) <= 10 && weight(&recent.old) <= 10);
        }
        recent.insert("too heavy", 0, 11);
        assert_eq!(recent.find("too heavy"), None);
        assert_eq!(recent.remove("kept"), Some(0));
        assert_eq!(recent.find("kept"), None);
    }
}
