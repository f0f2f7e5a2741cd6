//! From flags to an exit code: the whole life of a control-plane process, for its own binary and for `meshctl`.

use std::process::ExitCode;

use weft_daemon::{logs, wait_for_signals};
use zeroize::Zeroizing;

use crate::config::{Config, Flags, STATE_KEY};

/// Exit code 0 when asked to end, 1 on a failure, 2 when the flags cannot be used.
pub fn execute(flags: Flags) -> ExitCode {
    let state_key = std::env::var(STATE_KEY).ok().map(Zeroizing::new);
    let config = match Config::from_flags(flags, state_key) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems, 2),
    };
    logs::init(config.log_format, config.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(crate::run(config, wait_for_signals())),
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
