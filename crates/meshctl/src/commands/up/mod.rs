//! `meshctl up`: a whole mesh from one file, as real processes on this host.
//!
//! In order: read the file and its resources, open the state, start the control plane, log in, apply the resources, start
//! each sidecar and its program, wait until every sidecar has acknowledged, print, wait for the end, stop in order.

pub(crate) mod child;
mod console;
mod family;
mod mesh_file;
mod placeholders;
mod plan;
mod ports;
mod process;
mod report;
mod resources;
mod start;
mod state;
mod suggestions;
pub(crate) mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use weft_daemon::wait_for_signals;

use crate::failure::{Answer, SaysNo};
use crate::session::Session;

use console::{Console, Destination};
use ports::Ports;
use start::Running;
use state::State;
use watch::Watch;

/// Runs a whole mesh from one file.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// The mesh file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to keep the mesh's state; made if it does not exist.
    #[arg(long, value_name = "DIR", default_value = ".weft")]
    state: PathBuf,
    /// Print one JSON object on one line once everything is acknowledged, or a table.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: UpFormat,
    /// How many seconds to wait for every sidecar.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum UpFormat {
    #[default]
    Table,
    Json,
}

pub(crate) async fn run(args: UpArgs, session: &Session) -> anyhow::Result<Answer> {
    let began = Instant::now();
    let mut ended = std::pin::pin!(wait_for_signals());
    // Signals are caught from the first poll on: before anything is there that one could leave behind.
    if let Some(signal) = ended.as_mut().now_or_never() {
        signal.context(SaysNo::new("cannot wait for signals"))?;
        return Ok(Answer::Yes);
    }
    let mesh = mesh_file::read(&args.file)?;
    let resources = resources::MeshResources::read(&mesh.resources)?;
    resources.check(&mesh)?;
    let state = State::open(&args.state)?;
    if let Some(warning) = &state.warning {
        session.out.warn(warning);
    }
    let mut ports = Ports::remembered_in(&state.folder);
    let addresses = plan::ControlPlaneAddresses::assign(&mut ports)?;
    let replicas = plan::replicas(&mesh, &resources.services, &mut ports)?;
    ports.release()?;

    let width = replicas
        .iter()
        .map(|replica| replica.instance.len())
        .max()
        .unwrap_or_default();
    let destination = match args.output {
        UpFormat::Table => Destination::StandardOutput,
        UpFormat::Json => Destination::StandardError,
    };
    let console = Console::new(destination, width);
    let mut running = Running::new(console.clone(), Watch::start(&state.folder)?);
    let launch = plan::Launch {
        mesh: &mesh,
        resources: &resources,
        addresses: &addresses,
        replicas: &replicas,
        state: &state,
    };
    let starting = async {
        let revision = running
            .start(launch, Duration::from_secs(args.timeout))
            .await?;
        let outcome = report::Outcome {
            revision,
            elapsed: began.elapsed(),
        };
        report::Report::new(launch, &running, &outcome)
    };
    // A signal during the start stops it where it stands.
    let started = tokio::select! {
        report = starting => Some(report),
        signal = &mut ended => signal.context(SaysNo::new("cannot wait for signals")).err().map(Err),
    };
    let answer = match started {
        Some(Ok(report)) => {
            match args.output {
                UpFormat::Table => console.note(&report.text()),
                UpFormat::Json => session.out.json(&report)?,
            }
            running.keep_logged_in(&state);
            let _ = ended.await;
            Ok(Answer::Yes)
        }
        Some(Err(error)) => Err(error),
        None => Ok(Answer::Yes),
    };
    running.stop().await;
    answer
}

/// The control plane's part of the runtime folder, and its name in logs.
const CONTROL_PLANE: &str = "control-plane";

fn sidecar_name(instance: &str) -> String {
    format!("{instance}-sidecar")
}
