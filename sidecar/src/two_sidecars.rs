//! Two sidecars in one process, over real sockets: a client's and a server's, with nothing of a control plane but what it would have sent.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_catalog::{Endpoint, Health, Mesh, Port, Protocol};
use weft_daemon::Tasks;
use weft_identity::document::{Origin, read};
use weft_identity::{
    KeyAndCsr, Revocations, Root, ServiceName, SpiffeId, SvidRequest, TrustBundle, TrustDomain,
    new_key_and_csr, read_csr,
};
use weft_policy::{AllowSpec, EncodedSlashes, PolicySet, Rule};

use crate::Sidecar;
use crate::config::Config;
use crate::connections::Connections;
use crate::control_plane::ControlPlane;
use crate::decisions::Decisions;
use crate::identity::{Candidate, Identity, OwnSvid};
use crate::listener::{self, Listeners};
use crate::metrics::Metrics;
use crate::trials::Trials;
use crate::view::{Current, Enforced, InboundService, OutboundService};
use weft_wire::{InboundView, OutboundView};

mod drained;
mod expired;
mod http2;
mod in_turn;
mod inlets;
mod lost;
mod proxy;
mod refused;
mod requests;

/// Two sidecars and an application.
struct Pair {
    authority: Authority,
    server: Arc<Sidecar>,
    upstream: SocketAddr,
    proxy: SocketAddr,
    client: Arc<Sidecar>,
}

impl Pair {
    async fn start(protocol: Protocol, rule: &str) -> Self {
        Self::before(start_app(protocol).await, protocol, rule).await
    }

    /// The same before an application of the test's own.
    async fn before(app: SocketAddr, protocol: Protocol, rule: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Authority::new();
        let port = Port {
            name: "main".parse().unwrap(),
            port: 80,
            target_port: app.port(),
            protocol,
        };

        let (server, inbound) = authority.server(&port, rule).await;
        let upstreams = "upstreams: [{service: shop/api, port: main, listen: '127.0.0.1:0'}]\nhttpProxy: {listen: '127.0.0.1:0'}";
        let client = authority.sidecar("shop/web", upstreams).await;
        let listeners = Listeners::bind(&client.config).await.unwrap();
        let upstream = listeners.upstreams[0].1.local_addr().unwrap();
        let proxy = listeners.http_proxy.as_ref().unwrap();
        let proxy = proxy.local_addr().unwrap();
        client
            .current
            .publish(Arc::new(authority.enforced(&client, |enforced| {
                enforced
                    .outbound
                    .insert(service(), Arc::new(outbound_service(port, rule, inbound)));
            })));
        listener::start(&listener::Shared::new(&client), listeners);
        Self {
            authority,
            server,
            upstream,
            proxy,
            client,
        }
    }

    /// Sends one request and reads until the connection ends.
    async fn ask(&self, request: &str) -> String {
        let mut client = TcpStream::connect(self.upstream).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(LONG, client.read_to_end(&mut answer))
            .await
            .expect("no end of the answer")
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask_until(&self, request: &str, end: &[u8]) -> String {
        let mut client = TcpStream::connect(self.upstream).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut client, end).await
    }

    /// The same address, expected to be these identities.
    fn client_sees(&self, identities: &[&str]) {
        let known = self.endpoint();
        let expected = identities.iter().map(|identity| Endpoint {
            identity: identity.parse().unwrap(),
            ..known.clone()
        });
        self.client_sees_endpoints(expected.collect());
    }

    fn endpoint(&self) -> Endpoint {
        let current = self.client.current.load();
        current.outbound[&service()].view.endpoints[0].clone()
    }

    fn client_sees_endpoints(&self, endpoints: Vec<Endpoint>) {
        let before = self.client.current.load_full();
        let seen = &before.outbound[&service()];
        let service_seen = OutboundService {
            view: OutboundView {
                endpoints,
                ..seen.view.clone()
            },
            policy: seen.policy.clone(),
        };
        let mut enforced = copy_of(&before);
        enforced.outbound.insert(service(), Arc::new(service_seen));
        self.client.current.publish(Arc::new(enforced));
    }

