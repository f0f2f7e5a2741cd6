//! Timed runs, minutes each; their figures are in docs/PERFORMANCE.md.

mod outage;
mod rotation;
