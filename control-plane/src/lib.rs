//! The control plane: decides who is who, who may call whom, and tells every sidecar.

pub mod authorize;
pub mod config;
pub mod decisions;
pub mod discovery;
mod escape;
#[cfg(test)]
mod fixture;
pub mod hub;
pub mod leases;
pub mod registration;
pub mod resources;
pub mod rollout;
pub mod store;
pub mod views;
pub mod world;

pub use config::{Config, Flags};