    /// Puts another policy in force on the client side.
    fn client_allows(&self, rule: &str) {
        let before = self.client.current.load_full();
        let seen = &before.outbound[&service()];
        let (rules, policy) = compiled(rule);
        let view = OutboundView {
            rules,
            ..seen.view.clone()
        };
        let mut enforced = copy_of(&before);
        enforced
            .outbound
            .insert(service(), Arc::new(OutboundService { view, policy }));
        self.client.current.publish(Arc::new(enforced));
    }

    /// Judges what is live on the client side by what is in force there.
    fn client_judges_again(&self) {
        let enforced = self.client.current.load_full();
        self.client.connections.recheck(&enforced, Timestamp::now());
    }

    fn client_revokes_serial(&self, serial: [u8; 16]) {
        let mut enforced = copy_of(&self.client.current.load_full());
        enforced.revocations = Arc::new(revoking(serial));
        self.client.current.publish(Arc::new(enforced));
        self.client_judges_again();
    }

    /// Another declaration of the port on the server side; none: it is gone.
    fn server_declares(&self, port: Option<Port>) {
        let before = self.server.current.load_full();
        let offered = &before.inbound[&service()];
        let view = InboundView {
            ports: port.into_iter().collect(),
            ..offered.view.clone()
        };
        let policy = offered.policy.clone();
        let mut enforced = copy_of(&before);
        enforced
            .inbound
            .insert(service(), Arc::new(InboundService { view, policy }));
        self.server_enforces(enforced);
    }

    fn server_revokes_serial(&self, serial: [u8; 16]) {
        let mut enforced = copy_of(&self.server.current.load_full());
        enforced.revocations = Arc::new(revoking(serial));
        self.server_enforces(enforced);
    }

    fn server_enforces(&self, enforced: Enforced) {
        let enforced = Arc::new(enforced);
        self.server.current.publish(Arc::clone(&enforced));
        self.server.connections.recheck(&enforced, Timestamp::now());
    }

    /// Connections that hold a place of the server's inbound listener.
    fn places_held(&self) -> i64 {
        places(&self.server, "inbound")
    }

    /// At the listener that the application uses: between the sidecars many share one connection.
    fn places_of_the_application(&self) -> i64 {
        places(&self.client, "upstream")
    }

    fn server_revokes(&self, id: &str) {
        let mut enforced = copy_of(&self.server.current.load_full());
        let identities = HashSet::from([id.parse().unwrap()]);
        enforced.revocations = Arc::new(Revocations {
            identities,
            ..Revocations::default()
        });
        let enforced = Arc::new(enforced);
        self.server.current.publish(Arc::clone(&enforced));
        self.server.connections.recheck(&enforced, Timestamp::now());
    }

    /// Puts another policy in force on the server side and re-checks what is live.
    fn server_allows(&self, rule: &str) {
        let before = self.server.current.load_full();
        let port = before.inbound[&service()].view.ports[0].clone();
        let mut enforced = copy_of(&before);
        enforced.revision += 1;
        enforced
            .inbound
            .insert(service(), Arc::new(inbound_service(port, rule)));
        let enforced = Arc::new(enforced);
        self.server.current.publish(Arc::clone(&enforced));
        self.server.connections.recheck(&enforced, Timestamp::now());
    }
}

