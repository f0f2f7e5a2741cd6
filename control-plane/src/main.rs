//! The control plane's own binary, for images and units.

use std::process::ExitCode;

use clap::Parser;
use weft_control_plane::Flags;

#[derive(Parser)]
#[command(name = "weft-control-plane", version, about)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    weft_control_plane::execute(Arguments::parse().flags)
}
