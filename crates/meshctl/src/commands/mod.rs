//! The verbs, a file each.

pub(crate) mod allow;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod control_plane;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod edit;
pub(crate) mod endpoints;
pub(crate) mod flows;
pub(crate) mod get;
pub(crate) mod graph;
pub(crate) mod guard;
pub(crate) mod identity;
pub(crate) mod login;
mod named;
pub(crate) mod policy;
pub(crate) mod quarantine;
pub(crate) mod schema;
pub(crate) mod services;
pub(crate) mod sidecar;
pub(crate) mod sidecars;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod why;
