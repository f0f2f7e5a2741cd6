//! The window in which requests count, and what is counted.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{Times, Watched, watch};

/// From when until when requests count; `Copy`, so that each task holds its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub opens: Instant,
    pub closes: Instant,
}

/// The bounds together with the processes that are watched meanwhile.
#[derive(Debug)]
pub(crate) struct Window {
    pub bounds: Bounds,
    pub watched: Vec<u32>,
    /// Before anything was sent.
    at_rest: watch::Sample,
}

/// What one task did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: u64,
    bytes: u64,
    failed: u64,
    first_failure: Option<String>,
    latencies: Vec<u32>,
}

/// What a whole workload came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How long the window was open.
    pub seconds: f64,
    pub done: u64,
    /// Of bodies, or of a stream.
    pub bytes: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    pub latency: Latency,
    /// In the order of `--watch`.
    pub watched: Vec<Watched>,
}

/// Microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub p50: u32,
    pub p99: u32,
    pub p999: u32,
}

impl Bounds {
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.closes
    }
}

impl Window {
    pub(crate) fn after(times: Times, watched: &[u32]) -> anyhow::Result<Self> {
        watch::forget_peaks(watched);
        let at_rest = watch::sample(watched)?;
        let opens = Instant::now() + times.warm_up;
        Ok(Self {
            bounds: Bounds {
                opens,
                closes: opens + times.measured,
            },
            watched: watched.to_owned(),
            at_rest,
        })
    }

    /// Watches until the window closes, then collects the tasks. One that does not end soon after is a failure: it waits for an answer
    /// that never came.
    pub(crate) async fn collect(self, mut tasks: JoinSet<Tally>) -> anyhow::Result<Outcome> {
        tokio::time::sleep_until(self.bounds.opens.into()).await;
        let before = watch::sample(&self.watched)?;
        let opened = Instant::now();
        tokio::time::sleep_until(self.bounds.closes.into()).await;
        let seconds = opened.elapsed().as_secs_f64();
        let after = watch::sample(&self.watched)?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut whole = Tally::default();
        loop {
            match tokio::time::timeout_at(deadline, tasks.join_next()).await {
                Ok(Some(Ok(tally))) => whole.add(tally),
                Ok(Some(Err(panicked))) => whole.fail(&panicked),
                Ok(None) => break,
                Err(_) => {
                    for _ in 0..tasks.len() {
                        whole.fail(&format_args!("no answer within {PATIENCE:?} of the end"));
                    }
                    break;
                }
            }
        }
        Ok(whole.outcome(seconds, watch::between(&self.at_rest, &before, &after)))
    }
}

impl Tally {
    /// Counts a request of a closed loop that began at `began` and has ended, if all of it lies in the window.
    pub(crate) fn done(&mut self, began: Instant, bytes: usize, bounds: &Bounds) {
        if began >= bounds.opens && !bounds.is_over() {
            self.count(began, bytes);
        }
    }

    /// Counts a request of an open loop that was due at `due` and has ended, if it was due in the window. When it ended does not
    /// matter: those that take longest would be left out.
    pub(crate) fn answered(&mut self, due: Instant, bytes: usize, bounds: &Bounds) {
        if due >= bounds.opens && due < bounds.closes {
            self.count(due, bytes);
        }
    }

    fn count(&mut self, since: Instant, bytes: usize) {
        self.done += 1;
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.latencies.push(micros);
    }

    /// Counts bytes of a stream that arrived now.
    pub(crate) fn received(&mut self, bytes: usize, bounds: &Bounds) {
        let now = Instant::now();
        if now >= bounds.opens && now <= bounds.closes {
            self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn fail(&mut self, failure: &dyn std::fmt::Display) {
        self.failed += 1;
        self.first_failure
            .get_or_insert_with(|| failure.to_string());
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.done += other.done;
        self.bytes += other.bytes;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.latencies.extend(other.latencies);
    }

    /// The whole, without anything watched beyond `watched`.
    pub(crate) fn outcome(mut self, seconds: f64, watched: Vec<Watched>) -> Outcome {
        self.latencies.sort_unstable();
        let latency = Latency {
            p50: quantile(&self.latencies, 500),
            p99: quantile(&self.latencies, 990),
            p999: quantile(&self.latencies, 999),
        };
        Outcome {
            seconds,
            done: self.done,
            bytes: self.bytes,
            failed: self.failed,
            first_failure: self.first_failure,
            latency,
            watched,
        }
    }
}

/// The smallest value that `permille` of all do not exceed.
fn quantile(sorted: &[u32], permille: usize) -> u32 {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Waits a moment, so that what fails at once does not fail a million times.
pub(crate) async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values: Vec<u32> = (1..=1000).collect();
        assert_eq!(quantile(&values, 500), 500);
        assert_eq!(quantile(&values, 999), 999);
        assert_eq!(quantile(&[7], 990), 7);
        assert_eq!(quantile(&[], 500), 0);
    }

    #[test]
    fn an_answer_after_the_window_counts_where_it_was_due_in_it() {
        let closes = Instant::now();
        let bounds = Bounds {
            opens: closes - Duration::from_secs(1),
            closes,
        };
        let due = closes - Duration::from_millis(500);
        let mut tally = Tally::default();
        tally.done(due, 1, &bounds);
        assert_eq!(tally.done, 0, "a closed loop ends with its window");
        tally.answered(due, 1, &bounds);
        assert_eq!(tally.done, 1);
        let outcome = tally.outcome(1.0, Vec::new());
        assert!(outcome.latency.p50 >= 500_000, "{outcome:?}");
    }

    #[test]
    fn what_began_before_the_window_does_not_count() {
        let opens = Instant::now();
        let bounds = Bounds {
            opens,
            closes: opens + Duration::from_secs(60),
        };
        let mut tally = Tally::default();
        tally.done(opens - Duration::from_millis(1), 1, &bounds);
        tally.done(opens, 1, &bounds);
        assert_eq!(tally.done, 1);
    }
}
