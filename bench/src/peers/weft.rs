//! Weft: a control plane on the load's CPU, a sidecar a side, their identities and policy by the ordinary way: `meshctl`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::{Entrances, Handshakes, Pair, Setting};
use crate::network::Host;
use crate::process::{self, Process};
use crate::template;

pub(super) async fn start(setting: &Setting<'_>, folder: &Path) -> anyhow::Result<Pair> {
    let mesh = Mesh::start(setting, folder).await?;
    let network = setting.network;
    let (entry, entry_http2, entry_tcp) = (network.local()?, network.local()?, network.local()?);
    let (inner, unused) = (network.at_b()?, network.local()?);
    let b = mesh.sidecar(
        (&network.b, "app"),
        include_str!("../../templates/weft-b.yaml"),
        &[
            ("inbound", inner.to_string()),
            ("app", setting.backend.http.to_string()),
            ("app-tcp", setting.backend.tcp.to_string()),
        ],
    )?;
    let a = mesh.sidecar(
        (&network.a, "client"),
        include_str!("../../templates/weft-a.yaml"),
        &[
            ("inbound", unused.to_string()),
            ("entry", entry.to_string()),
            ("entry-http2", entry_http2.to_string()),
            ("entry-tcp", entry_tcp.to_string()),
        ],
    )?;
    let (certificate, key) = mesh.client_svid().await?;
    Ok(Pair {
        proxies: Some([a, b]),
        entrances: Entrances {
            http1: entry,
            http2: entry_http2,
            tcp: Ok(entry_tcp),
        },
        handshakes: Some(Handshakes {
            to: inner,
            server_name: format!("http.app.bench.{TRUST_DOMAIN}"),
            alpn: "http/1.1",
            certificate,
            key,
        }),
        others: vec![mesh.control_plane],
    })
}

/// What the sidecar says of its version, or what is missing.
pub(super) fn version(binaries: &Path) -> Result<String, String> {
    for program in ["weft-sidecar", "weft-control-plane", "meshctl"] {
        let path = binaries.join(program);
        if !path.is_file() {
            return Err(format!(
                "{} is missing: cargo build --profile dist --bins, or --binaries DIR",
                path.display()
            ));
        }
    }
    let mut command = Command::new(binaries.join("weft-sidecar"));
    command.arg("--version");
    let said = process::output(command);
    Ok(said.map_or_else(|_| "weft".to_owned(), |said| said.trim().to_owned()))
}

/// A control plane with an operator.
struct Mesh<'a> {
    setting: &'a Setting<'a>,
    folder: &'a Path,
    api: SocketAddr,
    attestation: SocketAddr,
    control_plane: Process,
}

impl<'a> Mesh<'a> {
    /// Starts it, logs in and applies the resources.
    async fn start(setting: &'a Setting<'a>, folder: &'a Path) -> anyhow::Result<Self> {
        let network = setting.network;
        let (api, attestation, admin) = (network.at_b()?, network.at_b()?, network.local()?);
        for name in ["control-plane", "context", "config"] {
            private_folder(&folder.join(name))?;
        }
        let key = folder.join("state.key");
        // A key for the length of one run, of a state that nobody keeps.
        private_file(&key, &"5a".repeat(32))?;
        let place = network.b.place(setting.cpus.load);
        let mut command = place.command(&setting.binaries.join("weft-control-plane"));
        command
            .args(["--trust-domain", TRUST_DOMAIN, "--log-level", "warn"])
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--runtime")
            .arg(folder.join("control-plane"))
            .arg("--key-file")
            .arg(key);
        for (flag, address) in [
            ("--api", api),
            ("--attestation", attestation),
            ("--admin", admin),
        ] {
            command.arg(flag).arg(address.to_string());
        }
        let log = folder.join("control-plane.log");
        let control_plane = Process::start("weft-control-plane", command, &log)?;
        let mut mesh = Self {
            setting,
            folder,
            api,
            attestation,
            control_plane,
        };
        mesh.login().await?;
        let resources = folder.join("weft.yaml");
        template::write(&resources, include_str!("../../templates/weft.yaml"), &[])?;
        mesh.meshctl(&["apply", "-f", &resources.display().to_string()])?;
        Ok(mesh)
    }

