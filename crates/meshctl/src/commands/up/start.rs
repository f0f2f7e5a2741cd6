//! Starts the processes in order and waits until every sidecar has acknowledged; stops them in the reverse order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use weft_daemon::{Tasks, files};
use weft_identity::DnsLabel;
use weft_wire::v1;

use crate::client::{Client, refused};
use crate::failure::SaysNo;
use crate::login;
use crate::output::printable;

use super::console::Console;
use super::plan::{Launch, Replica};
use super::process::{Group, OutputTo, PidWatch, ProcessSpec};
use super::state::State;
use super::watch::Watch;
use super::{CONTROL_PLANE, sidecar_name};

/// The mesh's processes.
pub(super) struct Running {
    console: Console,
    watch: Watch,
    tasks: Tasks,
    control_plane: Group,
    sidecars: Group,
    programs: Group,
    /// Of each replica, by its name.
    pids: BTreeMap<String, Pids>,
    control_plane_pid: Option<PidWatch>,
}

/// The processes of one replica.
struct Pids {
    program: PidWatch,
    sidecar: PidWatch,
}

impl Running {
    pub(super) fn new(console: Console, watch: Watch) -> Self {
        let group = |patience| Group::new(console.clone(), watch.clone(), patience);
        Self {
            tasks: Tasks::new(),
            control_plane: group(STOP_CONTROL_PLANE),
            sidecars: group(STOP_SIDECAR),
            programs: group(STOP_PROGRAM),
            pids: BTreeMap::new(),
            control_plane_pid: None,
            console,
            watch,
        }
    }

    /// Returns the revision that every sidecar enforces.
    pub(super) async fn start(
        &mut self,
        launch: Launch<'_>,
        timeout: Duration,
    ) -> anyhow::Result<u64> {
        let deadline = Instant::now() + timeout;
        let replicas = launch.replicas;
        let client = self
            .start_control_plane(launch, deadline)
            .await
            .context(SaysNo::new(DID_NOT_START))?;
        // What the control plane says of the resources keeps its own class.
        let applied = launch.resources.apply(&client).await?;
        for warning in &applied.warnings {
            self.console
                .note(&format!("warning: {}", printable(warning)));
        }
        let login = Arc::new(TokenSource {
            client: client.clone(),
        });
        for replica in replicas {
            self.start_replica(launch, replica, &login)
                .await
                .context(SaysNo::new(DID_NOT_START))?;
        }
        let offered: usize = replicas.iter().map(Replica::services_offered).sum();
        let names = replicas
            .iter()
            .map(|replica| replica.instance.as_str())
            .collect();
        let revision = wait_for_all(&client, names, offered, applied.revision, deadline)
            .await
            .context(SaysNo::new(DID_NOT_START))?;
        self.wait_for_programs(deadline)
            .await
            .context(SaysNo::new(DID_NOT_START))?;
        Ok(revision)
    }

    /// A service without a health check is complete before its programs run: each is waited for until it was started once.
    async fn wait_for_programs(&self, deadline: Instant) -> anyhow::Result<()> {
        for (instance, pids) in &self.pids {
            let mut program = pids.program.clone();
            tokio::time::timeout_at(deadline, program.changed())
                .await
                .with_context(|| format!("{instance} was not started in time"))?
                .with_context(|| format!("nobody starts {instance} any more"))?;
        }
        Ok(())
    }

