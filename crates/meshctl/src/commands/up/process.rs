//! Child processes: started, their output read, restarted with back-off when they end, stopped in groups.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_daemon::{Backoff, CancellationToken};

use super::console::Console;
use super::family::Family;
use super::watch::Watch;

/// What to run, and where its output goes.
#[derive(Clone)]
pub(super) struct ProcessSpec {
    /// As people know it: `web`, `web's sidecar`.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    pub(super) output: OutputTo,
    /// Done before each start; its failure is told and does not keep the process from starting.
    pub(super) prepare: Option<Prepare>,
}

pub(super) type Prepare = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

#[derive(Debug, Clone)]
pub(super) enum OutputTo {
    /// Line by line, under the process's name.
    Console,
    /// A file of bounded size that starts anew at each start; the one before is kept as `.log.1`.
    File(PathBuf),
}

/// Processes that are stopped together.
pub(super) struct Group {
    running: JoinSet<()>,
    stop: CancellationToken,
    console: Console,
    watch: Watch,
    /// How long a process may take to end after SIGTERM.
    patience: Duration,
}

/// The process id of a supervised process; `None` while it does not run.
pub(super) type PidWatch = watch::Receiver<Option<u32>>;

impl Group {
    pub(super) fn new(console: Console, watch: Watch, patience: Duration) -> Self {
        Self {
            running: JoinSet::new(),
            stop: CancellationToken::new(),
            console,
            watch,
            patience,
        }
    }

    /// Starts the process and keeps it running until the group stops.
    pub(super) fn start(&mut self, spec: ProcessSpec) -> PidWatch {
        let (pid, watch) = watch::channel(None);
        let supervisor = Supervisor {
            spec: Arc::new(spec),
            pid,
            stop: self.stop.clone(),
            console: self.console.clone(),
            watch: self.watch.clone(),
            patience: self.patience,
        };
        self.running.spawn(supervisor.run());
        watch
    }

    /// Asks every process to end, waits, and kills what has not ended by then.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

struct Supervisor {
    spec: Arc<ProcessSpec>,
    pid: watch::Sender<Option<u32>>,
    stop: CancellationToken,
    console: Console,
    watch: Watch,
    patience: Duration,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = Backoff::new(RESTART_AFTER_AT_LEAST, RESTART_AFTER_AT_MOST);
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            self.prepare().await;
            if self.stop.is_cancelled() {
                return;
            }
            let ended = self.run_once().await;
            self.pid.send_replace(None);
            if self.stop.is_cancelled() {
                return;
            }
            if started.elapsed() > STEADY_AFTER {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            let name = &self.spec.name;
            self.console.note(&format!(
                "! {name} {ended}; it is started again in {delay:.1?}"
            ));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn prepare(&self) {
        let Some(prepare) = &self.spec.prepare else {
            return;
        };
        let prepared = tokio::select! {
            prepared = prepare() => prepared,
            () = self.stop.cancelled() => return,
        };
        if let Err(error) = prepared {
            self.console.note(&format!(
                "! {} starts all the same: {error:#}",
                self.spec.name
            ));
        }
    }

    /// Runs the process to its end and says how it ended.
    async fn run_once(&self) -> String {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => {
                return format!(
                    "cannot be started ({}: {error})",
                    self.spec.program.display()
                );
            }
        };
        self.pid.send_replace(child.id());
        let family = child.id().and_then(Family::led_by);
        if let Some(family) = family {
            self.watch.began(family);
        }
        let mut readers = JoinSet::new();
        let log = self.open_log();
        if let Some(out) = child.stdout.take() {
            readers.spawn(pump(out, self.sink(log.clone())));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(pump(err, self.sink(log)));
        }
        let ended = tokio::select! {
            ended = child.wait() => match ended {
                Ok(status) => format!("ended ({status})"),
                Err(error) => format!("was lost sight of ({error})"),
            },
            () = self.stop.cancelled() => {
                end(&mut child, family, self.patience).await;
                "was stopped".to_owned()
            }
        };
        // What it started would hold the ports that the next one needs, and the pipes.
        if let Some(family) = family {
            family.kill().await;
            self.watch.ended(family);
        }
        // Who left the family may hold the pipes open for ever; the rest of a dead child's output comes at once.
        let _ = tokio::time::timeout(LAST_WORDS, async {
            while readers.join_next().await.is_some() {}
        })
        .await;
        ended
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(std::env::current_exe()?)
            .args([
                "up-child",
                "--parent",
                &std::process::id().to_string(),
                "--",
            ])
            .arg(&self.spec.program)
            .args(&self.spec.arguments)
            .envs(&self.spec.env)
            .current_dir(&self.spec.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for `up`, which then stops its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    fn open_log(&self) -> Option<Arc<std::sync::Mutex<Log>>> {
        let OutputTo::File(path) = &self.spec.output else {
            return None;
        };
        match Log::open(path.clone()) {
            Ok(log) => Some(Arc::new(std::sync::Mutex::new(log))),
            Err(error) => {
                self.console.note(&format!(
                    "! the log {} cannot be written: {error}",
                    path.display()
                ));
                None
            }
        }
    }

    fn sink(&self, log: Option<Arc<std::sync::Mutex<Log>>>) -> Sink {
        match log {
            Some(log) => Sink::Log(log),
            None => Sink::Console(self.console.clone(), self.spec.name.clone()),
        }
    }
}

/// SIGTERM to the family, patience until the child has ended, and a little for the others. The rest is killed by the caller.
async fn end(child: &mut Child, family: Option<Family>, patience: Duration) {
    let deadline = Instant::now() + patience;
    if let Some(family) = family {
        family.ask_to_end();
    }
    if tokio::time::timeout_at(deadline, child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
    if let Some(family) = family {
        family.gone_by(deadline.min(Instant::now() + OTHERS)).await;
    }
}

enum Sink {
    Console(Console, String),
    Log(Arc<std::sync::Mutex<Log>>),
}

async fn pump(from: impl AsyncRead + Unpin, to: Sink) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match &to {
            Sink::Console(console, name) => {
                console.program(name, String::from_utf8_lossy(&line).trim_end())
            }
            Sink::Log(log) => log
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .append(&line),
        }
    }
}

/// A log file that starts anew at each start and when it is full, keeping the one before.
struct Log {
    path: PathBuf,
    file: File,
    written: usize,
}

impl Log {
    fn open(path: PathBuf) -> std::io::Result<Self> {
        match std::fs::rename(&path, path.with_extension("log.1")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            path,
            file,
            written: 0,
        })
    }

    fn append(&mut self, line: &[u8]) {
        if self.written + line.len() > MAX_LOG
            && let Ok(fresh) = Self::open(self.path.clone())
        {
            *self = fresh;
        }
        // A full disk costs the line, not the process.
        if self.file.write_all(line).is_ok() {
            self.written += line.len();
        }
    }
}

const RESTART_AFTER_AT_LEAST: Duration = Duration::from_millis(200);
const RESTART_AFTER_AT_MOST: Duration = Duration::from_secs(15);
/// A process that ran this long has recovered: the next back-off starts small.
const STEADY_AFTER: Duration = Duration::from_secs(30);
/// How long what a process started may outlive it in an orderly stop.
const OTHERS: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_millis(200);
const MAX_LINE: u64 = 16 << 10;
const MAX_LOG: usize = 8 << 20;
