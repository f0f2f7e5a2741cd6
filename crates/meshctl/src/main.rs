//! `meshctl`: the operator's tool, and the one file that can run a whole mesh.
//!
//! What was typed becomes a [`cli::Cli`]; each verb lives in its own file under [`commands`]; every error becomes an
//! exit code in one place, [`failure`]; every answer on standard output leaves through [`output`].

mod changes;
mod cli;
mod client;
mod commands;
mod context;
mod documents;
mod failure;
mod flows;
mod login;
mod moments;
mod output;
mod preview;
mod rendering;
mod rollout;
mod samples;
mod session;
mod traffic;
mod world;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => cli.execute(),
        Err(answer) => failure::usage(&answer),
    }
}
