//! `meshctl completion SHELL`: the completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Answer;
use crate::session::Session;

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionArgs, session: &Session) -> anyhow::Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "meshctl", &mut script);
    session.out.raw(script)?;
    Ok(Answer::Yes)
}
