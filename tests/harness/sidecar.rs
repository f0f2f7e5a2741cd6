//! A sidecar process of one workload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::mesh::{private_folder, set_mode, wait_for_addresses};
use crate::{Mesh, Process, binary, eventually};

/// What a sidecar is told at its start.
#[derive(Debug, Clone)]
pub struct SidecarSpec {
    workload: String,
    instance: String,
    upstreams: Vec<String>,
    apps: BTreeMap<String, SocketAddr>,
    drain: String,
    extra: Value,
    under: Vec<String>,
}

impl SidecarSpec {
    /// A sidecar for `namespace/name`, its instance named as the workload.
    pub fn of(workload: &str) -> Self {
        let name = workload.split('/').next_back().unwrap_or(workload);
        Self {
            workload: workload.to_owned(),
            instance: name.to_owned(),
            upstreams: Vec::new(),
            apps: BTreeMap::new(),
            drain: "5s".into(),
            extra: json!({}),
            under: Vec::new(),
        }
    }

    /// Run by a program that becomes it, or runs it in its own process: its words, before those of the sidecar.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().copied().map(String::from).collect();
        self
    }

    pub fn instance(mut self, instance: &str) -> Self {
        self.instance = instance.to_owned();
        self
    }

    /// A local listener that leads to `namespace/service:port`.
    pub fn upstream(mut self, target: &str) -> Self {
        self.upstreams.push(target.to_owned());
        self
    }

    /// Where the program behind `namespace/service:port` listens.
    pub fn app(mut self, target: &str, address: SocketAddr) -> Self {
        self.apps.insert(target.to_owned(), address);
        self
    }

    pub fn drain(mut self, limit: &str) -> Self {
        self.drain = limit.to_owned();
        self
    }

    /// Sets another key of the configuration.
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.extra[key] = value;
        self
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    pub process: Process,
    pub inbound: SocketAddr,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    upstreams: BTreeMap<String, SocketAddr>,
    pub runtime: PathBuf,
    config: PathBuf,
    log: PathBuf,
    instance: String,
    under: Vec<String>,
}

impl Mesh {
    /// Starts a sidecar with a fresh join token and waits until it enforces its first view.
    pub async fn sidecar(&self, spec: SidecarSpec) -> Sidecar {
        let sidecar = self.sidecar_unready(spec).await;
        sidecar.wait_until_ready().await;
        sidecar
    }

    /// The same without the wait for its first view.
    pub async fn sidecar_unready(&self, spec: SidecarSpec) -> Sidecar {
        let (config, runtime, log) = self.prepare(&spec).await;
        Sidecar::spawn((spec.instance, spec.under), config, runtime, log).await
    }

    /// A sidecar that may never come to listen: its process alone.
    pub async fn sidecar_process(&self, spec: SidecarSpec) -> Process {
        let (config, _, log) = self.prepare(&spec).await;
        Process::start(&spec.instance, &mut command(&spec.under, &config), &log)
    }

    /// Writes the token and the configuration; answers where they, the runtime folder and the log are.
    async fn prepare(&self, spec: &SidecarSpec) -> (PathBuf, PathBuf, PathBuf) {
        let runtime = self.runtime().join(&spec.instance);
        private_folder(&runtime);
        let token = runtime.join("token");
        std::fs::write(&token, self.token(&spec.workload).await).expect("the token is written");
        set_mode(&token, 0o600);
        let config = runtime.join("config.yaml");
        std::fs::write(&config, self.sidecar_config(spec, &runtime).to_string())
            .expect("the configuration is written");
        set_mode(&config, 0o600);
        let log = self.folder().join(format!("{}.log", spec.instance));
        (config, runtime, log)
    }

    fn sidecar_config(&self, spec: &SidecarSpec, runtime: &Path) -> Value {
        let split = |target: &str| {
            let (service, port) = target.split_once(':').expect("namespace/service:port");
            (service.to_owned(), port.to_owned())
        };
        let upstreams: Vec<Value> = spec
            .upstreams
            .iter()
            .map(|target| {
                let (service, port) = split(target);
                json!({"service": service, "port": port, "listen": "127.0.0.1:0"})
            })
            .collect();
        let apps: Vec<Value> = spec
            .apps
            .iter()
            .map(|(target, address)| {
                let (service, port) = split(target);
                json!({"service": service, "port": port, "address": address.to_string()})
            })
            .collect();
        let mut config = json!({
            "workload": spec.workload,
            "instance": spec.instance,
            "trustDomain": self.trust_domain(),
            "controlPlane": {"api": self.api.to_string(), "attestation": self.attestation.to_string()},
            "joinTokenFile": runtime.join("token"),
            "runtime": runtime,
            "inbound": {"listen": "127.0.0.1:0"},
            "httpProxy": {"listen": "127.0.0.1:0"},
            "upstreams": upstreams,
            "apps": apps,
            "admin": {"listen": "127.0.0.1:0"},
            "drain": spec.drain,
            "log": {"format": "text", "level": "debug", "access": true},
        });
        for (key, value) in spec.extra.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }
}

impl Sidecar {
    async fn spawn(
        (instance, under): (String, Vec<String>),
        config: PathBuf,
        runtime: PathBuf,
        log: PathBuf,
    ) -> Self {
        let announced = runtime.join("sidecar.json");
        let _ = std::fs::remove_file(&announced);
        let mut process = Process::start(&instance, &mut command(&under, &config), &log);
        let told = wait_for_addresses(&mut process, &announced).await;
        let address = |value: &Value| -> SocketAddr {
            value
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no address in {told}"))
        };
        let upstreams = told["upstreams"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(target, at)| (target.clone(), address(at)))
            .collect();
        Self {
            inbound: address(&told["inbound"]),
            proxy: address(&told["httpProxy"]),
            admin: address(&told["admin"]),
            process,
            upstreams,
            runtime,
            config,
            log,
            instance,
            under,
        }
    }

    /// Kills it and starts it again, its inbound address as before: others know it.
    pub async fn restart(&mut self) {
        self.process.kill();
        let text = std::fs::read_to_string(&self.config).expect("the configuration can be read");
        let mut config: Value = serde_json::from_str(&text).expect("the configuration is ours");
        config["inbound"]["listen"] = json!(self.inbound.to_string());
        std::fs::write(&self.config, config.to_string()).expect("the configuration is written");
        *self = Self::spawn(
            (self.instance.clone(), self.under.clone()),
            self.config.clone(),
            self.runtime.clone(),
            self.log.clone(),
        )
        .await;
    }

    /// Where the local listener for `namespace/service:port` is.
    #[track_caller]
    pub fn upstream(&self, target: &str) -> SocketAddr {
        *self
            .upstreams
            .get(target)
            .unwrap_or_else(|| panic!("no upstream {target}"))
    }

    pub async fn wait_until_ready(&self) {
        let admin = self.admin;
        eventually("the sidecar enforces its first view", || async move {
            let response = crate::get(&format!("http://{admin}/ready"))
                .await
                .map_err(|error| error.to_string())?;
            if response.status == 200 {
                Ok(())
            } else {
                Err(response.text())
            }
        })
        .await;
    }
}

fn command(under: &[String], config: &Path) -> Command {
    let sidecar = binary("weft-sidecar");
    let mut command = match under.split_first() {
        None => Command::new(sidecar),
        Some((program, words)) => {
            let mut command = Command::new(program);
            command.args(words).arg(sidecar);
            command
        }
    };
    command.arg("--config").arg(config);
    command
}