    async fn start_control_plane(
        &mut self,
        launch: Launch<'_>,
        deadline: Instant,
    ) -> anyhow::Result<Client> {
        let Launch {
            mesh,
            addresses,
            state,
            ..
        } = launch;
        let runtime = state.replica_folder(CONTROL_PLANE)?;
        let store = state.folder.join(CONTROL_PLANE);
        files::private_folder(&store)?;
        let socket = runtime.join("operator.sock");
        // Of an earlier start: it would be taken for this one's.
        let _ = std::fs::remove_file(&socket);
        let flags = [
            ("--trust-domain", mesh.trust_domain.to_string()),
            ("--state", store.display().to_string()),
            ("--runtime", runtime.display().to_string()),
            ("--key-file", state.key_file.display().to_string()),
            ("--api", addresses.api.to_string()),
            ("--attestation", addresses.attestation.to_string()),
            ("--admin", addresses.admin.to_string()),
            ("--operator-socket", socket.display().to_string()),
        ];
        let mut arguments = vec!["control-plane".to_owned()];
        arguments.extend(
            flags
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value]),
        );
        let log = state.log_file(CONTROL_PLANE);
        let pid = self.control_plane.start(ProcessSpec {
            name: "the control plane".to_owned(),
            program: std::env::current_exe()?,
            arguments,
            env: Default::default(),
            folder: state.folder.clone(),
            output: OutputTo::File(log.clone()),
            prepare: None,
        });
        self.control_plane_pid = Some(pid);
        let context = loop {
            match login_at(&socket, &state.folder).await {
                Ok(context) => break context,
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!(
                        "the control plane did not come up; its log is {}",
                        log.display()
                    )));
                }
                Err(_) => sleep(POLL).await,
            }
        };
        loop {
            match Client::connect(&context).await {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(POLL).await,
            }
        }
    }

    async fn start_replica(
        &mut self,
        launch: Launch<'_>,
        replica: &Replica,
        tokens: &Arc<TokenSource>,
    ) -> anyhow::Result<()> {
        let Launch {
            mesh,
            addresses,
            state,
            ..
        } = launch;
        let runtime = state.replica_folder(&replica.instance)?;
        let (config, token) = (runtime.join("config.yaml"), runtime.join("token"));
        let text = replica.sidecar_config(&mesh.trust_domain, addresses, &runtime, &token)?;
        files::write_private(&config, text.as_bytes())?;
        let (tokens, workload) = (Arc::clone(tokens), replica.workload.name.to_string());
        let sidecar = self.sidecars.start(ProcessSpec {
            name: sidecar_name(&replica.instance),
            program: std::env::current_exe()?,
            arguments: vec![
                "sidecar".to_owned(),
                "--config".to_owned(),
                config.display().to_string(),
            ],
            env: Default::default(),
            folder: state.folder.clone(),
            output: OutputTo::File(state.log_file(&sidecar_name(&replica.instance))),
            prepare: Some(Arc::new(move || {
                let (tokens, workload, token) =
                    (Arc::clone(&tokens), workload.clone(), token.clone());
                Box::pin(async move { tokens.put(&workload, &token).await })
            })),
        });
        let (program, arguments) = replica.command()?;
        let admin = replica.admin;
        let program_pid = self.programs.start(ProcessSpec {
            name: replica.instance.clone(),
            program,
            arguments,
            env: replica.env()?,
            folder: mesh.folder.clone(),
            output: OutputTo::Console,
            prepare: Some(Arc::new(move || Box::pin(wait_for_sidecar(admin)))),
        });
        let pids = Pids {
            program: program_pid,
            sidecar,
        };
        self.pids.insert(replica.instance.clone(), pids);
        Ok(())
    }

    /// The control plane's process id, while it runs.
    pub(super) fn control_plane_pid(&self) -> Option<u32> {
        self.control_plane_pid
            .as_ref()
            .and_then(|pid| *pid.borrow())
    }

    /// The process ids of a replica's program and sidecar, while they run.
    pub(super) fn pids(&self, instance: &str) -> (Option<u32>, Option<u32>) {
        match self.pids.get(instance) {
            Some(pids) => (*pids.program.borrow(), *pids.sidecar.borrow()),
            None => (None, None),
        }
    }

    /// The operator's certificate is short-lived: a mesh that runs for months renews it.
    pub(super) fn keep_logged_in(&self, state: &State) {
        let socket = state.runtime.join(CONTROL_PLANE).join("operator.sock");
        let folder = state.folder.clone();
        self.tasks.background("operator-login", move || {
            let (socket, folder) = (socket.clone(), folder.clone());
            async move {
                loop {
                    sleep(LOGIN_EVERY).await;
                    login_at(&socket, &folder)
                        .await
                        .map_err(|error| format!("{error:#}"))?;
                }
                #[allow(unreachable_code)]
                Ok::<(), String>(())
            }
        });
    }

    /// Sidecars drain first, while programs still answer; the control plane goes last.
    pub(super) async fn stop(self) {
        self.console.note("stopping: sidecars drain first");
        self.sidecars.stop().await;
        self.programs.stop().await;
        self.control_plane.stop().await;
        self.tasks.drain(Duration::ZERO).await;
        self.watch.stop();
    }
}

