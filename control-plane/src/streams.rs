//! Numbers that tell streams apart: a sidecar's new one may begin before its old one's end is seen.
//!
//! Invariant: no number is given twice in the life of the process, whatever was forgotten meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number above all that were given before.
pub(crate) fn next() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The last number that was given.
pub(crate) fn latest() -> u64 {
    LAST.load(Ordering::Relaxed)
}

static LAST: AtomicU64 = AtomicU64::new(0);
