//! The control plane: decides who is who, who may call whom, and tells every sidecar.

mod api;
pub mod attest;
pub mod audit;
pub mod authorize;
pub mod ca;
mod command;
pub mod config;
pub mod decisions;
pub mod discovery;
mod escape;
#[cfg(test)]
mod fixture;
pub mod flows;
pub mod hub;
pub mod issue;
pub mod leases;
mod lineages;
mod metrics;
pub mod operations;
mod operator_login;
mod prune;
mod random;
pub mod registration;
mod reporter;
mod reports;
pub mod resources;
mod revocations;
pub mod rollout;
mod run;
pub mod store;
mod streams;
mod tls;
mod tokens;
pub mod views;
pub mod world;

pub use command::execute;
pub use config::{Config, Flags, STATE_KEY};
pub use run::{RunError, run};