async fn login_at(socket: &Path, folder: &Path) -> anyhow::Result<crate::context::Context> {
    let operator: DnsLabel = OPERATOR.parse()?;
    login::login(socket, &operator, folder).await
}

/// Makes the join token that a sidecar may need at its start.
struct TokenSource {
    client: Client,
}

impl TokenSource {
    async fn put(&self, workload: &str, file: &Path) -> anyhow::Result<()> {
        let request = v1::CreateTokenRequest {
            workload: workload.to_owned(),
            ttl: None,
        };
        let answer = tokio::time::timeout(
            TOKEN_TIMEOUT,
            self.client.operations().create_token(request),
        )
        .await
        .context("the control plane did not answer")?
        .map_err(refused)
        .context("there is no new join token")?;
        files::write_private(file, answer.into_inner().token.as_bytes())?;
        Ok(())
    }
}

/// A program that starts before its sidecar is ready would see its first calls fail.
async fn wait_for_sidecar(admin: SocketAddr) -> anyhow::Result<()> {
    let ready = async {
        while !is_ready(admin).await.unwrap_or(false) {
            sleep(POLL).await;
        }
    };
    tokio::time::timeout(SIDECAR_PATIENCE, ready)
        .await
        .with_context(|| format!("its sidecar was not ready within {SIDECAR_PATIENCE:?}"))
}

async fn is_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_OF_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// Waits until each sidecar is connected and has acknowledged, and until all endpoints are healthy.
async fn wait_for_all(
    client: &Client,
    names: BTreeSet<&str>,
    offered: usize,
    revision: u64,
    deadline: Instant,
) -> anyhow::Result<u64> {
    let mut operations = client.operations();
    loop {
        let answer = operations
            .list_sidecars(v1::ListSidecarsRequest {})
            .await
            .map_err(refused)?
            .into_inner();
        let ready: BTreeSet<&str> = answer
            .sidecars
            .iter()
            .filter(|sidecar| sidecar.connected && sidecar.nack.is_empty())
            .filter(|sidecar| sidecar.acknowledged_revision >= sidecar.required_revision)
            .map(|sidecar| sidecar.instance.as_str())
            .collect();
        let missing: Vec<&str> = names.difference(&ready).copied().collect();
        let endpoints = operations
            .list_endpoints(v1::ListEndpointsRequest::default())
            .await
            .map_err(refused)?
            .into_inner();
        let healthy = endpoints
            .endpoints
            .iter()
            .filter(|endpoint| {
                endpoint.health() == v1::Health::Healthy
                    && names.contains(endpoint.instance.as_str())
            })
            .count();
        if missing.is_empty() && healthy >= offered {
            return Ok(answer.revision.max(revision));
        }
        if Instant::now() > deadline {
            if missing.is_empty() {
                bail!(
                    "only {healthy} of {offered} endpoints are healthy: does each program listen where `ports` say?"
                );
            }
            bail!(
                "no acknowledgement from the sidecars of {}; their logs are in the state folder's logs/",
                missing.join(", ")
            );
        }
        sleep(POLL).await;
    }
}

const DID_NOT_START: &str = "the mesh did not start";
/// The operator that `up` logs in as.
const OPERATOR: &str = "admin";
const POLL: Duration = Duration::from_millis(20);
const LOGIN_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How long a program is held back.
const SIDECAR_PATIENCE: Duration = Duration::from_secs(10);
const MOST_OF_ANSWER: u64 = 4096;
const TOKEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than a sidecar's own drain.
const STOP_SIDECAR: Duration = Duration::from_secs(15);
const STOP_PROGRAM: Duration = Duration::from_secs(5);
const STOP_CONTROL_PLANE: Duration = Duration::from_secs(10);