pub(crate) struct Authority {
    root: Root,
    trust_domain: TrustDomain,
    pub(crate) bundle: Arc<TrustBundle>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let trust_domain: TrustDomain = "weft.local".parse().unwrap();
        let root = Root::generate(&trust_domain, Timestamp::now(), 1000 * HOUR, [1; 16]).unwrap();
        let bundle =
            TrustBundle::new(trust_domain.clone(), vec![root.certificate().clone()], 1).unwrap();
        Self {
            root,
            trust_domain,
            bundle: Arc::new(bundle),
        }
    }

    /// A sidecar that serves `shop/api`, and where.
    async fn server(&self, port: &Port, rule: &str) -> (Arc<Sidecar>, SocketAddr) {
        let server = self.sidecar("shop/api", "").await;
        let listeners = Listeners::bind(&server.config).await.unwrap();
        let inbound = listeners.inbound.local_addr().unwrap();
        let offered = Arc::new(inbound_service(port.clone(), rule));
        let enforced = self.enforced(&server, |enforced| {
            enforced.inbound.insert(service(), offered);
        });
        server.current.publish(Arc::new(enforced));
        listener::start(&listener::Shared::new(&server), listeners);
        (server, inbound)
    }

    pub(crate) async fn sidecar(&self, workload: &str, more: &str) -> Arc<Sidecar> {
        let text = format!(
            "workload: {workload}\ninstance: one\ntrustDomain: weft.local\nruntime: /nowhere\n\
             controlPlane: {{api: '127.0.0.1:1', attestation: '127.0.0.1:1'}}\n\
             inbound: {{listen: '127.0.0.1:0'}}\n{more}\n"
        );
        let config = Config::from_raw(serde_saphyr::from_str(&text).unwrap()).unwrap();
        let identity = Identity::new(self.svid(&config.own_id));
        let current = Current::new(Enforced::nothing_heard(
            config.own_id.clone(),
            Arc::clone(&self.bundle),
        ));
        let metrics = Arc::new(Metrics::default());
        Arc::new(Sidecar {
            tasks: Tasks::new(),
            control_plane: ControlPlane::new(config.api.clone(), identity.clone(), current.clone())
                .unwrap(),
            identity,
            connections: Connections::default(),
            decisions: Decisions::new(Arc::clone(&metrics)),
            flows: crate::flows::Flows::new(Arc::clone(&metrics), 1),
            trials: Trials::new(Arc::clone(&metrics)),
            outside: crate::external::Outside::new(&config, current.clone()),
            current,
            metrics,
            config,
        })
    }

    pub(crate) fn svid(&self, id: &SpiffeId) -> OwnSvid {
        self.svid_of(id, new_key_and_csr().unwrap())
    }

    pub(crate) fn svid_of(&self, id: &SpiffeId, key: KeyAndCsr) -> OwnSvid {
        self.svid_for(id, key, HOUR)
    }

    pub(crate) fn svid_for(&self, id: &SpiffeId, key: KeyAndCsr, ttl: Duration) -> OwnSvid {
        let now = Timestamp::now();
        let public_key = read_csr(&key.csr_der).unwrap();
        let intermediate = self
            .root
            .issue_intermediate(now, 100 * HOUR, [2; 16])
            .unwrap();
        let request = SvidRequest {
            id,
            public_key: &public_key,
            ttl,
            serial: [3; 16],
            now,
        };
        let issued = intermediate.issue_svid(&request).unwrap();
        let candidate = Candidate {
            chain: issued.chain,
            key_pkcs8: key.key_pkcs8,
            issued_at: now,
            renew_every: HOUR,
        };
        OwnSvid::believe(candidate, id, &self.bundle, now).unwrap()
    }

    pub(crate) fn enforced(&self, sidecar: &Sidecar, fill: impl FnOnce(&mut Enforced)) -> Enforced {
        let mut enforced = Enforced {
            generation: crate::view::Generation::next(),
            revision: 1,
            trust_domain: self.trust_domain.clone(),
            own_id: sidecar.config.own_id.clone(),
            external: Vec::new(),
            outbound: HashMap::new(),
            inbound: HashMap::new(),
            unreadable_outbound: HashSet::new(),
            unreadable_inbound: HashSet::new(),
            revocations_unreadable: false,
            revocations: Arc::new(Revocations::default()),
            bundle: Arc::clone(&self.bundle),
            mesh: Mesh::default(),
            stale: false,
        };
        fill(&mut enforced);
        enforced
    }
}

fn revoking(serial: [u8; 16]) -> Revocations {
    Revocations {
        serials: HashSet::from([weft_identity::Serial::new(&serial)]),
        ..Revocations::default()
    }
}

fn places(sidecar: &Sidecar, listener: &'static str) -> i64 {
    let label = crate::metrics::ListenerLabel { listener };
    sidecar.metrics.open.get_or_create(&label).get()
}

pub(crate) fn copy_of(enforced: &Enforced) -> Enforced {
    Enforced {
        generation: crate::view::Generation::next(),
        revision: enforced.revision,
        trust_domain: enforced.trust_domain.clone(),
        own_id: enforced.own_id.clone(),
        outbound: enforced.outbound.clone(),
        external: enforced.external.clone(),
        inbound: enforced.inbound.clone(),
        unreadable_outbound: enforced.unreadable_outbound.clone(),
        unreadable_inbound: enforced.unreadable_inbound.clone(),
        revocations_unreadable: enforced.revocations_unreadable,
        revocations: Arc::clone(&enforced.revocations),
        bundle: Arc::clone(&enforced.bundle),
        mesh: enforced.mesh,
        stale: enforced.stale,
    }
}

