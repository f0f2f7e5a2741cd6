//! What one decision costs: elapsed time, each decision by itself, and allocations.

use std::{
    alloc::System,
    hint::black_box,
    time::{Duration, Instant},
};

use stats_alloc::{Region, StatsAlloc};

/// A decision, in nanoseconds and allocations.
pub(crate) struct Figures {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) allocations: f64,
}

/// What a decision finds in the processor's caches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    /// What all the questions before it left there.
    AsLeft,
    /// What the same decision left there.
    Warmed,
}

pub(crate) struct Run<'a> {
    pub(crate) allocator: &'a StatsAlloc<System>,
    pub(crate) rounds: usize,
    pub(crate) caches: Caches,
}

impl Run<'_> {
    /// Decides every question in each round, one after the other.
    pub(crate) fn figures<Q>(
        &self,
        questions: &[Q],
        fresh: impl Fn(&Q) -> Q,
        decide: impl Fn(&Q) -> bool,
    ) -> Figures {
        let clock = median(&mut self.timed(questions, &fresh, |_| true));
        let mut times = self.timed(questions, &fresh, &decide);
        let region = Region::new(self.allocator);
        for asked in questions {
            black_box(decide(black_box(asked)));
        }
        let change = region.change();
        times.sort_unstable();
        let nanoseconds = |time: Duration| time.saturating_sub(clock).as_secs_f64() * 1e9;
        Figures {
            median: nanoseconds(times[times.len() / 2]),
            p99: nanoseconds(times[times.len() * 99 / 100]),
            allocations: count(change.allocations + change.reallocations) / count(questions.len()),
        }
    }

    /// Each question is made anew before the clock runs, as a request is read just before it is judged.
    fn timed<Q>(
        &self,
        questions: &[Q],
        fresh: impl Fn(&Q) -> Q,
        decide: impl Fn(&Q) -> bool,
    ) -> Vec<Duration> {
        let mut times = Vec::with_capacity(self.rounds * questions.len());
        for asked in (0..self.rounds).flat_map(|_| questions) {
            let asked = black_box(fresh(asked));
            if self.caches == Caches::Warmed {
                black_box(decide(&asked));
            }
            let begun = Instant::now();
            black_box(decide(&asked));
            times.push(begun.elapsed());
        }
        times
    }
}

/// How long `work` takes: the median of as many times.
pub(crate) fn timed_whole<T>(times: usize, mut work: impl FnMut() -> T) -> Duration {
    let mut times: Vec<_> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            let made = black_box(work());
            let elapsed = begun.elapsed();
            drop(made);
            elapsed
        })
        .collect();
    median(&mut times)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("fewer than 4 thousand million"))
}
