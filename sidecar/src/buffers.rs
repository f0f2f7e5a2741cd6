//! Buffers for bytes on their way, lent only while there are bytes: a connection that waits holds none.
//!
//! Each worker keeps its own, so that nobody waits for a lock; a buffer that comes back elsewhere stays there.

use std::cell::{Cell, RefCell};

/// What a new buffer holds at least; it may grow.
pub const SIZE: usize = 16 * 1024;
/// What a buffer grows to for bytes in bulk: four frames of `weft/1`, so that they and their headers fill eight TLS records.
pub const LARGE: usize = 4 * crate::mux::frame::FULL_DATA;
/// Buffers that one worker keeps for the next use.
const KEPT: usize = 24;
/// A buffer that grew beyond this is not kept.
const LARGEST_KEPT: usize = 160 * 1024;

/// What one read can bring: eight full TLS records, so that of a long row of them none is read in two parts.
const SCRATCH_SIZE: usize = 8 * (5 + 16 * 1024 + 1 + 16);

thread_local! {
    static SCRATCH: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub fn take() -> Vec<u8> {
    FREE.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| Vec::with_capacity(SIZE))
}

/// Keeps a buffer for the next use.
pub fn give_back(mut buffer: Vec<u8>) {
    if !(SIZE..=LARGEST_KEPT).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        } else if buffer.capacity() > SIZE
            && let Some(smaller) = free
                .iter()
                .position(|kept| kept.capacity() < buffer.capacity())
        {
            // It grew to what the traffic of now needs; a small one in its place would have to grow again.
            free.swap_remove(smaller);
            free.push(buffer);
        }
    });
}

/// One large buffer for what is read and handed out in the same breath; given back when dropped.
pub struct Scratch(Vec<u8>);

impl Scratch {
    pub fn take() -> Self {
        Self(SCRATCH.take().unwrap_or_else(|| vec![0; SCRATCH_SIZE]))
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH.set(Some(std::mem::take(&mut self.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_grew_is_kept_also_when_many_small_ones_are() {
        let small: Vec<_> = (0..2 * KEPT).map(|_| Vec::with_capacity(SIZE)).collect();
        small.into_iter().for_each(give_back);
        give_back(Vec::with_capacity(LARGEST_KEPT));
        assert_eq!(take().capacity(), LARGEST_KEPT);
    }

    #[test]
    fn buffers_come_back_empty_and_large_ones_are_let_go() {
        let mut buffer = take();
        buffer.extend_from_slice(b"secret");
        let place = buffer.as_ptr();
        give_back(buffer);
        let again = take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place);
        give_back(Vec::with_capacity(LARGEST_KEPT + 1));
        give_back(Vec::new());
        assert!(take().capacity() <= LARGEST_KEPT);
    }
}
