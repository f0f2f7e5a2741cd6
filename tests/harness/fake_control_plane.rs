//! A control plane that says exactly what a test wants said: real TLS and gRPC, a CA of its own, and no judgement.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weft_identity::{
    Intermediate, JoinToken, PublicKey, Root, SpiffeId, SvidRequest, TrustBundle, TrustDomain,
    WorkloadName, fingerprint, new_key_and_csr, read_csr,
};
use weft_wire::v1::attestation_server::{Attestation, AttestationServer};
use weft_wire::v1::registration_server::{Registration, RegistrationServer};
use weft_wire::xds::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use weft_wire::{type_url, v1, xds};

use crate::{Forge, Mesh, SidecarSpec, Svid};

/// Serves first contact, discovery and registration at one address.
#[derive(Debug)]
pub struct FakeControlPlane {
    pub address: SocketAddr,
    ca: Arc<Authority>,
    says: watch::Sender<Vec<xds::DeltaDiscoveryResponse>>,
    /// Whether it answers subscriptions.
    speaks: watch::Sender<bool>,
    /// Whether a stream was ever opened.
    asked: Arc<AtomicBool>,
    heard: Heard,
    serving: JoinHandle<()>,
}

type Heard = Arc<Mutex<Vec<xds::DeltaDiscoveryRequest>>>;

#[derive(Debug)]
struct Authority {
    trust_domain: TrustDomain,
    root: rustls_pki_types::CertificateDer<'static>,
    intermediate: SyncIntermediate,
    forge: Forge,
}

struct SyncIntermediate(Intermediate);

impl std::fmt::Debug for SyncIntermediate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intermediate")
    }
}

impl Drop for FakeControlPlane {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeControlPlane {
    /// Answers every subscription with nothing until [`FakeControlPlane::say`].
    pub async fn start(trust_domain: &str) -> Self {
        let fake = Self::start_silent(trust_domain, (type_url::MESH, Vec::new())).await;
        fake.speak();
        fake
    }

    /// Answers no subscription until [`FakeControlPlane::speak`], and then first of all with these resources of one type.
    pub async fn start_silent(
        trust_domain: &str,
        first_view: (&'static str, Vec<xds::Resource>),
    ) -> Self {
        let trust_domain: TrustDomain = trust_domain.parse().expect("a trust domain");
        let root = new_root(&trust_domain);
        let intermediate = root
            .issue_intermediate(Timestamp::now(), DAY, serial())
            .expect("signed");
        let ca = Arc::new(Authority {
            trust_domain: trust_domain.clone(),
            root: root.certificate().clone(),
            intermediate: SyncIntermediate(intermediate),
            forge: Forge::of(&root),
        });
        let mut own = ca.svid(&SpiffeId::for_control_plane(&trust_domain), DAY / 2);
        own.chain.push(ca.root.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (says, saying) = watch::channel(Vec::new());
        let (speaks, speaking) = watch::channel(false);
        let asked = Arc::default();
        let heard = Heard::default();
        let service = Service {
            ca: Arc::clone(&ca),
            saying,
            speaking,
            asked: Arc::clone(&asked),
            first_view: Arc::new(first_view),
            heard: Arc::clone(&heard),
        };
        let routes = Routes::new(AttestationServer::new(service.clone()))
            .add_service(AggregatedDiscoveryServiceServer::new(service.clone()))
            .add_service(RegistrationServer::new(service))
            .prepare();
        let tls = TlsAcceptor::from(own.server_config("h2"));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // As the real one does: an answer must not wait until the one before it is acknowledged.
                let _ = socket.set_nodelay(true);
                let (tls, routes) = (tls.clone(), routes.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(socket).await else {
                        return;
                    };
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
                        .await;
                });
            }
        });
        Self {
            address,
            ca,
            says,
            speaks,
            asked,
            heard,
            serving,
        }
    }

    /// Answers subscriptions from now on.
    pub fn speak(&self) {
        self.speaks.send_replace(true);
    }

    /// Whether a sidecar has opened its stream.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// A token that leads to this control plane.
    pub fn token(&self) -> String {
        let token = JoinToken::new(
            [7; 32],
            fingerprint(&self.ca.root),
            self.ca.trust_domain.clone(),
        );
        token.to_text().to_string()
    }

    /// An SVID of `namespace/name`.
    pub fn svid(&self, workload: &str) -> Svid {
        self.svid_for(workload, DAY / 2)
    }

    /// An SVID of `namespace/name` that expires so soon.
    pub fn svid_for(&self, workload: &str, ttl: Duration) -> Svid {
        let workload: WorkloadName = workload.parse().expect("namespace/name");
        let id = SpiffeId::for_workload(&self.ca.trust_domain, &workload);
        self.ca.svid(&id, ttl)
    }

    /// Signs below this control plane's root whatever it is asked to.
    pub fn forge(&self) -> &Forge {
        &self.ca.forge
    }

    /// A sidecar that joins this control plane; the mesh only lends its folders.
    pub fn joining(&self, mesh: &Mesh, workload: &str) -> SidecarSpec {
        // A sidecar deletes the token that it used.
        let number = JOINING.fetch_add(1, Ordering::Relaxed);
        let token = mesh.runtime().join(format!("fake-token-{number}"));
        std::fs::write(&token, self.token()).expect("the token is written");
        let address = self.address.to_string();
        SidecarSpec::of(workload)
            .set("joinTokenFile", json!(token))
            .set(
                "controlPlane",
                json!({"api": address, "attestation": address}),
            )
    }

    /// Sends these resources of one type, in one response, to every open stream; and first of all to those that come later.
    pub fn say(&self, kind: &str, resources: Vec<xds::Resource>) {
        self.says.send_modify(|all| {
            let number = all.len() + 1;
            all.push(xds::DeltaDiscoveryResponse {
                system_version_info: number.to_string(),
                resources,
                type_url: kind.to_owned(),
                nonce: format!("said-{number}"),
                removed_resources: Vec::new(),
            });
        });
    }

    /// The answer to the newest thing said, once it has come.
    pub async fn answer(&self) -> xds::DeltaDiscoveryRequest {
        let nonce = format!("said-{}", self.says.borrow().len());
        crate::eventually("the response is answered", || {
            let heard = self.heard.lock().expect("nobody panicked");
            let answer = heard
                .iter()
                .find(|request| request.response_nonce == nonce)
                .cloned();
            async move { answer.ok_or(()) }
        })
        .await
    }
}

