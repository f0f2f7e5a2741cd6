//! Rules by the address of a plaintext source: one part for each range that rules name, found without looking at the others.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    edit::Edit,
    sources::{Part, recompiled},
};
use crate::address::{AddressRange, Bits};

/// Ranges either lie in one another or apart: those that hold an address are one of them and those that it lies in.
#[derive(Debug)]
pub(super) struct Addresses<P>(Arc<[Range<P>]>);

#[derive(Debug)]
struct Range<P> {
    range: AddressRange,
    /// Where the narrowest other one stands that this lies in.
    wider: Option<usize>,
    part: Arc<P>,
}

impl<P> Default for Addresses<P> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<P> Clone for Addresses<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> Addresses<P> {
    fn new(parts: BTreeMap<Key, (AddressRange, Arc<P>)>) -> Self {
        let mut ranges = Vec::<Range<P>>::with_capacity(parts.len());
        for (_, (range, part)) in parts {
            let mut wider = ranges.len().checked_sub(1);
            while let Some(before) = wider.and_then(|place| ranges.get(place)) {
                if before.range.contains(&range) {
                    break;
                }
                wider = before.wider;
            }
            ranges.push(Range { range, wider, part });
        }
        Self(ranges.into())
    }

    fn by_range(&self) -> BTreeMap<Key, (AddressRange, Arc<P>)> {
        let entries = self.0.iter();
        entries
            .map(|entry| (key(&entry.range), (entry.range, Arc::clone(&entry.part))))
            .collect()
    }

    /// The parts whose range holds the address, the narrowest first.
    pub(super) fn matching(&self, address: IpAddr) -> Enclosing<'_, P> {
        // what holds the address is not after it, and holds all that lies between
        let end = (Bits::of(address), u8::MAX);
        let after = self.0.partition_point(|entry| key(&entry.range) <= end);
        let mut next = after.checked_sub(1);
        while let Some(entry) = next.and_then(|place| self.0.get(place)) {
            if entry.range.matches(address) {
                break;
            }
            next = entry.wider;
        }
        Enclosing { all: &self.0, next }
    }

    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[cfg(test)]
    pub(super) fn by_text(&self) -> impl Iterator<Item = (String, &P)> {
        self.0
            .iter()
            .map(|entry| (entry.range.to_string(), &*entry.part))
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &P> {
        self.0.iter().map(|entry| &*entry.part)
    }
}

impl<P: Part> Addresses<P> {
    /// These after an edit. Parts of ranges that the edit does not name are the same ones.
    pub(super) fn edited(&self, edit: &Edit) -> Self {
        let mut parts = self.by_range();
        for (range, edit) in edit.by(|rule| rule.from.addresses().to_vec()) {
            let old = parts.get(&key(&range)).map(|(_, part)| &**part);
            match recompiled(old, &edit) {
                Some(part) => drop(parts.insert(key(&range), (range, Arc::new(part)))),
                None => drop(parts.remove(&key(&range))),
            }
        }
        Self::new(parts)
    }
}

/// Orders a range before those that lie in it, and these before what comes after it.
type Key = (Bits, u8);

fn key(range: &AddressRange) -> Key {
    (range.bits(), range.length())
}

/// Walks from the narrowest range that holds an address to the widest.
#[derive(Debug)]
pub(super) struct Enclosing<'s, P> {
    all: &'s [Range<P>],
    next: Option<usize>,
}

impl<P> Clone for Enclosing<'_, P> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'s, P> Iterator for Enclosing<'s, P> {
    type Item = &'s P;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.all.get(self.next?)?;
        self.next = entry.wider;
        Some(&entry.part)
    }
}
