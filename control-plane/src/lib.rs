//! The control plane: decides who is who, who may call whom, and tells every sidecar.

pub mod store;
