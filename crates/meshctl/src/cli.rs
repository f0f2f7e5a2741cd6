//! The command line: which verbs there are and which file runs each.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands;
use crate::failure::Answer;
use crate::output::Output;
use crate::samples;
use crate::session::Session;

/// Runs a Weft service mesh and edits what it allows.
///
/// Exit codes: 0 yes, 1 no (refused, different, failed), 2 a usage or input error, 3 the control plane cannot be reached.
#[derive(Debug, Parser)]
#[command(
    name = "meshctl",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// The folder with context.yaml and the operator's certificate [default: the nearest .weft/, then ~/.config/weft].
    #[arg(
        long,
        global = true,
        env = "WEFT_CONTEXT",
        value_name = "DIR",
        hide_env_values = true
    )]
    context: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a whole mesh from one file: control plane, workloads and their sidecars.
    Up(commands::up::UpArgs),
    /// Run one of the example's programs.
    Sample(samples::SampleArgs),
    /// Run a control plane.
    ControlPlane(commands::control_plane::ControlPlaneArgs),
    /// Run a sidecar.
    Sidecar(commands::sidecar::SidecarArgs),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<Answer> {
        let session = Session {
            context: self.context,
            out: Output::new(),
        };
        let s = &session;
        match self.verb {
            Verb::Up(args) => commands::up::run(args, s).await,
            Verb::Sample(args) => samples::run(args).await.map(|()| Answer::Yes),
            Verb::ControlPlane(args) => commands::control_plane::run(args).await,
            Verb::Sidecar(args) => commands::sidecar::run(args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
