//! Measures Weft beside other proxies: one command, one topology, the same load for everyone.
//!
//! Without a subcommand it it conducts a run; as `load`, `probe` and `backend` it is what the run starts on both
//! ends of each pair of proxies.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod backend;
mod certificates;
mod conduct;
mod folder;
mod load;
mod measured;
mod network;
mod options;
mod peers;
mod process;
mod report;
mod template;
mod turn;
mod workloads;

#[derive(Debug, Parser)]
#[command(name = "bench/run", about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: options::Options,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Sends one workload to one address and prints what came of it as JSON.
    Load(load::Arguments),
    /// Sends one request; exits with 0 if the answer is 200.
    Probe { to: std::net::SocketAddr },
    /// Answers HTTP/1.1 and HTTP/2 on one port and pours bytes from another.
    Backend(backend::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            report::complain(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // One thread: the load and the backend share a CPU, and more threads would only wait for each other.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match cli.part {
        None => runtime.block_on(conduct::run(&cli.options)),
        Some(Part::Load(arguments)) => runtime
            .block_on(load::run(&arguments))
            .map(|()| ExitCode::SUCCESS),
        Some(Part::Probe { to }) => runtime
            .block_on(peers::probe(to))
            .map(|()| ExitCode::SUCCESS),
        Some(Part::Backend(arguments)) => runtime
            .block_on(backend::run(arguments))
            .map(|()| ExitCode::SUCCESS),
    }
}