pub(crate) fn service() -> ServiceName {
    "shop/api".parse().unwrap()
}

pub(crate) fn inbound_service(port: Port, rule: &str) -> InboundService {
    let (rules, policy) = compiled(rule);
    let encoded_slashes = EncodedSlashes::Refuse;
    let view = InboundView {
        service: service(),
        ports: vec![port],
        rules,
        encoded_slashes,
        health: None,
        learn_until: None,
    };
    InboundService { view, policy }
}

pub(crate) fn outbound_service(port: Port, rule: &str, address: SocketAddr) -> OutboundService {
    let (rules, policy) = compiled(rule);
    let identity = "spiffe://weft.local/ns/shop/sa/api".parse().unwrap();
    let endpoints = vec![Endpoint {
        address,
        identity,
        health: Health::Healthy,
        instance: "one".to_owned(),
    }];
    let encoded_slashes = EncodedSlashes::Refuse;
    let view = OutboundView {
        service: service(),
        ports: vec![port],
        endpoints,
        external: None,
        rules,
        encoded_slashes,
        learn_until: None,
    };
    OutboundService { view, policy }
}

fn compiled(rule: &str) -> (Vec<Arc<Rule>>, PolicySet) {
    let origin = Origin {
        file: "rule.yaml".to_owned(),
        first_line: 1,
    };
    let rules: Vec<Arc<Rule>> = Some(rule)
        .filter(|rule| !rule.is_empty())
        .map(|rule| {
            Arc::new(
                Rule::from_document(&read::<AllowSpec>(rule, &origin, "Allow").unwrap()).unwrap(),
            )
        })
        .into_iter()
        .collect();
    let policy = PolicySet::compile(
        "weft.local".parse().unwrap(),
        &service(),
        rules.clone(),
        EncodedSlashes::Refuse,
    );
    (rules, policy)
}

/// An application that says what it got; of bytes, after it got their end.
async fn start_app(protocol: Protocol) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_app(protocol, stream));
        }
    });
    address
}

async fn serve_app(protocol: Protocol, mut stream: TcpStream) {
    match protocol {
        Protocol::Tcp | Protocol::Tls => {
            let mut got = String::new();
            stream.read_to_string(&mut got).await.unwrap();
            let _ = stream
                .write_all(format!("got {got} and the end").as_bytes())
                .await;
        }
        Protocol::Http => {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .with_upgrades();
            let _ = served.await;
        }
        Protocol::Http2 | Protocol::Grpc => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .await;
        }
    }
}

async fn echo(
    mut request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let response = Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        return Ok(response.body(Full::default().boxed()).unwrap());
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let host = head
        .headers
        .get("host")
        .map(|host| host.to_str().unwrap().to_owned());
    let host = host
        .or(head.uri.authority().map(ToString::to_string))
        .unwrap_or_default();
    let path = head.uri.path_and_query().unwrap();
    let mut text = format!("{} {path} host={host}\n", head.method);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    text.push_str(&format!("body={}\n", String::from_utf8_lossy(&body)));
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    trailers.insert(
        "x_forwarded_client_cert",
        http::HeaderValue::from_static("URI=evil"),
    );
    let body = Full::from(text).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::new(body.boxed()))
}

async fn read_until(client: &mut TcpStream, end: &[u8]) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let count = tokio::time::timeout(LONG, client.read_buf(&mut answer))
            .await
            .expect("no answer")
            .unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) const RULE: &str = "
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: rule, namespace: shop}
spec:
  to: {service: api, ports: [main]}
  from: [shop/web]
  http: [{methods: [GET, POST], paths: ['/orders/*']}]
";
const RULE_WITH_WEBSOCKET: &str = "
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: rule, namespace: shop}
spec:
  to: {service: api, ports: [main]}
  from: [shop/web]
  http: [{methods: [GET], paths: ['/orders/*'], upgrades: [websocket]}]
";
const RULE_WITHOUT_HTTP: &str = "
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: rule, namespace: shop}
spec:
  to: {service: api, ports: [main]}
  from: [shop/web]
";
const HOUR: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(10);
