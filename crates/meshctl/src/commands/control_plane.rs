//! `meshctl control-plane`: the control plane's own library, run from this binary.

use std::process::ExitCode;

pub(crate) use weft_control_plane::Flags as ControlPlaneArgs;

use crate::failure;

pub(crate) fn run(_args: ControlPlaneArgs) -> ExitCode {
    failure::report(&anyhow::anyhow!(
        "the control plane is not part of this build"
    ))
}
