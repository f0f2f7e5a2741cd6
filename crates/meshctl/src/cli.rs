//! The command line: which verbs there are and which file runs each.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::commands;
use crate::failure::{self, Answer, SaysNo};
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
    /// Check the mesh: what is wrong, what will be, and how long an outage is survived.
    Check(commands::check::CheckArgs),
    /// Create and update resources from files; applying the same twice changes nothing.
    Apply(commands::apply::ApplyArgs),
    /// Show what apply would change; exit code 1 when something differs.
    Diff(commands::diff::DiffArgs),
    /// List resources, or show one.
    Get(commands::get::GetArgs),
    /// Edit a resource in $VISUAL or $EDITOR; it is checked before it is sent.
    Edit(commands::edit::EditArgs),
    /// Delete resources by name, or those that files hold.
    Delete(commands::delete::DeleteArgs),
    /// Let one source reach one service for a while: a rule in one line that ends by itself.
    Allow(commands::allow::AllowArgs),
    /// Ask what the allow-list says.
    Policy(commands::policy::PolicyArgs),
    /// Explain a refusal by its decision id.
    Why(commands::why::WhyArgs),
    /// See who has joined the mesh, and revoke it.
    Identity(commands::identity::IdentityArgs),
    /// Cut everything to and from a workload at once, or lift that again.
    Quarantine(commands::quarantine::QuarantineArgs),
    /// Make join tokens for workloads.
    Token(commands::token::TokenArgs),
    /// List services with their ports and endpoints.
    Services(commands::services::ServicesArgs),
    /// List endpoints with their identity and health.
    Endpoints(commands::endpoints::EndpointsArgs),
    /// List sidecars and the revision that each one enforces.
    Sidecars(commands::sidecars::SidecarsArgs),
    /// List who called whom, how it was judged, and how often.
    Flows(commands::flows::FlowsArgs),
    /// Draw who calls whom: as text, DOT, Mermaid or SVG.
    Graph(commands::graph::GraphArgs),
    /// Read the audit record.
    Audit(commands::audit::AuditArgs),
    /// Get an operator's certificate from a control plane on this host.
    Login(commands::login::LoginArgs),
    /// Print the JSON Schema of resources.
    Schema(commands::schema::SchemaArgs),
    /// Print a completion script for a shell.
    Completion(commands::completion::CompletionArgs),
    /// Run a control plane.
    ControlPlane(commands::control_plane::ControlPlaneArgs),
    /// Run a sidecar.
    Sidecar(commands::sidecar::SidecarArgs),
    /// Run one of the example's programs.
    Sample(samples::SampleArgs),
    #[command(hide = true)]
    UpChild(commands::up::child::ChildArgs),
    #[command(hide = true)]
    UpWatch(commands::up::watch::WatchArgs),
}

impl Cli {
    /// Servers bring their own runtime and exit code; every other verb runs here.
    pub(crate) fn execute(self) -> ExitCode {
        let session = Session {
            context: self.context,
            out: Output::new(),
        };
        match self.verb {
            Verb::ControlPlane(args) => commands::control_plane::run(args),
            Verb::Sidecar(args) => commands::sidecar::run(&args),
            Verb::UpChild(args) => commands::up::child::run(&args),
            Verb::UpWatch(args) => commands::up::watch::run(&args),
            verb => match block_on(verb, &session) {
                Ok(answer) => answer.exit_code(),
                Err(error) => failure::report(&error),
            },
        }
    }
}

fn block_on(verb: Verb, session: &Session) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(SaysNo::new("cannot start the runtime"))?;
    let answer = runtime.block_on(Box::pin(verb.run(session)));
    // Nothing that a verb left behind (a read from standard input) may hold up the exit.
    runtime.shutdown_background();
    answer
}

impl Verb {
    async fn run(self, session: &Session) -> anyhow::Result<Answer> {
        match self {
            Verb::Up(args) => commands::up::run(args, session).await,
            Verb::Check(args) => commands::check::run(args, session).await,
            Verb::Apply(args) => commands::apply::run(args, session).await,
            Verb::Diff(args) => commands::diff::run(args, session).await,
            Verb::Get(args) => commands::get::run(args, session).await,
            Verb::Edit(args) => commands::edit::run(args, session).await,
            Verb::Delete(args) => commands::delete::run(args, session).await,
            Verb::Allow(args) => commands::allow::run(args, session).await,
            Verb::Policy(args) => commands::policy::run(args, session).await,
            Verb::Why(args) => commands::why::run(args, session).await,
            Verb::Identity(args) => commands::identity::run(args, session).await,
            Verb::Quarantine(args) => commands::quarantine::run(args, session).await,
            Verb::Token(args) => commands::token::run(args, session).await,
            Verb::Services(args) => commands::services::run(args, session).await,
            Verb::Endpoints(args) => commands::endpoints::run(args, session).await,
            Verb::Sidecars(args) => commands::sidecars::run(args, session).await,
            Verb::Flows(args) => commands::flows::run(args, session).await,
            Verb::Graph(args) => commands::graph::run(args, session).await,
            Verb::Audit(args) => commands::audit::run(args, session).await,
            Verb::Login(args) => commands::login::run(args, session).await,
            Verb::Schema(args) => commands::schema::run(&args, session),
            Verb::Completion(args) => commands::completion::run(&args, session),
            Verb::Sample(args) => samples::run(args).await.map(|()| Answer::Yes),
            Verb::ControlPlane(_) | Verb::Sidecar(_) | Verb::UpChild(_) | Verb::UpWatch(_) => {
                unreachable!("these run without this runtime")
            }
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
