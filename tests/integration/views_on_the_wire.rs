//! What a sidecar is told, and what it makes of it: nothing about services that its identity may not call, and a response
//! of which a part cannot be read.

use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow, allow_http, service};
use weft_tests::{FakeControlPlane, Mesh, Svid, inbound, peer};
use weft_wire::v1::registration_client::RegistrationClient;
use weft_wire::{type_url, v1, xds};

use crate::rows_trust::join;

const DISCOVERY: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// web → api → orders → ledger: no byte that web's stream carries is about orders or ledger.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_to_web_never_carries_orders_or_ledger() {
    let mesh = Mesh::start().await;
    let chain = [("api", "web"), ("orders", "api"), ("ledger", "orders")];
    let mut documents = String::new();
    for (name, caller) in chain {
        documents += &service(&format!("shop/{name}:http"), "http");
        documents += &allow(
            &format!("{caller}-calls-{name}"),
            &format!("shop/{name}:http"),
            &format!("shop/{caller}"),
        );
    }
    mesh.apply(&documents).await;
    let mut registered = Vec::new();
    for (port, (name, _)) in (7001..).zip(chain) {
        let svid = join(&mesh, &format!("shop/{name}")).await;
        registered.push(register(&mesh, &svid, name, port).await);
    }
    let web = join(&mesh, "shop/web").await;
    let mut stream = Ads::open(&mesh, &web).await;
    stream.until(b"127.0.0.1:7001").await;

    // Everything changes meanwhile: rules, endpoints, a quarantine and a revocation among the others.
    let edits = [
        allow_http("api-calls-orders", "shop/orders:http", "shop/api", "{paths: [\"/orders/**\"]}"),
        allow("ledger-audits", "shop/orders:http", "shop/ledger"),
        "apiVersion: weft.dev/v1\nkind: Quarantine\nmetadata: {name: q, namespace: shop}\nspec: {workload: shop/ledger, reason: test}\n".to_owned(),
    ];
    for edit in edits {
        mesh.meshctl_with(&["apply", "-f", "-"], &edit).await.ok();
    }
    mesh.meshctl(["identity", "revoke", "shop/orders"])
        .await
        .ok();
    drop(registered.pop());
    // What is asked for by name is not given either.
    stream
        .ask(xds::DeltaDiscoveryRequest {
            type_url: type_url::OUTBOUND.to_owned(),
            resource_names_subscribe: vec!["shop/orders".to_owned(), "shop/ledger".to_owned()],
            ..Default::default()
        })
        .await;
    // The last edit is web's own: when it has come, everything before it would have.
    mesh.meshctl_with(
        &["apply", "-f", "-"],
        &allow("marker", "shop/api:http", "shop/web"),
    )
    .await
    .ok();
    stream.until(b"shop/marker").await;

    for response in &stream.received {
        let told = xds::DeltaDiscoveryResponse::decode(response.clone()).expect("readable");
        // A name that the client itself asked for may be told to be absent.
        let is_absence = told.resources.is_empty();
        for word in ["orders", "ledger", "127.0.0.1:7002", "127.0.0.1:7003"] {
            let carries = memmem::find(response, word.as_bytes()).is_some();
            assert!(!carries || is_absence, "{word} in {told:?}");
        }
    }
    assert!(stream.received.len() > type_url::ALL.len());
}

/// One response holds a tightened policy for api and something unreadable for admin.
#[tokio::test(flavor = "multi_thread")]
async fn a_tightening_edit_that_comes_with_an_unreadable_resource_still_tightens() {
    let mesh = Mesh::start().await;
    let fake = FakeControlPlane::start(mesh.trust_domain()).await;
    let backend = Backend::http().await;
    let spec = fake
        .joining(&mesh, "shop/api")
        .app("shop/api:http", backend.address)
        .app("shop/admin:http", backend.address);
    let sidecar = mesh.sidecar(spec).await;
    let client = fake.svid("shop/client");
    let ask = |service: &'static str| get(&client, sidecar.inbound, service);

    fake.say(
        type_url::INBOUND,
        vec![
            inbound("shop/api", "shop/client", 1),
            inbound("shop/admin", "shop/client", 1),
        ],
    );
    assert_eq!(fake.answer().await.error_detail, None);
    assert_eq!((ask("api").await, ask("admin").await), (200, 200));

    fake.say(
        type_url::INBOUND,
        vec![
            inbound("shop/api", "shop/other", 1),
            inbound("shop/admin", "shop/client", 99),
        ],
    );
    let refusal = fake.answer().await.error_detail.expect("a NACK").message;
    assert!(
        refusal.contains("shop/admin") && !refusal.contains("shop/api"),
        "{refusal}"
    );
    assert_eq!(ask("api").await, 403, "the tightened policy is in force");
    let denied = ask("admin").await;
    assert!(
        [403, 503].contains(&denied),
        "the unreadable one denies: {denied}"
    );
    assert_eq!(backend.count(), 2);

    // Only what had become unreadable comes back with what can be read.
    fake.say(
        type_url::INBOUND,
        vec![inbound("shop/admin", "shop/client", 1)],
    );
    assert_eq!(fake.answer().await.error_detail, None);
    assert_eq!((ask("api").await, ask("admin").await), (403, 200));
}

