//! `meshctl control-plane`: the control plane's own library, run from this binary.

use std::process::ExitCode;

pub(crate) use weft_control_plane::Flags as ControlPlaneArgs;

pub(crate) fn run(flags: ControlPlaneArgs) -> ExitCode {
    weft_control_plane::execute(flags)
}
