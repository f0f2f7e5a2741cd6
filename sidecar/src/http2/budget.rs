//! How often a peer may let this side work for nothing: a stream that is reset before its answer, or that is malformed.

use std::time::Instant;

/// A bucket that refills with time and with every exchange that comes to its end.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    filled: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: MOST,
            filled: None,
        }
    }
}

impl Budget {
    /// An exchange came to its end.
    pub(super) fn earn(&mut self) {
        self.left = (self.left + 1).min(MOST);
    }

    /// Whether the peer may once more.
    pub(super) fn spend(&mut self) -> bool {
        let now = Instant::now();
        let since = self.filled.map_or(0, |filled| (now - filled).as_millis());
        let refilled = u32::try_from(since / u128::from(MILLIS_EACH)).unwrap_or(MOST);
        if refilled > 0 || self.filled.is_none() {
            self.filled = Some(now);
        }
        self.left = self.left.saturating_add(refilled).min(MOST);
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Clients that time out cancel whole connections' worth of calls at once.
const MOST: u32 = 512;
/// Ten a second for ever.
const MILLIS_EACH: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_resets_comes_to_an_end_and_who_finishes_does_not() {
        let mut budget = Budget::default();
        let spent = (0..2 * MOST).take_while(|_| budget.spend()).count();
        assert!(spent < usize::try_from(2 * MOST).unwrap());
        for _ in 0..2 * MOST {
            budget.earn();
            assert!(budget.spend());
        }
    }
}
