//! The control plane's own binary, for images and units.

use std::process::ExitCode;

use clap::Parser;
use weft_control_plane::{Config, Flags};
use weft_daemon::{logs, wait_for_signals};
use zeroize::Zeroizing;

#[derive(Parser)]
#[command(name = "weft-control-plane", version, about)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let state_key = std::env::var(weft_control_plane::STATE_KEY)
        .ok()
        .map(Zeroizing::new);
    let config = match Config::from_flags(arguments.flags, state_key) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems, 2),
    };
    logs::init(config.log_format, config.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(weft_control_plane::run(config, wait_for_signals())),
        Err(error) => return refuse(&error, 1),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error, 1),
    }
}

#[allow(clippy::print_stderr)] // what a person at a terminal reads, whatever the log's format
fn refuse(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::from(code)
}
