//! `meshctl up` as a user runs it: a mesh file, a state folder, one JSON line that says what runs where.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::mesh::{Ran, run};
use crate::{Response, binary, eventually};

/// A mesh that `meshctl up` runs.
#[derive(Debug)]
pub struct Up {
    pub report: Value,
    child: Child,
    mesh_file: PathBuf,
    folder: TempDir,
}

impl Up {
    /// Starts it from a file of this repository, named from its root, and waits for the report.
    pub async fn start(mesh_file: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(repository().join(mesh_file), folder).await
    }

    /// Starts it from files that are written for it; the first one is the mesh file.
    pub async fn start_from(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let (mesh_file, _) = files.first().expect("a mesh file");
        Self::start_in(folder.path().join(mesh_file), folder).await
    }

    async fn start_in(mesh_file: PathBuf, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("up.log")).expect("a log");
        let mut command = Command::new(binary("meshctl"));
        command
            .arg("up")
            .arg(&mesh_file)
            .args(["-o", "json"])
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .env_remove("WEFT_CONTEXT")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().expect("meshctl starts");
        let out = child.stdout.take().expect("piped");
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(START_LIMIT, read).await;
        let line = match line {
            Ok(line) => line
                .expect("a reader")
                .expect("standard output can be read"),
            Err(_) => String::new(),
        };
        let mut up = Self {
            report: Value::Null,
            child,
            mesh_file,
            folder,
        };
        up.report = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error} in {line:?}\n{}", up.log()));
        up
    }

    /// Starts it again in the same folder.
    pub async fn start_again(mut self) -> Self {
        assert!(
            self.child.try_wait().expect("a child").is_some(),
            "the first one still runs"
        );
        // What lies in the runtime folder is for the next one.
        self.report = Value::Null;
        let folder = std::mem::replace(
            &mut self.folder,
            tempfile::tempdir().expect("a temporary folder"),
        );
        Self::start_in(self.mesh_file.clone(), folder).await
    }

    /// Runs `meshctl` in the mesh's folder.
    pub async fn meshctl(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(binary("meshctl"));
        command.args(arguments);
        run(self.at_home(command), "").await
    }

    /// The same, again and again until it exits with 0: what a sidecar reports takes a moment to arrive.
    pub async fn meshctl_until_ok(&self, arguments: &[&str]) -> Ran {
        eventually("the command succeeds", || async {
            let ran = self.meshctl(arguments).await;
            if ran.code == 0 { Ok(ran) } else { Err(ran) }
        })
        .await
    }

    /// The same, until what it says is enough.
    pub async fn meshctl_until(&self, arguments: &[&str], is_enough: impl Fn(&Ran) -> bool) -> Ran {
        eventually("the command says enough", || async {
            let ran = self.meshctl(arguments).await;
            if is_enough(&ran) { Ok(ran) } else { Err(ran) }
        })
        .await
    }

    /// Runs a line as a person pastes it.
    pub async fn shell(&self, line: &str) -> Ran {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        run(self.at_home(command), "").await
    }

    fn at_home(&self, mut command: Command) -> Command {
        command
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("NO_COLOR", "1")
            .env_remove("WEFT_CONTEXT")
            .env_remove("http_proxy")
            .current_dir(self.folder.path());
        command
    }

    /// `GET url` through a workload's sidecar.
    pub async fn through_proxy(&self, instance: &str, url: &str) -> Response {
        let proxy = self.address(instance, "proxy");
        let host = url
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        crate::request(proxy, "GET", url, &[("Host", &host)], b"")
            .await
            .expect("the proxy answers")
    }

    /// An address that the report names: `proxy`, `inbound` or `admin`.
    #[track_caller]
    pub fn address(&self, instance: &str, what: &str) -> SocketAddr {
        address(&self.workload(instance)[what])
    }

    /// Where an instance's program listens.
    #[track_caller]
    pub fn port(&self, instance: &str, name: &str) -> SocketAddr {
        address(&self.workload(instance)["ports"][name])
    }

    #[track_caller]
    pub fn workload(&self, instance: &str) -> &Value {
        self.workloads()
            .iter()
            .find(|workload| workload["instance"] == instance)
            .unwrap_or_else(|| panic!("no {instance} in {}", self.report))
    }

    #[track_caller]
    pub fn workloads(&self) -> &[Value] {
        self.report["workloads"]
            .as_array()
            .expect("a list of workloads")
    }

    pub fn spiffe_ids(&self) -> Vec<String> {
        self.workloads()
            .iter()
            .map(|workload| workload["spiffeId"].to_string())
            .collect()
    }

    /// The roots that the operator trusts.
    pub fn bundle(&self) -> String {
        std::fs::read_to_string(self.state().join("bundle.pem")).expect("a bundle")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join(".weft")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    /// A file of this repository.
    pub fn source(&self, path: &str) -> String {
        repository().join(path).display().to_string()
    }

    /// Ctrl-C; fails the test if it has not ended within `limit`, or not with 0.
    pub fn interrupt(&mut self, limit: Duration) {
        signal(&self.child, Signal::INT);
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => {
                    assert!(status.success(), "{status}\n{}", self.log());
                    return;
                }
                None if Instant::now() > deadline => {
                    panic!("it did not end within {limit:?}\n{}", self.log())
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// SIGKILL: it gets no chance to stop its processes.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// The command lines of the mesh's processes that run.
    pub fn processes(&self) -> Vec<String> {
        let home = self.folder.path().display().to_string();
        let runtime = self.report["controlPlane"]["runtime"]
            .as_str()
            .expect("a folder");
        let mut marks = vec![home, runtime.trim_end_matches("/control-plane").to_owned()];
        // Programs are known by the addresses in their arguments.
        for workload in self.workloads() {
            marks.push(address(&workload["proxy"]).to_string());
            let ports = workload["ports"].as_object().into_iter().flatten();
            marks.extend(ports.map(|(_, at)| address(at).to_string()));
        }
        let is_ours = |line: &String| marks.iter().any(|mark| line.contains(mark));
        command_lines().into_iter().filter(is_ours).collect()
    }

    /// No process, port or lock of the mesh is there any more.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "processes are left: {left:?}");
        for workload in self.workloads() {
            for what in ["inbound", "proxy", "admin"] {
                assert_free(address(&workload[what]));
            }
        }
        assert!(!self.state().join("up.lock").exists(), "the lock is left");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.end();
        if let Some(runtime) = self.report["controlPlane"]["runtime"]
            .as_str()
            .map(Path::new)
        {
            // The one of the whole mesh: keys of a mesh that is gone.
            let _ = runtime.parent().map(std::fs::remove_dir_all);
        }
    }
}

impl Up {
    fn end(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        // Its children end with it only when it ends in order.
        signal(&self.child, Signal::INT);
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && self.child.try_wait().is_ok_and(|ended| ended.is_none())
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- meshctl up wrote:\n{}", self.log());
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

#[track_caller]
fn address(value: &Value) -> SocketAddr {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no address: {value}"))
}

/// A port that was given back may be somebody else's for a while: another test's, or an outgoing connection's.
#[track_caller]
pub fn assert_free(at: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = TcpListener::bind(at) {
        assert!(Instant::now() < deadline, "{at} is still taken: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The command lines of all processes of this host.
fn command_lines() -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
            lines.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    lines
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the repository")
        .to_owned()
}

const START_LIMIT: Duration = Duration::from_secs(60);
