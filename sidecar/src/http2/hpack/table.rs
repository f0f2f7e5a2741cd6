//! The dynamic table (RFC 7541 §2.3.2, §4): what the peer said before and may refer to.
//!
//! The bytes of all entries lie in one buffer, oldest first, so that an entry comes and goes without an allocation. Evicted bytes stay at
//! the front until room is needed and they are at least as many as the others; so each byte is moved once at most, and the buffer is no
//! longer than twice the table.

use std::collections::VecDeque;

use super::HpackError;
use super::static_table;

/// What each entry counts beyond its bytes (§4.1).
pub(super) const OVERHEAD: usize = 32;

#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// By the count of §4.1.
    size: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    name: usize,
    value: usize,
}

/// The name of a new entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    Text(&'a [u8]),
    /// That of another entry of either table; it may be one that the new entry pushes out (§4.4).
    Of(usize),
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            limit,
        }
    }

    /// The field at an index of both tables (§2.3.3).
    #[inline]
    pub(super) fn field(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        match static_table::entry(index) {
            Some(field) => Ok(field),
            None => self.dynamic(index).ok_or(HpackError::Index),
        }
    }

    fn dynamic(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entry(index)?;
        let both = self.bytes.get(entry.start..)?;
        both.get(..entry.name + entry.value)?
            .split_at_checked(entry.name)
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        // The newest is the first after the static table; 0 is no index.
        let age = index.checked_sub(static_table::LENGTH + 1)?;
        let place = self.entries.len().checked_sub(age + 1)?;
        self.entries.get(place)
    }

    /// A new size, which evicts what exceeds it (§4.3).
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(0);
        if limit == 0 {
            self.bytes = Vec::new();
            self.entries = VecDeque::new();
        }
    }

    /// Adds an entry at the front and evicts what exceeds the size then; one that is larger than the table empties it (§4.4).
    pub(super) fn insert(&mut self, name: Name<'_>, value: &[u8]) -> Result<(), HpackError> {
        let length = match name {
            Name::Text(text) => text.len(),
            Name::Of(index) => self.field(index)?.0.len(),
        };
        let more = length + value.len() + OVERHEAD;
        if more > self.limit {
            self.clear();
            return Ok(());
        }
        self.make_room(length + value.len());
        let start = self.bytes.len();
        match name {
            Name::Text(text) => self.bytes.extend_from_slice(text),
            Name::Of(index) => match static_table::entry(index) {
                Some((text, _)) => self.bytes.extend_from_slice(text),
                None => {
                    let named = *self.entry(index).ok_or(HpackError::Index)?;
                    self.bytes
                        .extend_from_within(named.start..named.start + named.name);
                }
            },
        }
        self.bytes.extend_from_slice(value);
        // Not earlier: the name may be that of an entry which goes now.
        self.evict(more);
        self.size += more;
        self.entries.push_back(Entry {
            start,
            name: length,
            value: value.len(),
        });
        Ok(())
    }

    /// Evicts the oldest until so much more fits.
    fn evict(&mut self, more: usize) {
        while self.size + more > self.limit {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.size -= oldest.name + oldest.value + OVERHEAD;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.size = 0;
    }

    /// Room for so many bytes at the end, of entries or of evicted ones.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        let dead = self.entries.front().map_or(self.bytes.len(), |e| e.start);
        let most = self.limit.saturating_mul(2);
        if dead >= self.bytes.len() - dead || self.bytes.len() + more > most {
            self.bytes.drain(..dead);
            for entry in &mut self.entries {
                entry.start -= dead;
            }
        }
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let room = (needed * 2).min(most).max(needed);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<(&[u8], &[u8])> {
        let indices = static_table::LENGTH + 1..=static_table::LENGTH + self.entries.len();
        indices
            .map(|index| self.dynamic(index).expect("an entry"))
            .collect()
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}
