//! A table of shared values by a text that each of them holds, made so that a question meets few cache lines: the one of the slot, and
//! those of the value itself.
//!
//! Invariant: at least half of the slots are empty, so that a search soon meets an empty one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    ops::Deref,
    sync::{Arc, LazyLock},
};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

/// What a table holds.
pub(super) trait Keyed {
    fn key(&self) -> &[u8];
}

/// A key. Most are short and lie beside what they name: 36 bytes take as much room as 40 would, and hold nearly all namespaces with a name.
pub(super) type Text = SmallVec<[u8; 36]>;

/// Of what can be shared or owned: `Arc<T>` or `Box<T>`. Cheap to clone.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// A Bloom filter with one bit for each key: what has a bit that is not set is not here. Of use up to some dozens of keys.
    classes: u64,
    slots: Arc<[Slot<T>]>,
}

/// With the hash of its key: the value is read only where it is likely the one.
type Slot<T> = Option<(u64, T)>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            classes: 0,
            slots: Arc::default(),
        }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self {
            slots: Arc::clone(&self.slots),
            ..*self
        }
    }
}

impl<T: Deref<Target: Keyed>> Table<T> {
    /// Each key at most once.
    pub(super) fn new(values: Vec<T>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let count = (2 * values.len()).next_power_of_two();
        let mut slots: Vec<Slot<T>> = std::iter::repeat_with(|| None).take(count).collect();
        let mut classes = 0;
        for value in values {
            let hash = hash(value.key());
            classes |= class(hash);
            // always found, for half of them are
            let empty = places(hash, count).find(|at| slots.get(*at).is_some_and(Option::is_none));
            if let Some(slot) = empty.and_then(|at| slots.get_mut(at)) {
                *slot = Some((hash, value));
            }
        }
        Self {
            classes,
            slots: slots.into(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        let hash = hash(key);
        if self.classes & class(hash) == 0 {
            return None;
        }
        for at in places(hash, self.slots.len()) {
            let (of, value) = self.slots.get(at)?.as_ref()?;
            if *of == hash && value.key() == key {
                return Some(value);
            }
        }
        None
    }
}

impl<T: Keyed> Table<Arc<T>> {
    /// This after the values of some keys have changed or, with `None`, gone. All others are shared.
    pub(super) fn with(&self, changes: HashMap<Text, Option<T>>) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        let stays = self
            .iter()
            .filter(|value| !changes.contains_key(value.key()));
        let mut values: Vec<_> = stays.cloned().collect();
        values.extend(changes.into_values().flatten().map(Arc::new));
        Self::new(values)
    }
}

impl<T> Table<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.classes == 0
    }

    /// Whether it is the very same one, and not one that is equal.
    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slots, &other.slots)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|(_, value)| value)
    }
}

/// The top six bits; [`places`] uses the low 32, so that one says nothing about the other.
fn class(hash: u64) -> u64 {
    1 << (hash >> 58)
}

/// Where a key may stand among so many slots, a power of two, the likeliest place first.
fn places(hash: u64, count: usize) -> impl Iterator<Item = usize> {
    let mask = count - 1;
    let first = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default();
    (0..count).map(move |step| first.wrapping_add(step) & mask)
}

/// Quick, and seeded anew in each process: who writes rules cannot choose keys that collide.
fn hash(key: &[u8]) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    let mut hasher = SEED.build_hasher();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(String);

    impl Keyed for Named {
        fn key(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    #[test]
    fn what_is_in_it_is_found_and_nothing_else() {
        for count in [0, 1, 2, 3, 4, 5, 100, 1000] {
            let names = |from: usize| (from..from + count).map(|number| format!("w{number}"));
            let table = Table::new(names(0).map(|name| Box::new(Named(name))).collect());
            assert_eq!(table.iter().count(), count);
            assert_eq!(table.is_empty(), count == 0);
            assert!(table.slots.len() >= 2 * count);
            for name in names(0) {
                let found = table.get(name.as_bytes());
                assert_eq!(found.map(|named| named.0.clone()), Some(name));
            }
            for name in names(count).chain(["".to_owned(), "w".to_owned()]) {
                assert!(table.get(name.as_bytes()).is_none(), "{name}");
            }
        }
    }

    #[test]
    fn what_no_change_names_stays_as_it_is() {
        let name = |number: usize| format!("w{number}");
        let old = Table::new(
            (0..1000)
                .map(|number| Arc::new(Named(name(number))))
                .collect(),
        );
        let key = |number: usize| Text::from(name(number).as_bytes());
        let changes = [
            (key(1), None),
            (key(2), Some(Named(name(2)))),
            (key(1000), Some(Named(name(1000)))),
        ];
        let new = old.with(changes.into());
        assert_eq!(new.iter().count(), 1000);
        assert!(new.get(&key(1)).is_none() && new.get(&key(1000)).is_some());
        for number in (0..1000).filter(|number| *number != 1) {
            let (before, after) = (old.get(&key(number)), new.get(&key(number)));
            let is_same = Arc::ptr_eq(before.unwrap(), after.unwrap());
            assert_eq!(is_same, number != 2, "{number}");
        }
        assert!(old.with(HashMap::new()).is(&old));
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let twins = |number: usize| Some((hash(b"b"), Box::new(Named(format!("a{number}")))));
        let mut slots: Vec<_> = (0..3).map(twins).collect();
        slots.push(Some((hash(b"b"), Box::new(Named("b".to_owned())))));
        slots.extend((0..4).map(|_| None));
        let begins = places(hash(b"b"), 8).next().unwrap();
        slots.rotate_right(begins);
        let table = Table {
            classes: class(hash(b"b")),
            slots: slots.into(),
        };
        assert_eq!(table.get(b"b").map(|named| &*named.0), Some("b"));
    }
}
