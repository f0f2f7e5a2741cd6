//! What ends the mesh's processes when `up` itself is killed: a process of its own, told of every family that lives.
//!
//! Invariant: it holds the reading end of a pipe of which `up` alone holds the other; when that closes, whatever it was
//! told of and not told the end of is stopped. The signal of a parent's death reaches children only, not what they started.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::family::Family;
use crate::failure::{self, SaysNo};

/// Stops what a killed `up` leaves behind; for `up` alone.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// The mesh's state folder, for whoever reads the list of processes.
    #[arg(long)]
    _mesh: PathBuf,
}

/// The watching process, as `up` talks to it.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    process: Arc<Mutex<Child>>,
}

impl Watch {
    pub(super) fn start(mesh: &Path) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("up-watch")
            .arg("--mesh")
            .arg(mesh)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context(SaysNo::new(
                "cannot start the process that watches over `up`",
            ))?;
        let pipe = process.stdin.take();
        Ok(Self {
            pipe: Arc::new(Mutex::new(pipe)),
            process: Arc::new(Mutex::new(process)),
        })
    }

    pub(super) fn began(&self, family: Family) {
        self.tell('+', family);
    }

    pub(super) fn ended(&self, family: Family) {
        self.tell('-', family);
    }

    fn tell(&self, sign: char, family: Family) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut() {
            // Without its watch, `up` still stops everything in order; only its own sudden death would leave something.
            let _ = writeln!(pipe, "{sign}{}", family.number());
        }
    }

    /// Ends the watch once nothing is left to watch.
    pub(super) fn stop(&self) {
        drop(
            self.pipe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let _ = self
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wait();
    }
}

pub(crate) fn run(_: &WatchArgs) -> ExitCode {
    let left = listen(std::io::stdin().lock());
    match end(&left) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

/// Listens until the pipe closes; returns who was there then.
fn listen(told: impl std::io::BufRead) -> BTreeSet<u32> {
    let mut living = BTreeSet::new();
    for line in told.lines().map_while(Result::ok) {
        match (line.split_at_checked(1), line.get(1..).map(str::parse)) {
            (Some(("+", _)), Some(Ok(number))) => living.insert(number),
            (Some(("-", _)), Some(Ok(number))) => living.remove(&number),
            _ => false,
        };
    }
    living
}

fn end(left: &BTreeSet<u32>) -> anyhow::Result<()> {
    let families: Vec<Family> = left.iter().copied().filter_map(Family::led_by).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for family in &families {
            family.ask_to_end();
        }
        let deadline = Instant::now() + PATIENCE;
        for family in &families {
            family.gone_by(deadline).await;
        }
        for family in families {
            family.kill().await;
        }
    });
    Ok(())
}

/// As long as a sidecar may drain.
const PATIENCE: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_and_did_not_end_is_left() {
        let told = "+10\n+11\n-10\n+12\nnonsense\n\n+\n-x\n";
        assert_eq!(listen(told.as_bytes()), BTreeSet::from([11, 12]));
    }
}
