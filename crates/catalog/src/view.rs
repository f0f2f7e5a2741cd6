//! How two states of a view differ: what a discovery stream must send and what it must take back.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What changed between what was sent and what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'a, K> {
    /// New names and names whose version differs, in order.
    pub changed: Vec<&'a K>,
    /// Names that are gone, in order.
    pub removed: Vec<&'a K>,
}

impl<K> Difference<'_, K> {
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Compares two maps of named versions in one walk over both.
pub fn diff<'a, K: Ord, V: PartialEq>(
    sent: &'a BTreeMap<K, V>,
    now: &'a BTreeMap<K, V>,
) -> Difference<'a, K> {
    let mut difference = Difference {
        changed: Vec::new(),
        removed: Vec::new(),
    };
    let mut before = sent.iter().peekable();
    let mut after = now.iter().peekable();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return difference,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        match order {
            Ordering::Less => difference
                .removed
                .extend(before.next().map(|(name, _)| name)),
            Ordering::Greater => difference
                .changed
                .extend(after.next().map(|(name, _)| name)),
            Ordering::Equal => {
                let old = before.next();
                let new = after.next();
                if old.map(|(_, version)| version) != new.map(|(_, version)| version) {
                    difference.changed.extend(new.map(|(name, _)| name));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_maps_do_not_differ() {
        let map = BTreeMap::from([("a", 1), ("b", 2)]);
        assert!(diff(&map, &map.clone()).is_empty());
    }

    proptest! {
        #[test]
        fn applying_a_difference_gives_what_is_now(
            sent in proptest::collection::btree_map(0u8..16, 0u8..3, 0..12),
            now in proptest::collection::btree_map(0u8..16, 0u8..3, 0..12),
        ) {
            let difference = diff(&sent, &now);
            let mut applied = sent.clone();
            for name in &difference.removed {
                prop_assert!(applied.remove(name).is_some());
            }
            for name in &difference.changed {
                let version = now[name];
                prop_assert_ne!(applied.insert(**name, version), Some(version));
            }
            prop_assert_eq!(applied, now);
        }
    }
}
