//! What waits to be sent on a connection: small things in one buffer, bytes in bulk in the buffers that they were read into.

use std::io::IoSlice;

use super::super::frame::{FULL_DATA, Header, Kind};
use crate::buffers;

#[derive(Default)]
pub struct Outgoing {
    /// Headers and what was copied behind them.
    own: Vec<u8>,
    /// Where the bytes of others belong.
    pieces: Vec<Piece>,
    given: Vec<Vec<u8>>,
    len: usize,
    /// So many have left.
    gone: usize,
}

/// So many of the own bytes, then so many of one that was given.
struct Piece {
    own_to: usize,
    given: usize,
    from: usize,
    to: usize,
}

impl Outgoing {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn header(&mut self, header: Header) {
        if self.own.capacity() == 0 {
            self.own = buffers::take();
        }
        let before = self.own.len();
        header.write(&mut self.own);
        self.len += self.own.len() - before;
    }

    pub fn copy(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Takes a buffer's bytes from `from` on as data of one slot.
    pub fn give(&mut self, slot: u32, buffer: Vec<u8>, mut from: usize) {
        let given = self.given.len();
        while from < buffer.len() {
            let to = buffer.len().min(from + FULL_DATA);
            let value = u32::try_from(to - from).unwrap_or(0);
            let kind = Kind::Data;
            self.header(Header { kind, slot, value });
            self.pieces.push(Piece {
                own_to: self.own.len(),
                given,
                from,
                to,
            });
            self.len += to - from;
            from = to;
        }
        self.given.push(buffer);
    }

    /// What has not left yet, as much as there are slices for.
    pub fn slices<'s>(&'s self, slices: &mut [IoSlice<'s>]) -> usize {
        let mut count = 0;
        let mut skip = self.gone;
        let mut own_from = 0;
        let mut add = |bytes: &'s [u8]| {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            let rest = bytes.get(skipped..).unwrap_or_default();
            if !rest.is_empty()
                && let Some(place) = slices.get_mut(count)
            {
                *place = IoSlice::new(rest);
                count += 1;
            }
        };
        for piece in &self.pieces {
            add(self.own.get(own_from..piece.own_to).unwrap_or_default());
            let given = self.given.get(piece.given);
            add(given
                .and_then(|given| given.get(piece.from..piece.to))
                .unwrap_or_default());
            own_from = piece.own_to;
        }
        add(self.own.get(own_from..).unwrap_or_default());
        count
    }

    /// So many bytes have left.
    pub fn left(&mut self, count: usize) {
        self.gone += count;
    }

    pub fn is_gone(&self) -> bool {
        self.gone >= self.len
    }

    /// The buffers go back; it is empty again.
    pub fn clear(&mut self) {
        buffers::give_back(std::mem::take(&mut self.own));
        self.pieces.clear();
        for buffer in self.given.drain(..) {
            buffers::give_back(buffer);
        }
        (self.len, self.gone) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::frame::HEADER;
    use super::*;

    /// One of each kind, and the same as it is to leave.
    fn mixed() -> (Outgoing, Vec<u8>) {
        let (mut out, mut expected) = (Outgoing::default(), Vec::new());
        let header = |slot, length: usize| Header {
            kind: Kind::Data,
            slot,
            value: u32::try_from(length).unwrap(),
        };
        out.header(header(1, 3));
        out.copy(b"abc");
        header(1, 3).write(&mut expected);
        expected.extend_from_slice(b"abc");
        let buffer: Vec<u8> = (0..2 * FULL_DATA + 100)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        out.give(2, buffer.clone(), 10);
        for part in buffer[10..].chunks(FULL_DATA) {
            header(2, part.len()).write(&mut expected);
            expected.extend_from_slice(part);
        }
        out.header(header(3, 0));
        header(3, 0).write(&mut expected);
        (out, expected)
    }

    #[test]
    fn what_was_given_leaves_in_its_place_however_little_is_taken_at_a_time() {
        for (slices, most) in [(1, 1), (2, 1000), (3, FULL_DATA), (16, usize::MAX)] {
            let (mut out, expected) = mixed();
            assert_eq!(out.len(), expected.len());
            let mut all: Vec<u8> = Vec::new();
            while !out.is_gone() {
                let mut parts = vec![IoSlice::new(&[]); slices];
                let count = out.slices(&mut parts);
                let before = all.len();
                let parts = parts[..count].iter();
                all.extend(parts.flat_map(|part| part.iter()).take(most));
                let taken = all.len() - before;
                assert!(taken > 0, "{slices} slices, {most} bytes");
                out.left(taken);
            }
            assert!(all == expected, "{slices} slices, {most} bytes");
            out.clear();
            assert!(out.is_empty() && out.is_gone());
        }
    }

    #[test]
    fn a_full_read_fills_whole_records() {
        let mut out = Outgoing::default();
        out.give(1, vec![0; buffers::LARGE], 0);
        assert_eq!(out.len() % (16 * 1024), 0);
        assert_eq!(out.len(), buffers::LARGE + 4 * HEADER);
    }
}
