//! What any long-running process needs, whatever it does: tasks that have an owner and end in order, readiness, configuration
//! problems that are told together, logs that a peer cannot forge, private files, back-off and a small admin server.
//!
//! Nothing here knows what the process is for.

pub mod admin;
pub mod backoff;
mod clock;
mod executor;
pub mod files;
pub mod logs;
mod open_files;
mod problems;
mod readiness;
mod signals;
mod stops;
mod tasks;

pub use backoff::Backoff;
pub use clock::since_boot;
pub use executor::Executor;
pub use open_files::raise_open_files;
pub use problems::ConfigProblems;
pub use readiness::Readiness;
pub use signals::{Shutdown, wait_for_signals};
pub use tasks::{Drained, TaskFailure, Tasks};
pub use tokio_util::sync::CancellationToken;