/// The status of `GET /` at an inbound listener, with an SVID and no sidecar of its own.
async fn get(svid: &Svid, inbound: std::net::SocketAddr, service: &str) -> u16 {
    let name = format!("http.{service}.shop.test.example");
    let mut stream = svid
        .connect(inbound, &name, "http/1.1")
        .await
        .expect("an SVID of the mesh");
    stream
        .write_all(
            format!("GET / HTTP/1.1\r\nHost: {service}.shop\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await
        .expect("it is sent");
    let mut answer = Vec::new();
    // A peer that closes without a farewell has answered all the same.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    text.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {text:?}"))
}

/// A discovery stream of which every byte is kept.
struct Ads {
    requests: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
    received: Vec<Bytes>,
}

impl Ads {
    async fn open(mesh: &Mesh, svid: &Svid) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        for kind in type_url::ALL {
            let first = xds::DeltaDiscoveryRequest {
                node: Some(xds::Node {
                    id: "web-1".to_owned(),
                    client_features: vec!["weft.schema=1".to_owned()],
                    ..Default::default()
                }),
                type_url: kind.to_owned(),
                ..Default::default()
            };
            requests
                .try_send(first.encode_to_vec().into())
                .expect("room");
        }
        let answers = peer::stream_raw(
            svid.channel(mesh.api),
            DISCOVERY,
            ReceiverStream::new(outgoing),
        )
        .await
        .expect("a stream");
        Self {
            requests,
            answers,
            received: Vec::new(),
        }
    }

    async fn ask(&self, request: xds::DeltaDiscoveryRequest) {
        self.requests
            .send(request.encode_to_vec().into())
            .await
            .expect("the stream is open");
    }

    /// Reads and acknowledges until a response carries these bytes.
    async fn until(&mut self, wanted: &[u8]) {
        let read = async {
            loop {
                let message = self.answers.message().await.expect("no error");
                let bytes = message.expect("the stream is open");
                let response =
                    xds::DeltaDiscoveryResponse::decode(bytes.clone()).expect("readable");
                let is_it = memmem::find(&bytes, wanted).is_some();
                self.received.push(bytes);
                self.ask(xds::DeltaDiscoveryRequest {
                    type_url: response.type_url,
                    response_nonce: response.nonce,
                    ..Default::default()
                })
                .await;
                if is_it {
                    return;
                }
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, read)
            .await
            .unwrap_or_else(|_| panic!("{:?} never came", String::from_utf8_lossy(wanted)));
    }
}

/// Offers a service for as long as what it returns is kept.
async fn register(
    mesh: &Mesh,
    svid: &Svid,
    name: &str,
    port: u16,
) -> mpsc::Sender<v1::RegisterRequest> {
    let (requests, outgoing) = mpsc::channel(4);
    let request = v1::RegisterRequest {
        instance: format!("{name}-1"),
        endpoints: vec![v1::OfferedEndpoint {
            service: format!("shop/{name}"),
            address: format!("127.0.0.1:{port}"),
            health: v1::Health::Healthy.into(),
        }],
        leaving: false,
    };
    requests.send(request).await.expect("room");
    let mut answers = RegistrationClient::new(svid.channel(mesh.api))
        .register(ReceiverStream::new(outgoing))
        .await
        .expect("a stream")
        .into_inner();
    answers
        .message()
        .await
        .expect("accepted")
        .expect("answered");
    tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
    requests
}
