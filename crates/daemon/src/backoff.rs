//! Delays between tries: doubling, capped, and spread, so that many clients of one server do not come back together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The delays of one series of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` on, none longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        let first = first.min(cap);
        Self {
            first,
            cap,
            next: first,
        }
    }

    /// The next delay: between half of the current step and the whole of it.
    pub fn next_delay(&mut self) -> Duration {
        self.next_delay_with(random_fraction())
    }

    /// As [`Backoff::next_delay`], with the randomness (0 to 1) given.
    pub fn next_delay_with(&mut self, fraction: f64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.cap);
        step.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0)
    }

    /// After a success: the next series starts small again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A number from 0 to 1 to spread load with. Not for secrets.
pub fn random_fraction() -> f64 {
    // Each `RandomState` has its own keys, so that an empty hash differs from call to call.
    let bits = RandomState::new().build_hasher().finish();
    let upper = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        let full: Vec<_> = (0..4)
            .map(|_| backoff.next_delay_with(1.0).as_millis())
            .collect();
        assert_eq!(full, [100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next_delay_with(0.0).as_millis(), 50);
    }

    #[test]
    fn random_fractions_differ_and_stay_in_range() {
        let drawn: Vec<_> = (0..100).map(|_| random_fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
