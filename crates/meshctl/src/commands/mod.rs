//! The verbs, a file each.

pub(crate) mod control_plane;
pub(crate) mod sidecar;
pub(crate) mod up;
