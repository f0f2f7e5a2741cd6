//! A control plane process with an operator, driven through `meshctl`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Process, Terminal, binary, eventually};

/// A running control plane and the folders of everything that joins it.
#[derive(Debug)]
pub struct Mesh {
    pub control_plane: Process,
    pub api: SocketAddr,
    pub attestation: SocketAddr,
    pub admin: SocketAddr,
    folder: TempDir,
    runtime: TempDir,
    options: MeshOptions,
}

#[derive(Debug, Clone)]
pub struct MeshOptions {
    pub trust_domain: String,
    /// Further flags of the control plane.
    pub flags: Vec<String>,
}

impl Default for MeshOptions {
    fn default() -> Self {
        Self {
            trust_domain: "test.example".into(),
            flags: Vec::new(),
        }
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless it exited with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// Its standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in: {}\nstderr: {}", self.stdout, self.stderr))
    }
}

impl Mesh {
    pub async fn start() -> Self {
        Self::start_with(MeshOptions::default()).await
    }

    pub async fn start_with(options: MeshOptions) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = runtime_folder();
        for name in ["state", "context", "config"] {
            private_folder(&folder.path().join(name));
        }
        std::fs::write(
            folder.path().join("state.key"),
            format!("{}\n", random_hex()),
        )
        .expect("the key is written");
        set_mode(&folder.path().join("state.key"), 0o600);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut control_plane =
            spawn_control_plane(&options, folder.path(), runtime.path(), [nowhere; 3]);
        let told = wait_for_addresses(
            &mut control_plane,
            &runtime.path().join("cp/control-plane.json"),
        )
        .await;
        let address = |name: &str| -> SocketAddr {
            told[name]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in {told}"))
        };
        let mesh = Self {
            api: address("api"),
            attestation: address("attestation"),
            admin: address("admin"),
            control_plane,
            folder,
            runtime,
            options,
        };
        mesh.login().await;
        mesh
    }

    /// Starts the killed control plane again, at the same addresses and with the same state.
    pub async fn restart_control_plane(&mut self) {
        self.control_plane.kill();
        let announced = self.runtime.path().join("cp/control-plane.json");
        let _ = std::fs::remove_file(&announced);
        self.control_plane = spawn_control_plane(
            &self.options,
            self.folder.path(),
            self.runtime.path(),
            [self.api, self.attestation, self.admin],
        );
        wait_for_addresses(&mut self.control_plane, &announced).await;
    }

    async fn login(&self) {
        let socket = self.operator_socket().display().to_string();
        eventually("the operator logs in", || async {
            let ran = self.meshctl(["login", "--socket", &socket]).await;
            if ran.code == 0 { Ok(()) } else { Err(ran) }
        })
        .await;
    }

    /// Runs `meshctl` as this mesh's operator.
    pub async fn meshctl<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        self.meshctl_with(&arguments, "").await
    }

    /// The same, with text on its standard input.
    pub async fn meshctl_with(&self, arguments: &[&str], input: &str) -> Ran {
        run(self.command(arguments), input).await
    }

    /// The same, as a person runs it.
    pub fn meshctl_on_terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::start(self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("meshctl"));
        command
            .args(arguments)
            .env("WEFT_CONTEXT", self.context())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("NO_COLOR", "1")
            .current_dir(self.folder.path());
        command
    }

    /// Applies documents and waits until every affected sidecar has acknowledged.
    #[track_caller]
    pub fn apply(&self, documents: &str) -> impl Future<Output = Ran> + use<'_> {
        let documents = documents.to_owned();
        async move {
            self.meshctl_with(
                &["apply", "-f", "-", "--yes", "--wait", "--timeout", "10s"],
                &documents,
            )
            .await
            .ok()
        }
    }

    /// A join token for `namespace/name`.
    pub async fn token(&self, workload: &str) -> String {
        let ran = self
            .meshctl(["token", "create", workload, "-o", "json"])
            .await
            .ok();
        ran.json()["token"].as_str().expect("a token").to_owned()
    }

    /// The newest records of the audit, oldest first, as `meshctl audit tail -o json` prints them.
    pub async fn audit(&self) -> Vec<Value> {
        let ran = self
            .meshctl(["audit", "tail", "-l", "200", "-o", "json"])
            .await
            .ok();
        ran.json().as_array().expect("a list of records").clone()
    }

    /// Waits for an audit record of this action and outcome that mentions all of these texts.
    pub async fn audited(&self, action: &str, outcome: &str, mentions: &[&str]) -> Value {
        let what = format!("an audit record: {action} {outcome} {mentions:?}");
        eventually(&what, || async {
            let records = self.audit().await;
            let found = records.iter().find(|record| {
                let text = record.to_string();
                record["action"] == action
                    && record["outcome"] == outcome
                    && mentions.iter().all(|part| text.contains(part))
            });
            found.cloned().ok_or(records)
        })
        .await
    }

    pub fn trust_domain(&self) -> &str {
        &self.options.trust_domain
    }

    /// The operator's context folder.
    pub fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    /// What the control plane keeps on disk.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("state.key")
    }

    pub fn operator_socket(&self) -> PathBuf {
        self.runtime.path().join("cp/operator.sock")
    }

    /// A folder for whatever else a test writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where every runtime folder of this mesh lies.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }
}

fn spawn_control_plane(
    options: &MeshOptions,
    folder: &Path,
    runtime: &Path,
    addresses: [SocketAddr; 3],
) -> Process {
    let own = runtime.join("cp");
    private_folder(&own);
    let mut command = Command::new(binary("weft-control-plane"));
    command
        .arg("--trust-domain")
        .arg(&options.trust_domain)
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--runtime")
        .arg(&own)
        .arg("--key-file")
        .arg(folder.join("state.key"))
        .args(&options.flags);
    for (flag, address) in ["--api", "--attestation", "--admin"].iter().zip(addresses) {
        command.arg(flag).arg(address.to_string());
    }
    Process::start(
        "control plane",
        &mut command,
        &folder.join("control-plane.log"),
    )
}

/// What a process told in the file that it writes once it listens.
pub(crate) async fn wait_for_addresses(process: &mut Process, file: &Path) -> Value {
    eventually("the process listens", || {
        let ended = process.ended();
        let told = std::fs::read(file)
            .ok()
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let log = process.log();
        async move {
            assert!(ended.is_none(), "it ended: {ended:?}\n{log}");
            told.ok_or(())
        }
    })
    .await
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command, input: &str) -> Ran {
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        // A command that does not read its input may close it.
        let _ = child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    })
    .await
    .expect("the command ran")
}

/// A temporary folder in memory, with a short path: Unix sockets live in it.
fn runtime_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let made = made.expect("a temporary folder");
    set_mode(made.path(), 0o700);
    made
}

pub(crate) fn private_folder(path: &Path) {
    std::fs::create_dir_all(path).expect("a folder can be made");
    set_mode(path, 0o700);
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .expect("permissions can be set");
}

fn random_hex() -> String {
    let mut bytes = [0u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
