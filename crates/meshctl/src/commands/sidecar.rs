//! `meshctl sidecar`: the sidecar's own library, run from this binary.

use std::process::ExitCode;

pub(crate) use weft_sidecar::Arguments as SidecarArgs;

pub(crate) fn run(args: &SidecarArgs) -> ExitCode {
    weft_sidecar::execute(args)
}
