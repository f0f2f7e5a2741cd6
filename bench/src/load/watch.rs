//! CPU time and memory of the watched processes, as the kernel counts them.

use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What one process and its children used: CPU time while the window was open, memory since before it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub cpu: Duration,
    /// Before anything was sent.
    pub at_rest: Memory,
    pub after: Memory,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub rss: u64,
    /// The most since the load began.
    pub peak: u64,
}

/// The state of the watched processes at one moment.
#[derive(Debug)]
pub(crate) struct Sample(Vec<(u32, Duration, Memory)>);

/// Reads what the processes use now.
pub(crate) fn sample(pids: &[u32]) -> anyhow::Result<Sample> {
    let read = |&pid: &u32| {
        let whole = (|| Ok::<_, anyhow::Error>((pid, cpu(pid)?, memory(pid)?)))();
        whole.with_context(|| format!("cannot watch process {pid}"))
    };
    pids.iter().map(read).collect::<Result<_, _>>().map(Sample)
}

/// Begins a new count of peaks.
pub(crate) fn forget_peaks(pids: &[u32]) {
    for pid in pids.iter().flat_map(|&pid| family(pid)) {
        // Not permitted everywhere; then the peak is that of the process's life.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// What happened between two samples of the same processes, and since they were at rest.
pub(crate) fn between(at_rest: &Sample, before: &Sample, after: &Sample) -> Vec<Watched> {
    let all = at_rest.0.iter().zip(&before.0).zip(&after.0);
    all.map(|((rest, before), after)| Watched {
        cpu: after.1.saturating_sub(before.1),
        at_rest: rest.2,
        after: after.2,
    })
    .collect()
}

/// A process and its children: a master and its workers.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    std::iter::once(pid)
        .chain(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok()),
        )
        .collect()
}

/// User and system time of all threads; the kernel counts in ticks of 10 ms but apportions what it measured exactly.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for pid in family(pid) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold anything, a parenthesis too.
        let (_, fields) = stat.rsplit_once(") ").context("not a stat line")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        for field in [UTIME, STIME] {
            ticks += fields
                .get(field)
                .and_then(|ticks| ticks.parse::<u64>().ok())
                .context("no time in the stat line")?;
        }
    }
    let second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * (1_000_000_000 / second)))
}

/// Resident memory of the process with its children.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let mut sum = Memory::default();
    for pid in family(pid) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"))
                .and_then(|kib| kib.parse::<u64>().ok())
                .with_context(|| format!("no {name} in the status of {pid}"))
        };
        sum.rss += field("VmRSS:")? * 1024;
        sum.peak += field("VmHWM:")? * 1024;
    }
    Ok(sum)
}

/// Fields 14 and 15 of proc_pid_stat(5), counted from the third.
const UTIME: usize = 11;
const STIME: usize = 12;