impl Authority {
    fn issue(&self, id: &SpiffeId, key: &PublicKey, ttl: Duration) -> v1::IssuedSvid {
        let now = Timestamp::now();
        let issued = self.intermediate.0.issue_svid(&SvidRequest {
            id,
            public_key: key,
            ttl,
            serial: serial(),
            now,
        });
        let bundle = TrustBundle::new(self.trust_domain.clone(), vec![self.root.clone()], 0);
        let chain = issued.expect("signed").chain;
        v1::IssuedSvid {
            chain: chain.iter().map(|der| der.to_vec().into()).collect(),
            lineage: "one".to_owned(),
            bundle: Some(v1::TrustBundle::from(&bundle.expect("a root"))),
            renew_every_seconds: 3600,
            issued_at: Some(weft_wire::write_timestamp(now)),
        }
    }

    fn svid(&self, id: &SpiffeId, ttl: Duration) -> Svid {
        let request = new_key_and_csr().expect("a key");
        let key = read_csr(&request.csr_der).expect("an own CSR");
        Svid::issued(&self.issue(id, &key, ttl), &request.key_pkcs8)
    }
}

#[derive(Clone)]
struct Service {
    ca: Arc<Authority>,
    saying: watch::Receiver<Vec<xds::DeltaDiscoveryResponse>>,
    speaking: watch::Receiver<bool>,
    asked: Arc<AtomicBool>,
    first_view: Arc<(&'static str, Vec<xds::Resource>)>,
    heard: Heard,
}

#[tonic::async_trait]
impl Attestation for Service {
    async fn attest(
        &self,
        request: Request<v1::AttestRequest>,
    ) -> Result<Response<v1::IssuedSvid>, Status> {
        let request = request.into_inner();
        let workload: WorkloadName = request
            .expected_workload
            .parse()
            .map_err(|_| Status::invalid_argument("expected_workload"))?;
        let key = read_csr(&request.csr).map_err(|_| Status::invalid_argument("csr"))?;
        let id = SpiffeId::for_workload(&self.ca.trust_domain, &workload);
        Ok(Response::new(self.ca.issue(&id, &key, DAY / 2)))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Registration for Service {
    type RegisterStream = Answers<v1::RegisterResponse>;

    async fn register(
        &self,
        request: Request<Streaming<v1::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let answers = request.into_inner().map(|request| {
            request.map(|_| v1::RegisterResponse {
                revision: 1,
                lease: None,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream = Answers<xds::DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<xds::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        self.asked.store(true, Ordering::Relaxed);
        let (sender, answers) = tokio::sync::mpsc::channel(64);
        let heard = Arc::clone(&self.heard);
        let mut saying = self.saying.clone();
        let mut speaking = self.speaking.clone();
        let first_view = Arc::clone(&self.first_view);
        let mut said = 0;
        let mut subscribed = BTreeMap::new();
        tokio::spawn(async move {
            if speaking.wait_for(|speaks| *speaks).await.is_err() {
                return;
            }
            loop {
                // Every type is answered before anything else is said, so that the first view is complete.
                let is_complete = subscribed.len() == type_url::ALL.len();
                if is_complete {
                    let all = saying.borrow_and_update().clone();
                    for response in all.into_iter().skip(said) {
                        said += 1;
                        if sender.send(Ok(response)).await.is_err() {
                            return;
                        }
                    }
                }
                let request = tokio::select! {
                    request = requests.message() => request,
                    changed = saying.changed(), if is_complete => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                };
                let Ok(Some(request)) = request else {
                    return;
                };
                if subscribed.insert(request.type_url.clone(), ()).is_none() {
                    let (kind, resources) = &*first_view;
                    let resources = if *kind == request.type_url {
                        resources.clone()
                    } else {
                        Vec::new()
                    };
                    let first = xds::DeltaDiscoveryResponse {
                        system_version_info: "0".to_owned(),
                        resources,
                        type_url: request.type_url.clone(),
                        nonce: format!("first-{}", subscribed.len()),
                        ..Default::default()
                    };
                    let _ = sender.send(Ok(first)).await;
                }
                heard.lock().expect("nobody panicked").push(request);
            }
        });
        let answers = tokio_stream::wrappers::ReceiverStream::new(answers);
        Ok(Response::new(Box::pin(answers)))
    }
}

pub(crate) fn new_root(trust_domain: &TrustDomain) -> Root {
    Root::generate(trust_domain, Timestamp::now(), DAY, serial()).expect("a root")
}

fn serial() -> [u8; 16] {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).expect("random bytes");
    serial
}

static JOINING: AtomicU64 = AtomicU64::new(0);
const DAY: Duration = Duration::from_secs(24 * 3600);
