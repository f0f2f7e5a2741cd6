//! Reports at a bounded rate: no workload's swarm shuts out the others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tonic::Status;
use weft_identity::SpiffeId;

/// How much each reporter, and all together, may still report.
pub(crate) struct Reports {
    limits: Limits,
    buckets: Mutex<Buckets>,
}

/// What the reports of one kind may cost.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// What they hold, as the field of the message is named.
    pub(crate) what: &'static str,
    pub(crate) of_one: Rate,
    pub(crate) of_all: Rate,
    pub(crate) in_one_report: u32,
}

#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_second: u32,
}

struct Buckets {
    all: Bucket,
    by_reporter: HashMap<SpiffeId, Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Reports {
    pub(crate) fn new(limits: Limits) -> Self {
        let buckets = Buckets {
            all: Bucket::full(limits.of_all.burst),
            by_reporter: HashMap::new(),
        };
        Self {
            limits,
            buckets: Mutex::new(buckets),
        }
    }

    /// Takes a report of so many, or refuses it as too much.
    pub(crate) fn admit(&self, reporter: &SpiffeId, count: usize) -> Result<(), Status> {
        let Limits {
            what,
            of_one,
            of_all,
            in_one_report,
        } = self.limits;
        let count = u32::try_from(count)
            .ok()
            .filter(|count| *count <= in_one_report);
        let count = count
            .ok_or_else(|| Status::invalid_argument(format!("{what}: at most {in_one_report}")))?;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.forget_full(of_one);
        let Buckets { all, by_reporter } = &mut *buckets;
        if by_reporter.len() >= REPORTERS_LIMIT && !by_reporter.contains_key(reporter) {
            return Err(too_many(what));
        }
        let own = by_reporter
            .entry(reporter.clone())
            .or_insert_with(|| Bucket::full(of_one.burst));
        if own.holds(count, of_one) && all.holds(count, of_all) {
            own.tokens -= f64::from(count);
            all.tokens -= f64::from(count);
            return Ok(());
        }
        Err(too_many(what))
    }
}

impl Buckets {
    /// Who has been silent long enough is as good as new.
    fn forget_full(&mut self, of_one: Rate) {
        if self.by_reporter.len() >= REPORTERS_LIMIT {
            self.by_reporter
                .retain(|_, bucket| !bucket.holds(of_one.burst, of_one));
        }
    }
}

impl Bucket {
    fn full(burst: u32) -> Self {
        Self {
            tokens: f64::from(burst),
            at: Instant::now(),
        }
    }

    fn holds(&mut self, count: u32, rate: Rate) -> bool {
        let now = Instant::now();
        let filled =
            self.tokens + now.duration_since(self.at).as_secs_f64() * f64::from(rate.per_second);
        self.tokens = filled.min(f64::from(rate.burst));
        self.at = now;
        self.tokens >= f64::from(count)
    }
}

fn too_many(what: &str) -> Status {
    Status::resource_exhausted(format!("too many {what}: report them again later"))
}

const REPORTERS_LIMIT: usize = 10_000;
