//! A sidecar's life: configuration, identity, sockets, tasks; and its end, in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use weft_daemon::{
    CancellationToken, Readiness, Tasks, admin as admin_server, logs, wait_for_signals,
};

use crate::bootstrap::{self, chain_of};
use crate::config::{self, Config};
use crate::connections::Connections;
use crate::control_plane::ControlPlane;
use crate::decisions::{self, Decisions};
use crate::discovery::Discovery;
use crate::external::Outside;
use crate::flows::{self, Flows};
use crate::identity::Identity;
use crate::keeper::{self, Keeper};
use crate::listener::Listeners;
use crate::metrics::Metrics;
use crate::received::Received;
use crate::registration::{Healths, Registration};
use crate::renewal::Renewal;
use crate::runtime::Runtime;
use crate::trials::Trials;
use crate::view::{Current, Enforced};
use crate::workers::Workers;
use crate::{Sidecar, admin, health};

/// Runs beside one workload: proves who it is and lets through only what policy allows.
#[derive(Debug, clap::Args)]
#[command(after_long_help = config::help())]
pub struct Arguments {
    /// The sidecar's configuration, in YAML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only read the configuration and tell what is wrong with it
    #[arg(long)]
    check: bool,
}

/// Runs a sidecar to its end. 0: it was asked to end; 1: it could not go on; 2: its configuration is wrong.
pub fn execute(arguments: &Arguments) -> ExitCode {
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            tell(&chain_of(&error));
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    logs::init(config.log_format, config.log_level);
    match start_runtime().and_then(|runtime| runtime.block_on(live(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %chain_of(error.as_ref()), "the sidecar ends");
            ExitCode::FAILURE
        }
    }
}

fn start_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // One thread is enough for one workload, and costs the least memory. Further workers have runtimes of their own.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn live(config: Config) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    // From the very beginning, so that no signal is lost between two waits.
    let mut asked_to_end = pin!(wait_for_signals());
    let (drain, workers) = tokio::select! {
        started = start(config, &tasks) => started?,
        signal = &mut asked_to_end => return signal.map(|_| ()).context("cannot wait for signals"),
    };
    tokio::select! {
        signal = asked_to_end => tracing::info!(signal = ?signal?, "draining"),
        failure = tasks.failure() => return Err(failure.into()),
    }
    let drained = tasks.drain(drain).await;
    workers.join();
    tracing::info!(connections_cut = drained.connections_cut, "drained");
    Ok(())
}

/// Each connection that is passed on is two sockets; what is left over is for the control plane, the snapshot and the pages.
fn check_open_files(config: &Config) {
    let Some(allowed) = weft_daemon::raise_open_files() else {
        return;
    };
    let listeners = 2 + config.upstreams.len();
    let wanted = 2 * listeners * config.limits.connections + RESERVED_FILES;
    if u64::try_from(wanted).unwrap_or(u64::MAX) > allowed {
        tracing::warn!(
            allowed,
            wanted,
            "the limit of open files is lower than what limits.connections can need: raise it (LimitNOFILE, ulimit -Hn), or lower limits.connections"
        );
    }
}

/// Brings everything up; returns how long a drain may take, and the workers.
async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<(Duration, Workers)> {
    check_open_files(&config);
    // The first draw seeds the generator, which takes long: before anybody waits for a handshake.
    let mut seed = [0; 1];
    aws_lc_rs::rand::fill(&mut seed)
        .map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;

    let runtime = Runtime::open(&config.runtime)?;
    let proven = bootstrap::prove(&config, &runtime).await?;
    let metrics = Arc::new(Metrics::default());
    metrics
        .svid_not_after
        .set(proven.svid.verified.not_after.as_second());
    let current = Current::new(Enforced::nothing_heard(
        config.own_id.clone(),
        Arc::clone(&proven.bundle),
    ));
    let identity = Identity::new(proven.svid);
    let control_plane = ControlPlane::new(config.api.clone(), identity.clone(), current.clone())?;
    let sidecar = Arc::new(Sidecar {
        tasks: tasks.clone(),
        identity,
        connections: Connections::default(),
        decisions: Decisions::new(Arc::clone(&metrics)),
        flows: Flows::new(Arc::clone(&metrics), config.limits.workers),
        trials: Trials::new(Arc::clone(&metrics)),
        outside: Outside::new(&config, current.clone()),
        current,
        metrics,
        control_plane,
        config,
    });
    let config = &sidecar.config;

    let readiness = Readiness::default();
    let received = Received::new(config.own_id.clone(), proven.bundle);
    let mut keeper = Keeper::new(
        Arc::clone(&sidecar),
        runtime.clone(),
        readiness.clone(),
        received,
    );
    keeper.restore(proven.previous_mac_key);

    let listeners = Listeners::bind(config).await?;
    let admin_listener = TcpListener::bind(config.admin)
        .await
        .with_context(|| format!("cannot listen on {}", config.admin))?;
    let inbound = listeners.inbound.local_addr()?;
    sidecar
        .outside
        .own_listeners(own_listeners(&listeners, &admin_listener)?);
    runtime.write_addresses(&addresses(&listeners, &admin_listener)?)?;

    let routes = admin::routes(Arc::clone(&sidecar), readiness.clone());
    tasks.vital(
        "admin",
        admin_server::serve(admin_listener, routes, tasks.clone()),
    );
    let farewell = start_control(&sidecar, keeper, runtime, advertised(config, inbound));
    tasks.connection("farewell", farewell.say(Arc::clone(&sidecar), readiness));
    let workers = Workers::start(&sidecar, listeners).context("cannot start the workers")?;
    tracing::info!(id = %config.own_id, %inbound, "the sidecar has started");
    Ok((config.drain, workers))
}

