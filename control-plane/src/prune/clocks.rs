//! Whether the wall clock may be believed when it says that something has ended: what is forgotten does not come back when a
//! wrong clock is set right.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// It can be set.
    pub(super) wall: Timestamp,
    /// It goes on at its own pace, also while the host sleeps.
    pub(super) running: Duration,
}

/// Compares readings with the last that were believed.
pub(super) struct Clocks {
    believed: Reading,
    doubted_since: Option<Duration>,
}

impl Reading {
    pub(super) fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            running: uptime().unwrap_or_else(|| STARTED.get_or_init(Instant::now).elapsed()),
        }
    }
}

impl Clocks {
    pub(super) fn new(first: Reading) -> Self {
        Self {
            believed: first,
            doubted_since: None,
        }
    }

    /// A wall clock that leapt ahead is believed when it has stayed there for long: somebody would have set it right.
    pub(super) fn are_believed(&mut self, now: Reading) -> bool {
        let passed = SignedDuration::try_from(now.running.saturating_sub(self.believed.running));
        let passed = passed.unwrap_or(SignedDuration::MAX);
        let ahead = now.wall.duration_since(self.believed.wall) - passed;
        if ahead > LEAP {
            let since = *self.doubted_since.get_or_insert_with(|| {
                tracing::error!(
                    seconds = ahead.as_secs(),
                    "the clock leapt ahead: nothing is forgotten until it is set right, or has stayed so for a day"
                );
                now.running
            });
            if now.running.saturating_sub(since) < DOUBTED {
                return false;
            }
        }
        if self.doubted_since.take().is_some() {
            tracing::info!("the clock is believed again");
        }
        self.believed = now;
        true
    }
}

fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

static STARTED: OnceLock<Instant> = OnceLock::new();
/// More than a clock is set by while it is kept right.
const LEAP: SignedDuration = SignedDuration::from_mins(5);
const DOUBTED: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    /// `wall` and `running` in minutes.
    fn reading(wall: u32, running: u32) -> Reading {
        Reading {
            wall: Timestamp::from_second(1_000_000 + i64::from(wall) * 60).unwrap(),
            running: Duration::from_secs(60) * running,
        }
    }

    #[test]
    fn a_clock_that_leapt_ahead_is_not_believed_until_it_is_set_right() {
        let mut clocks = Clocks::new(reading(0, 100));
        assert!(clocks.are_believed(reading(1, 101)));
        assert!(
            clocks.are_believed(reading(301, 401)),
            "the host was asleep"
        );
        for minute in 1..60 {
            assert!(!clocks.are_believed(reading(100_000 + minute, 401 + minute)));
        }
        assert!(clocks.are_believed(reading(361, 461)));
        assert!(clocks.are_believed(reading(0, 462)), "it was set back");
        assert!(!clocks.are_believed(reading(363, 463)));
    }

    #[test]
    fn a_clock_that_stays_ahead_for_a_day_was_wrong_before() {
        let mut clocks = Clocks::new(reading(0, 0));
        let day = 24 * 60;
        for minute in 1..=day {
            assert!(!clocks.are_believed(reading(100_000 + minute, minute)));
        }
        assert!(clocks.are_believed(reading(100_001 + day, day + 1)));
        assert!(clocks.are_believed(reading(100_002 + day, day + 2)));
    }

    #[test]
    fn the_hosts_own_clock_goes_on() {
        let first = Reading::now();
        let mut clocks = Clocks::new(first);
        let later = Reading::now();
        assert!(later.running >= first.running && clocks.are_believed(later));
    }
}
