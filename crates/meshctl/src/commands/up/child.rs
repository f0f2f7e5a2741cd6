//! What stands between `up` and each program that it starts: it ties the program's life to `up`'s and becomes the program.
//!
//! A mesh that is killed without a chance to stop its processes must not leave them behind. This reaches the program alone;
//! what the program started is ended by [`super::watch`].

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::failure;

/// Runs a program that ends with its parent; for `up` alone.
#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {
    /// The process that it must not outlive.
    #[arg(long)]
    parent: i32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &ChildArgs) -> ExitCode {
    failure::report(&become_program(args))
}

/// Returns only if that is not possible.
fn become_program(args: &ChildArgs) -> anyhow::Error {
    if let Err(error) = end_with(args.parent) {
        return error;
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return anyhow::anyhow!("no program is named");
    };
    let error = Command::new(program).args(arguments).exec();
    anyhow::Error::new(error).context(format!("cannot run {}", program.display()))
}

#[cfg(target_os = "linux")]
fn end_with(parent: i32) -> anyhow::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot be tied to its parent")?;
    // The parent may have died before the tie was made.
    let is_orphan = getppid().is_none_or(|living| living.as_raw_nonzero().get() != parent);
    anyhow::ensure!(!is_orphan, "`meshctl up` has ended");
    Ok(())
}

/// Elsewhere the watch alone ends the program of an `up` that is killed.
#[cfg(not(target_os = "linux"))]
fn end_with(_parent: i32) -> anyhow::Result<()> {
    Ok(())
}
