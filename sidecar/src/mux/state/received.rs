//! What waits on one slot to be read: buffers that are handed on whole, so that bytes in bulk are not copied again.

use std::collections::VecDeque;

use crate::buffers;

#[derive(Default)]
pub(super) struct Received {
    /// Those that are full, the oldest first.
    full: VecDeque<Vec<u8>>,
    last: Vec<u8>,
    /// So many of the oldest buffer were read.
    read: usize,
    waiting: usize,
}

impl Received {
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let room = self.last.capacity() - self.last.len();
        if room < part.len() && self.last.capacity() >= buffers::LARGE {
            self.full.push_back(std::mem::take(&mut self.last));
        }
        if self.last.capacity() == 0 {
            self.last = buffers::take();
        }
        self.last.extend_from_slice(part);
        self.waiting += part.len();
    }

    /// Moves the oldest buffer to `into`, or what of it `into` has not room for by copying.
    pub(super) fn move_to(&mut self, into: &mut Vec<u8>, most: usize) -> usize {
        let oldest = self.full.front_mut().unwrap_or(&mut self.last);
        let rest = oldest.len() - self.read;
        let count = rest.min(most);
        self.waiting -= count;
        if self.read == 0 && into.is_empty() && count == rest {
            std::mem::swap(into, oldest);
        } else {
            let part = oldest.get(self.read..self.read + count);
            into.extend_from_slice(part.unwrap_or_default());
        }
        self.read += count;
        if count == rest {
            self.read = 0;
            let read = self.full.pop_front();
            buffers::give_back(read.unwrap_or_else(|| std::mem::take(&mut self.last)));
        }
        count
    }

    /// Nobody will read it.
    pub(super) fn forget(&mut self) {
        for buffer in self.full.drain(..) {
            buffers::give_back(buffer);
        }
        buffers::give_back(std::mem::take(&mut self.last));
        (self.read, self.waiting) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_comes_in_the_buffers_that_it_waited_in_and_in_order() {
        let all: Vec<u8> = (0..3 * buffers::LARGE)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let mut received = Received::default();
        for part in all.chunks(5000) {
            received.push(part);
        }
        assert_eq!(received.len(), all.len());
        let place = received.full.front().unwrap().as_ptr();
        let mut first = Vec::new();
        let count = received.move_to(&mut first, 2 * buffers::LARGE);
        assert_eq!((first.as_ptr(), first.len()), (place, count));
        while received.len() > 0 {
            // Less than a buffer, then the rest of it: copied, in order.
            received.move_to(&mut first, 70_000);
        }
        assert!(first == all);
        assert_eq!(received.last.capacity(), 0, "its buffer went back");
    }
}
