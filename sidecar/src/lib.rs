//! The sidecar: it stands beside one workload, proves who it is, and lets through only what policy allows.
//!
//! What decides: [`view`] (what is enforced), [`enforce`] (the only maker of a `Permit`), [`connections`] (what is live, re-checked at each
//! change). What moves bytes takes a `Permit`. What talks to the control plane: `discovery`, `renewal`, `registration`, [`decisions`], [`flows`].
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod access_log;
mod admin;
pub mod balance;
mod bootstrap;
pub mod buffers;
pub mod config;
pub mod connections;
pub mod control_plane;
#[cfg(test)]
mod cost;
pub mod decisions;
pub mod dial;
mod discovery;
pub mod enforce;
pub mod external;
#[cfg(test)]
mod fixture;
pub mod flows;
mod handshakes;
mod health;
pub mod http;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod inbound;
mod keeper;
pub mod listener;
pub mod metrics;
pub mod mux;
pub mod outbound;
pub mod outlets;
pub mod proof;
pub mod read_ahead;
mod received;
mod registration;
mod renewal;
mod run;
pub mod runtime;
mod snapshot;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod trials;
#[cfg(test)]
mod two_sidecars;
pub mod view;
mod workers;

use std::sync::Arc;

use weft_daemon::Tasks;

pub use config::Config;
pub use run::{Arguments, execute};

/// What every part of a running sidecar shares.
pub struct Sidecar {
    pub config: Config,
    pub tasks: Tasks,
    pub current: view::Current,
    pub identity: identity::Identity,
    pub connections: connections::Connections,
    pub decisions: decisions::Decisions,
    pub flows: flows::Flows,
    pub trials: trials::Trials,
    pub outside: external::Outside,
    pub metrics: Arc<metrics::Metrics>,
    pub control_plane: control_plane::ControlPlane,
}
