//! How often a peer may let this side work for nothing: a stream that is reset before its answer, or that is malformed.

use std::time::Instant;

/// A bucket that refills with time and with every exchange that comes to its end.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    most: u32,
    /// Milliseconds for one more.
    each: u32,
    filled: Option<Instant>,
}

impl Budget {
    /// For what an honest client does by mistake or by a race.
    pub(super) fn for_nothing() -> Self {
        Self::new(FIRST, MOST, MILLIS_EACH)
    }

    /// For answers that a client no longer wants: those that time out cancel whole connections' worth of calls at once, again and again.
    pub(super) fn for_cancelling() -> Self {
        Self::new(MOST_CANCELLED, MOST_CANCELLED, 1)
    }

    fn new(left: u32, most: u32, each: u32) -> Self {
        Self {
            left,
            most,
            each,
            filled: None,
        }
    }

    /// An exchange came to its end.
    pub(super) fn earn(&mut self) {
        self.left = (self.left + 1).min(self.most);
    }

    /// Whether the peer may once more.
    pub(super) fn spend(&mut self) -> bool {
        let now = Instant::now();
        let since = self.filled.map_or(0, |filled| (now - filled).as_millis());
        let refilled = u32::try_from(since / u128::from(self.each)).unwrap_or(self.most);
        if refilled > 0 || self.filled.is_none() {
            self.filled = Some(now);
        }
        self.left = self.left.saturating_add(refilled).min(self.most);
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Of a client that has finished nothing yet.
const FIRST: u32 = 128;
const MOST: u32 = 512;
/// Ten a second for ever.
const MILLIS_EACH: u32 = 100;
const MOST_CANCELLED: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_resets_comes_to_an_end_and_who_finishes_does_not() {
        let mut budget = Budget::for_nothing();
        let spent = (0..2 * MOST).take_while(|_| budget.spend()).count();
        assert!(spent < usize::try_from(2 * FIRST).unwrap());
        for _ in 0..2 * MOST {
            budget.earn();
            assert!(budget.spend());
        }
    }
}
