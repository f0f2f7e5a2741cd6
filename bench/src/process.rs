//! Child processes: placed in a namespace and on a CPU, their output in a file, each in a process group of its own that dies with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// Where a process runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub namespace: Option<String>,
    pub cpu: Option<usize>,
}

impl Place {
    /// `program` in this place, started by programs that replace themselves by the next: the child's pid is that of `program`.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some(namespace) = &self.namespace {
            words.extend(["ip", "netns", "exec", namespace].map(String::from));
        }
        // Even a benchmark that is killed leaves nobody behind.
        words.extend(["setpriv", "--pdeathsig", "TERM"].map(String::from));
        if let Some(cpu) = self.cpu {
            words.extend(["taskset", "-c"].map(String::from));
            words.push(cpu.to_string());
        }
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg(program);
        command
    }
}

/// A child that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it with both outputs in `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let err = out.try_clone().context("cannot clone a file")?;
        // A group of its own: Ctrl-C is the conductor's to answer, and the workers of a killed master go with it.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("{name} cannot be started: {command:?}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with its last words, if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self
            .child
            .try_wait()
            .with_context(|| format!("cannot ask after {}", self.name))?;
        if let Some(status) = ended {
            bail!(
                "{} ended with {status}; it said: {}",
                self.name,
                self.tail()
            );
        }
        Ok(())
    }

    /// The last lines that it wrote.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().rev().take(TAIL);
        let mut lines: Vec<String> = lines
            .map(|line| line.chars().take(LINE).collect())
            .collect();
        lines.reverse();
        lines.join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill_group(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a child that leads its group, with the group.
pub(crate) fn kill_group(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // A group that is gone already is what is wanted.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Runs a command to its end; its standard output, or an error that holds what it complained.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let ran = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?} cannot be started"))?;
    if !ran.status.success() {
        let complaint = String::from_utf8_lossy(&ran.stderr);
        bail!("{command:?}: {}: {}", ran.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// The path of this program: it is also the load and the backend.
pub(crate) fn own_path() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program has no path")
}

/// Where a program lies: in a folder of `$PATH`, or of administrators, who may not be in it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

const TAIL: usize = 5;
const LINE: usize = 300;
