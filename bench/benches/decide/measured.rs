//! What one decision costs: elapsed time, each decision by itself, and allocations.

use std::{
    alloc::System,
    hint::black_box,
    time::{Duration, Instant},
};

use stats_alloc::{Region, StatsAlloc};

pub(crate) struct Figures {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    /// A decision, over all of them.
    pub(crate) mean: f64,
    pub(crate) allocations: f64,
    /// Of the questions, how many were answered with yes.
    pub(crate) allowed: f64,
}

/// Decides every question `rounds` times, one after the other in their order. In nanoseconds.
pub(crate) fn per_decision<Q>(
    allocator: &StatsAlloc<System>,
    rounds: usize,
    questions: &[Q],
    decide: impl Fn(&Q) -> bool,
) -> Figures {
    let empty = median(&mut timed(rounds, questions, |_| true));
    let mut times = timed(rounds, questions, &decide);
    let region = Region::new(allocator);
    let begun = Instant::now();
    let allowed = questions
        .iter()
        .filter(|asked| decide(black_box(asked)))
        .count();
    let whole = begun.elapsed();
    let change = region.change();
    times.sort_unstable();
    let nanoseconds = |time: Duration| time.saturating_sub(empty).as_secs_f64() * 1e9;
    Figures {
        median: nanoseconds(times[times.len() / 2]),
        p99: nanoseconds(times[times.len() * 99 / 100]),
        mean: whole.as_secs_f64() * 1e9 / count(questions.len()),
        allocations: count(change.allocations + change.reallocations) / count(questions.len()),
        allowed: count(allowed) / count(questions.len()),
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

fn timed<Q>(rounds: usize, questions: &[Q], decide: impl Fn(&Q) -> bool) -> Vec<Duration> {
    let mut times = Vec::with_capacity(rounds * questions.len());
    for _ in 0..rounds {
        for asked in questions {
            let begun = Instant::now();
            black_box(decide(black_box(asked)));
            times.push(begun.elapsed());
        }
    }
    times
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("fewer than 4 thousand million"))
}
