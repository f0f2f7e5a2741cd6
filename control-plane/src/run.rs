//! Starts the control plane, and ends it: everything is listening before it is announced, and a drain leaves nothing behind.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use weft_daemon::files::{PrivateFileError, private_folder, write_private};
use weft_daemon::{Readiness, TaskFailure, Tasks, admin};

use crate::api::{Api, FirstContact};
use crate::attest::Attestor;
use crate::audit::Auditor;
use crate::ca::{Ca, CaError};
use crate::config::Config;
use crate::hub::{Hub, HubConfig};
use crate::issue::Issuer;
use crate::metrics::Metrics;
use crate::operations::Desk;
use crate::operator_login::{self, Login};
use crate::revocations::Follower;
use crate::store::{FolderError, StateFolder, Store, StoreError};
use crate::world::WorldError;
use crate::{decisions, discovery, flows, prune, registration, resources, revocations, tls};

/// Why the control plane did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot use the runtime folder")]
    Runtime(#[from] PrivateFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("cannot load the mesh from the store")]
    World(#[from] WorldError),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot listen on {address} for {what}")]
    Listen {
        what: &'static str,
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("cannot serve reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error(transparent)]
    Task(#[from] TaskFailure),
}

/// Runs until `shutdown` resolves or a vital part fails.
pub async fn run(config: Config, shutdown: impl Future) -> Result<(), RunError> {
    weft_daemon::raise_open_files();
    let folder = StateFolder::lock(&config.state)?;
    private_folder(&config.runtime)?;
    let store = Store::open(&folder.store())?;
    let key = config.wrapping_key.clone();
    let ca = Ca::open(&store, &config.trust_domain, key, Timestamp::now()).await?;
    let plane = Plane {
        auditor: Auditor::new(store.clone()),
        metrics: Metrics::default(),
        readiness: Readiness::default(),
        tasks: Tasks::new(),
        store,
        ca,
    };
    let announced = config.runtime.join(ANNOUNCEMENT);
    let addresses = plane.start(&config).await?;
    write_private(&announced, addresses.announcement().as_bytes())?;
    plane.readiness.set(true);
    tracing::info!(trust_domain = %config.trust_domain, revision = plane.store.revision(), "the control plane is ready");
    let ended = tokio::select! {
        _ = shutdown => Ok(()),
        failure = plane.tasks.failure() => Err(failure.into()),
    };
    plane.readiness.set(false);
    forget(&announced);
    let drained = plane.tasks.drain(config.drain).await;
    forget(&config.operator_socket);
    tracing::info!(
        connections_cut = drained.connections_cut,
        "the control plane has stopped"
    );
    ended
}

/// What the parts of one control plane share.
struct Plane {
    store: Store,
    ca: Arc<Ca>,
    auditor: Auditor,
    metrics: Metrics,
    readiness: Readiness,
    tasks: Tasks,
}

impl Plane {
    /// Starts every task; whoever connects to the addresses is served from now on.
    async fn start(&self, config: &Config) -> Result<Addresses, RunError> {
        let hub = Hub::start(HubConfig {
            store: self.store.clone(),
            auditor: self.auditor.clone(),
            tasks: self.tasks.clone(),
            trust_domain: config.trust_domain.clone(),
            lease_grace: config.lease_grace,
        })?;
        let (distrust, follower) = revocations::follow(&self.store)?;
        let listeners = Listeners::bind(config).await?;
        let api = Api {
            tls: TlsAcceptor::from(tls::api(&self.ca, distrust.clone())?),
            routes: self.routes(&hub)?,
            ca: Arc::clone(&self.ca),
            store: self.store.clone(),
            distrust,
            auditor: self.auditor.clone(),
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
        };
        let login = Login {
            store: self.store.clone(),
            ca: Arc::clone(&self.ca),
            auditor: self.auditor.clone(),
            api: listeners.addresses.api,
            attestation: listeners.addresses.attestation,
            tasks: self.tasks.clone(),
        };
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let pages = admin::Routes::standard(self.readiness.clone(), registry);

        let tasks = &self.tasks;
        keep(&self.store, &self.ca, tasks, follower);
        tasks.vital("mTLS API", api.serve(listeners.api));
        tasks.vital(
            "first contact",
            self.first_contact()?.serve(listeners.attestation),
        );
        tasks.vital("operator socket", login.serve(listeners.operator));
        tasks.vital("admin", admin::serve(listeners.admin, pages, tasks.clone()));
        Ok(listeners.addresses)
    }

    fn first_contact(&self) -> Result<FirstContact, RunError> {
        let attestor = Attestor {
            store: self.store.clone(),
            ca: Arc::clone(&self.ca),
            auditor: self.auditor.clone(),
        };
        Ok(FirstContact {
            tls: TlsAcceptor::from(tls::first_contact(&self.ca)?),
            routes: Routes::new(attestor.into_service()).prepare(),
            metrics: self.metrics.clone(),
            tasks: self.tasks.clone(),
        })
    }

    /// Every service of the mTLS API; who may call what is `authorize`'s.
    fn routes(&self, hub: &Arc<Hub>) -> Result<Routes, RunError> {
        let issuer = Issuer {
            store: self.store.clone(),
            ca: Arc::clone(&self.ca),
            auditor: self.auditor.clone(),
        };
        let desk = Desk {
            store: self.store.clone(),
            auditor: self.auditor.clone(),
            ca: Arc::clone(&self.ca),
            hub: Arc::clone(hub),
            started_at: Timestamp::now(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        let readiness = self.readiness.clone();
        self.tasks.background("health", move || {
            report_health(reporter.clone(), readiness.clone())
        });
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(weft_wire::FILE_DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        Ok(Routes::new(issuer.into_service())
            .add_service(desk.into_service())
            .add_service(resources::service(Arc::clone(hub)))
            .add_service(registration::service(Arc::clone(hub)))
            .add_service(discovery::service(Arc::clone(hub)))
            .add_service(decisions::service(Arc::clone(hub)))
            .add_service(flows::service(Arc::clone(hub)))
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .prepare())
    }
}

/// Tells readiness to whoever asks by gRPC: for the whole server (the empty name) and for each service.
async fn report_health(reporter: HealthReporter, readiness: Readiness) -> Result<(), Infallible> {
    let mut changes = readiness.watch();
    loop {
        let status = if *changes.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in HEALTH_NAMES {
            reporter.set_service_status(service, status).await;
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Everything that goes on beside requests.
fn keep(store: &Store, ca: &Arc<Ca>, tasks: &Tasks, follower: Follower) {
    tasks.vital("revocations", follower.run());
    let watched = store.clone();
    tasks.vital("store", async move {
        watched.failed().await;
        Err::<(), _>(StoreError::Stopped)
    });
    let renewing = Arc::clone(ca);
    tasks.background("certificates", move || Arc::clone(&renewing).keep_fresh());
    let pruned = store.clone();
    tasks.background("pruning", move || prune::run(pruned.clone()));
}

struct Listeners {
    api: TcpListener,
    attestation: TcpListener,
    admin: TcpListener,
    operator: tokio::net::UnixListener,
    addresses: Addresses,
}

/// Where this process is reached, now that ports are known.
struct Addresses {
    api: SocketAddr,
    attestation: SocketAddr,
    admin: SocketAddr,
    operator_socket: PathBuf,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, RunError> {
        let (api, api_address) = listen("the API", config.api).await?;
        let (attestation, attestation_address) =
            listen("first contact", config.attestation).await?;
        let (admin, admin_address) = listen("admin", config.admin).await?;
        let operator =
            operator_login::bind(&config.operator_socket).map_err(|cause| RunError::Listen {
                what: "operators",
                address: config.operator_socket.display().to_string(),
                cause,
            })?;
        Ok(Self {
            api,
            attestation,
            admin,
            operator,
            addresses: Addresses {
                api: api_address,
                attestation: attestation_address,
                admin: admin_address,
                operator_socket: config.operator_socket.clone(),
            },
        })
    }
}

impl Addresses {
    fn announcement(&self) -> String {
        serde_json::json!({
            "api": self.api.to_string(),
            "attestation": self.attestation.to_string(),
            "admin": self.admin.to_string(),
            "operatorSocket": self.operator_socket,
            "pid": std::process::id(),
        })
        .to_string()
    }
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |cause| RunError::Listen {
        what,
        address: address.to_string(),
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn forget(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => tracing::warn!(%error, path = %path.display(), "cannot remove"),
    }
}

/// What gRPC health checks may ask for; the empty name is the server itself.
const HEALTH_NAMES: [&str; 7] = [
    "",
    "weft.v1.Issuance",
    "weft.v1.Registration",
    "weft.v1.Resources",
    "weft.v1.Operations",
    "weft.v1.Decisions",
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
];
/// Tells others where the listeners are; there while the control plane is ready.
const ANNOUNCEMENT: &str = "control-plane.json";

#[cfg(test)]
mod tests;
