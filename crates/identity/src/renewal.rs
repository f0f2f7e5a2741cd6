//! When to renew, and how long to wait after a failure. Pure: the caller brings the time and a random number.

use std::time::Duration;

use jiff::Timestamp;

/// The next renewal: at most `renew_every` after the issue, at most half the remaining life, and earlier by up to a fifth,
/// so that workloads started together drift apart and a returning control plane meets no herd. `jitter` is uniform in 0..1.
pub fn next_renewal(
    issued_at: Timestamp,
    not_after: Timestamp,
    renew_every: Duration,
    jitter: f64,
) -> Timestamp {
    let life = Duration::try_from(not_after.duration_since(issued_at)).unwrap_or_default();
    let longest = renew_every.min(life / 2);
    let wait = longest.mul_f64(1.0 - SPREAD * unit(jitter));
    issued_at.checked_add(wait).unwrap_or(not_after)
}

/// The wait before try number `attempt` (0 is the first retry): doubling from half a second to half a minute, of which at
/// least half always passes. `jitter` is uniform in 0..1.
pub fn retry_delay(attempt: u32, jitter: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1u32.checked_shl(attempt.min(16)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_RETRY).mul_f64(0.5 + 0.5 * unit(jitter))
}

fn unit(jitter: f64) -> f64 {
    if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

const SPREAD: f64 = 0.2;
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn renewal_is_never_later_than_asked_nor_than_half_the_life() {
        let hour = Duration::from_secs(3600);
        for (not_after, jitter, expected) in [
            (86_400, 0.0, 3600),
            (86_400, 1.0, 2880),
            (86_400, 0.5, 3240),
            (60, 0.0, 30),
            (60, 1.0, 24),
            (86_400, f64::NAN, 3600),
            (86_400, 7.0, 2880),
            (0, 0.5, 0),
            (-10, 0.5, 0),
        ] {
            assert_eq!(
                next_renewal(at(0), at(not_after), hour, jitter),
                at(expected),
                "{not_after} {jitter}"
            );
        }
    }

    #[test]
    fn retries_back_off_to_a_ceiling() {
        assert_eq!(retry_delay(0, 1.0), Duration::from_millis(500));
        assert_eq!(retry_delay(1, 0.0), Duration::from_millis(500));
        assert_eq!(retry_delay(3, 1.0), Duration::from_secs(4));
        for attempt in [6, 16, 32, u32::MAX] {
            assert_eq!(retry_delay(attempt, 1.0), Duration::from_secs(30));
        }
    }
}
