//! `meshctl`: the operator's tool, and the one file that can run a whole mesh.
//!
//! What was typed becomes a [`cli::Cli`]; each verb lives in its own file under [`commands`]; every error becomes an
//! exit code in one place, [`failure`]; every byte on standard output leaves through [`output`].

mod cli;
mod commands;
mod failure;
mod output;
mod samples;
mod session;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return failure::usage(&answer),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::report(&anyhow::Error::new(error).context("cannot start the runtime"));
        }
    };
    let result = runtime.block_on(Box::pin(cli.run()));
    // Nothing that a verb left behind (a read from standard input) may hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(answer) => answer.exit_code(),
        Err(error) => failure::report(&error),
    }
}
