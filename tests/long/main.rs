//! Timed runs, minutes each; their figures are in docs/PERFORMANCE.md.

mod defences;
mod floods;
mod flows;
mod guard;
mod idle;
mod outage;
mod ready;
mod rotation;
mod workers;
