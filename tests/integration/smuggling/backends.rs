//! The three back ends: real servers that write down what they read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use weft_tests::{Process, eventually, get};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    Nginx,
    Python,
    Node,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Nginx, Kind::Python, Kind::Node];

/// A running back end with several ports.
pub(super) struct BackEnd {
    pub(super) kind: Kind,
    pub(super) ports: Vec<u16>,
    process: Process,
    records: PathBuf,
}

/// A request as a back end read it, or as far as it did.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Empty where it could not read a request line.
    pub(super) method: String,
    /// As it stood in the request line.
    pub(super) target: String,
    /// As an application would route by it.
    pub(super) path: String,
    pub(super) host: String,
    pub(super) length: u64,
    /// The content came to its end.
    pub(super) complete: bool,
    /// Every `x-forwarded-client-cert`, in any spelling.
    pub(super) callers: String,
    /// How many lines told where the content ends; nginx does not say.
    pub(super) framings: u64,
}

#[derive(Deserialize)]
struct Line {
    port: u16,
    method: String,
    target: String,
    path: String,
    host: String,
    length: Option<u64>,
    complete: Option<bool>,
    callers: String,
    framings: Option<u64>,
    /// nginx's: `whole:COUNT`, or empty where the content did not come whole.
    content: Option<String>,
}

impl BackEnd {
    pub(super) async fn start(kind: Kind, ports: usize, folder: &Path) -> Self {
        let folder = folder.join(kind.name());
        std::fs::create_dir(&folder).expect("a folder can be made");
        match kind {
            Kind::Nginx => nginx(ports, &folder).await,
            Kind::Python => script(kind, "recorder.py", ports, &folder).await,
            Kind::Node => script(kind, "recorder.js", ports, &folder).await,
        }
    }

    /// Ends it, and gives what it read, by port. Whatever had arrived is among it: each port answers one more request first.
    pub(super) async fn finish(mut self) -> BTreeMap<u16, Vec<Record>> {
        for port in &self.ports {
            let answer = get(&format!("http://127.0.0.1:{port}{FENCE}")).await;
            assert_eq!(answer.expect("an answer").status, 200, "{:?}", self.kind);
        }
        self.process.terminate(Duration::from_secs(20));
        let bytes = std::fs::read(&self.records).expect("the records");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut records: BTreeMap<u16, Vec<Record>> = BTreeMap::new();
        for line in text.lines() {
            let line: Line = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{:?}: {error} in {line}", self.kind));
            if line.target != FENCE {
                records
                    .entry(line.port)
                    .or_default()
                    .push(Record::from(line));
            }
        }
        records
    }
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        let content = line.content.unwrap_or_default();
        let whole = content.strip_prefix("whole:");
        Self {
            complete: line.complete.unwrap_or(whole.is_some()),
            length: line
                .length
                .or_else(|| whole.and_then(|count| count.parse().ok()))
                .unwrap_or(0),
            method: line.method,
            target: line.target,
            path: line.path,
            host: line.host,
            callers: line.callers,
            framings: line.framings.unwrap_or(0),
        }
    }
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// The program; the test fails without it, because a corpus that skips a back end proves nothing of it.
    fn program(self) -> PathBuf {
        let (names, package): (&[&str], _) = match self {
            Self::Nginx => (&["nginx"], "nginx-light (or nginx)"),
            Self::Python => (&["python3"], "python3"),
            Self::Node => (&["node", "nodejs"], "nodejs"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Where Debian has servers, whether or not the user's PATH does.
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let mut candidates =
            folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        candidates
            .find(|candidate| candidate.is_file())
            .unwrap_or_else(|| panic!("{self:?} is not installed: apt-get install {package}"))
    }
}

async fn script(kind: Kind, name: &str, ports: usize, folder: &Path) -> BackEnd {
    let records = folder.join("records");
    let announced = folder.join("ports");
    let mut command = Command::new(kind.program());
    command
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("integration/smuggling")
                .join(name),
        )
        .args([&records, &announced])
        .arg(ports.to_string());
    let mut process = Process::start(kind.name(), &mut command, &folder.join("log"));
    let ports = eventually("the back end listens", || {
        let ended = process.ended();
        let told = std::fs::read(&announced).ok();
        let ports = told.and_then(|text| serde_json::from_slice::<Vec<u16>>(&text).ok());
        let log = process.log();
        async move {
            assert!(ended.is_none(), "it ended: {ended:?}\n{log}");
            ports.ok_or(())
        }
    })
    .await;
    BackEnd {
        kind,
        ports,
        process,
        records,
    }
}

/// nginx takes only ports that it is told, so that another process may be quicker: then with others again.
async fn nginx(ports: usize, folder: &Path) -> BackEnd {
    for _ in 0..MOST_STARTS {
        let ports = free_ports(ports);
        let listen: Vec<String> = ports
            .iter()
            .map(|port| format!("        listen 127.0.0.1:{port};"))
            .collect();
        let config = include_str!("nginx.conf")
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@LISTEN@", &listen.join("\n"));
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).expect("the configuration is written");
        let _ = std::fs::remove_file(folder.join("inner.sock"));
        let mut command = Command::new(Kind::Nginx.program());
        command
            .arg("-p")
            .arg(folder)
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-c")
            .arg(&file);
        let mut process = Process::start("nginx", &mut command, &folder.join("log"));
        let page = format!("http://127.0.0.1:{}{FENCE}", ports[0]);
        let started = eventually("nginx listens or has ended", || {
            let ended = process.ended();
            let page = page.clone();
            async move {
                match ended {
                    Some(_) => Ok(false),
                    None => get(&page).await.map(|answer| answer.status == 200),
                }
            }
        })
        .await;
        if started {
            let records = folder.join("records");
            return BackEnd {
                kind: Kind::Nginx,
                ports,
                process,
                records,
            };
        }
    }
    let log = std::fs::read_to_string(folder.join("error.log"));
    panic!("nginx does not start: {log:?}")
}

fn free_ports(count: usize) -> Vec<u16> {
    let bind =
        |_| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let held: Vec<TcpListener> = (0..count).map(bind).collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound address").port();
    held.iter().map(port).collect()
}

const FENCE: &str = "/fence";
const MOST_STARTS: usize = 5;
