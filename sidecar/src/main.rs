//! The sidecar's own small binary.

use std::process::ExitCode;

use clap::Parser;

/// Weft's sidecar.
#[derive(Parser)]
#[command(name = "weft-sidecar", version)]
struct Cli {
    #[command(flatten)]
    arguments: weft_sidecar::Arguments,
}

fn main() -> ExitCode {
    weft_sidecar::execute(&Cli::parse().arguments)
}
