//! The control plane: decides who is who, who may call whom, and tells every sidecar.

pub mod authorize;
pub mod config;
pub mod store;

pub use config::{Config, Flags};