/// Everything that talks to the control plane.
fn start_control(
    sidecar: &Arc<Sidecar>,
    keeper: Keeper,
    runtime: Runtime,
    address: SocketAddr,
) -> Farewell {
    let tasks = &sidecar.tasks;
    let (healths_changed, healths) = watch::channel(Healths::new());
    let [leave, discovery_left, registration_left] =
        std::array::from_fn(|_| CancellationToken::new());

    let discovery = Discovery {
        sidecar: Arc::clone(sidecar),
        keeper,
        leave: leave.clone(),
        left: discovery_left.clone(),
    };
    tasks.vital("discovery", discovery.run());
    let renewal = Renewal {
        sidecar: Arc::clone(sidecar),
        runtime,
        mac_key: keeper::mac_key,
    };
    tasks.vital("renewal", renewal.run());
    tasks.vital(
        "health",
        health::probe(Arc::clone(sidecar), healths_changed),
    );
    let registration = Registration {
        sidecar: Arc::clone(sidecar),
        address,
        healths,
        draining: tasks.draining(),
        left: registration_left.clone(),
    };
    tasks.vital("registration", registration.run());
    let reporter = Arc::clone(sidecar);
    tasks.background("decisions", move || {
        let instance = reporter.config.instance.clone();
        decisions::report(
            reporter.decisions.clone(),
            reporter.control_plane.clone(),
            instance,
        )
    });
    let reporter = Arc::clone(sidecar);
    tasks.background("flows", move || {
        flows::report(reporter.flows.clone(), reporter.control_plane.clone())
    });
    Farewell {
        leave,
        registration_left,
        discovery_left,
    }
}

/// The order in which a draining sidecar leaves the control plane. The drain waits for it like for a connection.
struct Farewell {
    leave: CancellationToken,
    registration_left: CancellationToken,
    discovery_left: CancellationToken,
}

impl Farewell {
    async fn say(self, sidecar: Arc<Sidecar>, readiness: Readiness) {
        sidecar.tasks.draining().cancelled().await;
        readiness.set(false);
        let _ = tokio::time::timeout(FAREWELL, self.registration_left.cancelled()).await;
        // While something is live, it may still have to be cut.
        while !sidecar.connections.is_empty() {
            tokio::time::sleep(FAREWELL_POLL).await;
        }
        let _ = tokio::time::timeout(FAREWELL, sidecar.flows.leave()).await;
        self.leave.cancel();
        let _ = tokio::time::timeout(FAREWELL, self.discovery_left.cancelled()).await;
    }
}

fn addresses(listeners: &Listeners, admin: &TcpListener) -> std::io::Result<serde_json::Value> {
    let upstreams = listeners
        .upstreams
        .iter()
        .map(|(upstream, listener)| {
            Ok((upstream.target.to_string(), json!(listener.local_addr()?)))
        })
        .collect::<std::io::Result<serde_json::Map<_, _>>>()?;
    let http_proxy = listeners
        .http_proxy
        .as_ref()
        .map(TcpListener::local_addr)
        .transpose()?;
    Ok(json!({
        "inbound": listeners.inbound.local_addr()?,
        "httpProxy": http_proxy,
        "admin": admin.local_addr()?,
        "upstreams": upstreams,
        "pid": std::process::id(),
    }))
}

/// What must never be taken for the world outside.
fn own_listeners(listeners: &Listeners, admin: &TcpListener) -> std::io::Result<Vec<SocketAddr>> {
    let upstreams = listeners.upstreams.iter().map(|(_, listener)| listener);
    let all = [&listeners.inbound, admin]
        .into_iter()
        .chain(&listeners.http_proxy)
        .chain(upstreams);
    all.map(TcpListener::local_addr).collect()
}

/// Where peers dial: as configured, else where the listener is; an advertised port 0 stands for the bound one.
fn advertised(config: &Config, inbound: SocketAddr) -> SocketAddr {
    match config.advertise {
        Some(advertise) if advertise.port() == 0 => SocketAddr::new(advertise.ip(), inbound.port()),
        Some(advertise) => advertise,
        None => inbound,
    }
}

/// Before logs are set up, and for who typed the configuration.
#[allow(clippy::print_stderr)]
fn tell(text: &str) {
    eprintln!("{text}");
}

const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_POLL: Duration = Duration::from_millis(20);

/// Open files beside the connections of listeners.
const RESERVED_FILES: usize = 64;