    async fn login(&mut self) -> anyhow::Result<()> {
        let socket = self.folder.join("control-plane/operator.sock");
        let socket = socket.display().to_string();
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.control_plane.check()?;
            match self.meshctl(&["login", "--socket", &socket]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Runs `meshctl` where it reaches the control plane.
    fn meshctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let place = self.setting.network.b.place(self.setting.cpus.load);
        let mut command = place.command(&self.setting.binaries.join("meshctl"));
        command
            .args(arguments)
            .env("WEFT_CONTEXT", self.folder.join("context"))
            .env("XDG_CONFIG_HOME", self.folder.join("config"))
            .env("NO_COLOR", "1")
            .current_dir(self.folder);
        process::output(command)
    }

    /// A sidecar of the workload `bench/NAME` with a fresh join token.
    fn sidecar(
        &self,
        (host, name): (&Host, &str),
        template: &str,
        values: &[(&str, String)],
    ) -> anyhow::Result<Process> {
        let runtime = self.folder.join(name);
        private_folder(&runtime)?;
        let token = self.meshctl(&["token", "create", &format!("bench/{name}"), "-o", "json"])?;
        let token: Token = serde_json::from_str(&token).context("not a token")?;
        private_file(&runtime.join("token"), &token.token)?;
        let mut values = values.to_vec();
        values.extend([
            ("trust-domain", TRUST_DOMAIN.to_owned()),
            ("api", self.api.to_string()),
            ("attestation", self.attestation.to_string()),
            ("runtime", runtime.display().to_string()),
            ("admin", self.setting.network.local()?.to_string()),
        ]);
        let config = runtime.join("config.yaml");
        template::write(&config, template, &values)?;
        let place = host.place(self.setting.cpus.proxies);
        let mut command = place.command(&self.setting.binaries.join("weft-sidecar"));
        command.arg("--config").arg(&config);
        let log = self.folder.join(format!("{name}.log"));
        Process::start(&format!("weft-sidecar {name}"), command, &log)
    }

    /// The certificate and key of the client's sidecar, as PEM files.
    async fn client_svid(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        let path = self.folder.join("client/svid.json");
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            match std::fs::read(&path) {
                Ok(text) => break text,
                Err(_) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Err(error) => {
                    let log = std::fs::read_to_string(self.folder.join("client.log"));
                    let told = format!("the client has no SVID: {}", log.unwrap_or_default());
                    return Err(anyhow!(error).context(told));
                }
            }
        };
        let stored: StoredSvid = serde_json::from_slice(&text).context("not an SVID's file")?;
        let chain: Result<String, _> = stored
            .chain
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect();
        let (certificate, key) = (
            self.folder.join("client.pem"),
            self.folder.join("client.key"),
        );
        private_file(&certificate, &chain?)?;
        private_file(&key, &pem("PRIVATE KEY", &stored.key)?)?;
        Ok((certificate, key))
    }
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// What of a sidecar's stored SVID matters here; both hold DER in base64.
#[derive(Deserialize)]
struct StoredSvid {
    chain: Vec<String>,
    key: String,
}

fn pem(label: &str, der: &str) -> anyhow::Result<String> {
    let der = BASE64.decode(der).context("not base64")?;
    let text = BASE64.encode(der);
    let mut lines = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    Ok(format!(
        "-----BEGIN {label}-----\n{lines}-----END {label}-----\n"
    ))
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make {}", path.display()))
}

fn private_file(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("cannot write {}", path.display()))
}

const TRUST_DOMAIN: &str = "bench.test";
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);
