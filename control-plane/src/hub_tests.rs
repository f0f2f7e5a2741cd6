//! The services over real sockets, with the caller said by a header instead of a certificate.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Server};
use tonic::{Code, Streaming};
use weft_identity::Serial;
use weft_wire::v1::registration_client::RegistrationClient;
use weft_wire::v1::resources_client::ResourcesClient;
use weft_wire::xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_wire::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weft_wire::{v1, write_duration};

use super::*;
use crate::fixture::{allow, id, service, trust_domain};
use crate::views::Kind;
use crate::{discovery, registration, resources, rollout};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

struct Plane {
    hub: Arc<Hub>,
    channel: Channel,
}

impl Plane {
    async fn start() -> Self {
        let store = Store::open_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let config = HubConfig {
            auditor: Auditor::new(store.clone()),
            store,
            tasks: Tasks::new(),
            trust_domain: trust_domain(),
            lease_grace: Duration::from_millis(200),
        };
        let hub = Hub::start(config).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(InterceptedService::new(
                resources::service(Arc::clone(&hub)),
                said,
            ))
            .add_service(InterceptedService::new(
                registration::service(Arc::clone(&hub)),
                said,
            ))
            .add_service(InterceptedService::new(
                discovery::service(Arc::clone(&hub)),
                said,
            ))
            .serve_with_incoming(TcpListenerStream::new(listener));
        hub.tasks.vital("test server", server);
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self { hub, channel }
    }

    async fn apply(&self, resources: Vec<v1::Resource>) -> v1::ApplyResponse {
        let request = v1::ApplyRequest {
            resources,
            ..Default::default()
        };
        let mut client = ResourcesClient::new(self.channel.clone());
        client
            .apply(by("spiffe://weft.local/operator/ada", request))
            .await
            .unwrap()
            .into_inner()
    }

    /// The last word about the rollout of a revision.
    async fn rollout(&self, revision: u64, timeout: Duration) -> v1::RolloutStatus {
        let request = v1::WaitRolloutRequest {
            revision,
            timeout: Some(write_duration(timeout)),
        };
        let mut client = ResourcesClient::new(self.channel.clone());
        let answer = client
            .wait_rollout(by("spiffe://weft.local/operator/ada", request))
            .await
            .unwrap();
        let mut statuses = answer.into_inner();
        let mut last = None;
        while let Some(status) = statuses.message().await.unwrap() {
            last = Some(status);
        }
        last.unwrap()
    }

    async fn sidecar(&self, workload: &str) -> Sidecar {
        let (requests, outgoing) = mpsc::channel(64);
        for kind in Kind::ALL {
            let node = Node {
                id: format!("{workload}-1"),
                ..Default::default()
            };
            let type_url = kind.type_url().to_owned();
            let first = DeltaDiscoveryRequest {
                node: Some(node),
                type_url,
                ..Default::default()
            };
            requests.send(first).await.unwrap();
        }
        let request = by(id(workload).as_str(), ReceiverStream::new(outgoing));
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        let responses = client
            .delta_aggregated_resources(request)
            .await
            .unwrap()
            .into_inner();
        let mut sidecar = Sidecar {
            requests,
            responses,
        };
        for _ in Kind::ALL {
            sidecar.acknowledge().await;
        }
        sidecar
    }

    async fn endpoints(&self) -> usize {
        registration::list_endpoints(&self.hub, &v1::ListEndpointsRequest::default())
            .unwrap()
            .endpoints
            .len()
    }
}

struct Sidecar {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Sidecar {
    async fn acknowledge(&mut self) -> DeltaDiscoveryResponse {
        let response = self.responses.message().await.unwrap().unwrap();
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        let ack = DeltaDiscoveryRequest {
            type_url,
            response_nonce,
            ..Default::default()
        };
        self.requests.send(ack).await.unwrap();
        response
    }
}

fn said(mut request: Request<()>) -> Result<Request<()>, Status> {
    let id = request
        .metadata()
        .get("caller")
        .and_then(|id| id.to_str().ok())
        .and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| Status::unauthenticated("nobody"))?;
    request.extensions_mut().insert(Caller {
        id,
        serial: Serial::new(&[1]),
    });
    Ok(request)
}

fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("caller", caller.parse().unwrap());
    request
}

fn shop() -> Vec<v1::Resource> {
    vec![
        service("api", &["shop/api"]),
        service("orders", &["shop/orders"]),
        allow("web-api", "api", &["shop/web"]),
        allow("api-orders", "orders", &["shop/api"]),
    ]
}

#[tokio::test]
async fn an_edit_is_pushed_acknowledged_and_waited_for() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let mut web = plane.sidecar("web").await;
    let mut intruder = plane.sidecar("intruder").await;

    let applied = plane
        .apply(vec![allow("web-orders", "orders", &["shop/web"])])
        .await;
    let waiting = plane.rollout(applied.revision, Duration::from_secs(10));
    let (pushed, status) = tokio::join!(web.acknowledge(), waiting);
    assert_eq!(pushed.resources[0].name, "shop/orders");
    assert_eq!(pushed.system_version_info, applied.revision.to_string());
    assert!(
        status.done && (status.affected, status.acknowledged) == (1, 1),
        "{status:?}"
    );

    // Nothing of it was for the intruder: the next it hears is its own.
    plane
        .apply(vec![allow("intruder-api", "api", &["shop/intruder"])])
        .await;
    assert_eq!(intruder.acknowledge().await.resources[0].name, "shop/api");
}

#[tokio::test]
async fn a_silent_sidecar_is_named_at_the_timeout() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let _silent = plane.sidecar("web").await;
    let applied = plane
        .apply(vec![allow("web-orders", "orders", &["shop/web"])])
        .await;
    let status = plane
        .rollout(applied.revision, Duration::from_millis(300))
        .await;
    assert!(
        !status.done && (status.affected, status.acknowledged) == (1, 0),
        "{status:?}"
    );
    assert_eq!(status.pending[0].instance, "web-1");
    assert!(status.pending[0].last_heard.is_some());
    let listed = rollout::list(&plane.hub).sidecars;
    assert!(
        listed[0].connected && listed[0].acknowledged_revision < listed[0].required_revision,
        "{listed:?}"
    );
}

#[tokio::test]
async fn applying_the_same_again_names_who_still_lacks_it_whatever_happened_since() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let mut silent = plane.sidecar("web").await;
    let edit = || vec![allow("web-orders", "orders", &["shop/web"])];
    plane.apply(edit()).await;
    let unrelated = plane
        .apply(vec![allow("other-api", "api", &["shop/other"])])
        .await;
    let again = plane.apply(edit()).await;
    assert_eq!(again.revision, unrelated.revision, "nothing changed");
    let status = plane
        .rollout(again.revision, Duration::from_millis(300))
        .await;
    assert!(
        !status.done && (status.affected, status.acknowledged) == (1, 0),
        "{status:?}"
    );
    assert_eq!(status.pending[0].instance, "web-1");
    silent.acknowledge().await;
    let status = plane.rollout(again.revision, Duration::from_secs(10)).await;
    assert!(status.done, "{status:?}");
}

#[tokio::test]
async fn a_sidecar_that_reconnects_meanwhile_is_waited_for() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    drop(plane.sidecar("web").await);
    while rollout::list(&plane.hub)
        .sidecars
        .iter()
        .any(|sidecar| sidecar.connected)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let applied = plane
        .apply(vec![allow("web-orders", "orders", &["shop/web"])])
        .await;
    let waiting = plane.rollout(applied.revision, Duration::from_secs(10));
    let (_web, status) = tokio::join!(plane.sidecar("web"), waiting);
    assert!(status.done && status.acknowledged == 1, "{status:?}");
}

#[tokio::test]
async fn a_newer_stream_of_a_sidecar_ends_the_older_one() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let mut older = plane.sidecar("web").await;
    let mut other = plane.sidecar("api").await;
    let mut newer = plane.sidecar("web").await;
    let ended = timeout(PATIENCE, older.responses.message()).await;
    let ended = ended.expect("the older stream ends").unwrap_err();
    assert_eq!(ended.code(), Code::Aborted);
    plane
        .apply(vec![allow("any-orders", "orders", &["shop/*"])])
        .await;
    for live in [&mut newer, &mut other] {
        live.acknowledge().await;
    }
}

#[tokio::test]
async fn row_11_a_stream_on_which_nothing_is_said_ends() {
    let plane = Plane::start().await;
    let (_silent, outgoing) = mpsc::channel::<DeltaDiscoveryRequest>(1);
    let (_quiet, offers) = mpsc::channel::<v1::RegisterRequest>(1);
    let mut discovery = AggregatedDiscoveryServiceClient::new(plane.channel.clone());
    let mut registration = RegistrationClient::new(plane.channel.clone());
    let request = by(id("web").as_str(), ReceiverStream::new(outgoing));
    let responses = discovery.delta_aggregated_resources(request).await.unwrap();
    let request = by(id("web").as_str(), ReceiverStream::new(offers));
    let answers = registration.register(request).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(discovery::FIRST_REQUEST).await;
    // Sockets keep no virtual time.
    tokio::time::resume();
    let (mut responses, mut answers) = (responses.into_inner(), answers.into_inner());
    let ended = timeout(PATIENCE, responses.message()).await;
    let left = timeout(PATIENCE, answers.message()).await;
    for ended in [ended.unwrap().map(drop), left.unwrap().map(drop)] {
        assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
    }
}

/// A hub that starts with a store in which somebody had an SVID, or nobody.
async fn started_with(has_lineage: bool) -> Arc<Hub> {
    let store = Store::open_backend(redb::backends::InMemoryBackend::new()).unwrap();
    if has_lineage {
        let written = store.write(|tx| {
            tx.put(Table::Lineages, b"one", Vec::new());
            Ok::<_, StoreError>(())
        });
        written.await.unwrap();
    }
    Hub::start(HubConfig {
        auditor: Auditor::new(store.clone()),
        store,
        tasks: Tasks::new(),
        trust_domain: trust_domain(),
        lease_grace: Duration::from_secs(10),
    })
    .unwrap()
}

/// Waits for the newest revision; answers how long that took, and the last word.
async fn waited(hub: &Arc<Hub>, timeout: Duration) -> (Duration, v1::RolloutStatus) {
    let began = tokio::time::Instant::now();
    let (statuses, mut answers) = mpsc::channel(64);
    let request = v1::WaitRolloutRequest {
        revision: hub.views.revision(),
        timeout: Some(write_duration(timeout)),
    };
    rollout::wait(Arc::clone(hub), request, statuses).await;
    let mut last = None;
    while let Some(status) = answers.recv().await {
        last = Some(status.unwrap());
    }
    (began.elapsed(), last.unwrap())
}

#[tokio::test]
async fn a_restarted_control_plane_is_sure_of_nothing_before_everybody_could_be_back() {
    let hub = started_with(true).await;
    tokio::time::pause();
    let (took, status) = waited(&hub, Duration::from_secs(1)).await;
    assert!(took <= Duration::from_secs(2) && !status.done, "{status:?}");

    let key = rollout::SidecarKey {
        id: id("web"),
        instance: "web-1".to_owned(),
    };
    let announced = rollout::Announced {
        version: String::new(),
        policy_schema: 1,
    };
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let view = hub.views.subscribe(&key.id);
        let stream = hub.rollouts.connect(key.clone(), announced, view).unwrap();
        stream.heard(hub.views.revision(), String::new());
        stream
    };
    let ((took, status), _stream) = tokio::join!(waited(&hub, Duration::from_secs(30)), back);
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert!(
        status.done && (status.affected, status.acknowledged) == (1, 1),
        "{status:?}"
    );
    let (took, status) = waited(&hub, Duration::from_secs(30)).await;
    assert!(took < Duration::from_millis(50) && status.done, "{took:?}");
}

#[tokio::test]
async fn a_control_plane_of_a_new_mesh_waits_for_nobody() {
    let hub = started_with(false).await;
    let (took, status) = waited(&hub, Duration::from_secs(30)).await;
    assert!(took < Duration::from_secs(1) && status.done, "{took:?}");
}

#[tokio::test]
async fn the_same_apply_again_makes_no_revision_and_a_dry_run_says_what_would_happen() {
    let plane = Plane::start().await;
    let first = plane.apply(shop()).await;
    let again = plane.apply(shop()).await;
    assert_eq!(first.revision, again.revision);
    assert!(
        again
            .changes
            .iter()
            .all(|change| change.action() == v1::change::Action::Unchanged)
    );

    let request = v1::ApplyRequest {
        resources: vec![allow("new", "api", &["shop/x"])],
        dry_run: true,
        ..Default::default()
    };
    let mut client = ResourcesClient::new(plane.channel.clone());
    let dry = client
        .apply(by("spiffe://weft.local/operator/ada", request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(dry.changes[0].action(), v1::change::Action::Created);
    assert_eq!(plane.hub.store.revision(), first.revision);
    let audit = plane.hub.store.read().unwrap().audit_newest(100).unwrap();
    assert_eq!(audit.len(), 4);
    assert!(
        audit
            .iter()
            .all(|record| record.actor.ends_with("/operator/ada") && record.action == "apply")
    );
}

#[tokio::test]
async fn an_external_service_that_a_connected_sidecar_could_not_read_is_refused_and_names_it() {
    let plane = Plane::start().await;
    let key = rollout::SidecarKey {
        id: id("web"),
        instance: "web-of-yesterday".to_owned(),
    };
    let announced = rollout::Announced {
        version: String::new(),
        policy_schema: 1,
    };
    let view = plane.hub.views.subscribe(&key.id);
    let old = plane.hub.rollouts.connect(key, announced, view).unwrap();
    let apply = async |resources: Vec<v1::Resource>| {
        let request = v1::ApplyRequest {
            resources,
            ..Default::default()
        };
        let mut client = ResourcesClient::new(plane.channel.clone());
        let applied = client.apply(by("spiffe://weft.local/operator/ada", request));
        applied.await.map(|_| ())
    };
    let refused = |applied: Result<(), tonic::Status>| {
        let status = applied.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("web-of-yesterday"), "{status}");
    };
    let (pay, other) = (
        || allow("web-pays", "stripe", &["shop/web"]),
        || allow("api-pays", "stripe", &["shop/api"]),
    );
    refused(apply(vec![external("stripe"), pay()]).await);
    // Whom it does not concern it does not stop.
    apply(vec![external("stripe"), other()]).await.unwrap();
    refused(apply(vec![pay()]).await);
    // A service that becomes external under a rule that is there already.
    apply(vec![service("stripe", &["shop/stripe"]), pay()])
        .await
        .unwrap();
    refused(apply(vec![external("stripe")]).await);
    drop(old);
    apply(vec![external("stripe")]).await.unwrap();
}

#[tokio::test]
async fn addresses_that_a_connected_server_could_not_read_are_refused_and_name_it() {
    let plane = Plane::start().await;
    let connect = |name: &str| {
        let key = rollout::SidecarKey {
            id: id(name),
            instance: format!("{name}-of-yesterday"),
        };
        let announced = rollout::Announced {
            version: String::new(),
            policy_schema: weft_policy::ADDRESSES_SCHEMA - 1,
        };
        let view = plane.hub.views.subscribe(&key.id);
        plane.hub.rollouts.connect(key, announced, view).unwrap()
    };
    let apply = async |resources: Vec<v1::Resource>| {
        let request = v1::ApplyRequest {
            resources,
            ..Default::default()
        };
        let mut client = ResourcesClient::new(plane.channel.clone());
        let applied = client.apply(by("spiffe://weft.local/operator/ada", request));
        applied.await.map(|answer| answer.into_inner().warnings)
    };
    let refused = |applied: Result<Vec<String>, tonic::Status>| {
        let status = applied.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("api-of-yesterday"), "{status}");
    };
    let by_address = |from: &[&str]| {
        let mut resource = allow("scraped", "api", from);
        if let Some(v1::resource::Spec::Allow(spec)) = &mut resource.spec {
            spec.schema = weft_policy::ADDRESSES_SCHEMA;
            spec.from_addresses = vec!["10.1.0.0/16".to_owned()];
        }
        resource
    };
    // A caller is not told the addresses, so that it need not read them.
    let _caller = connect("web");
    let warnings = apply(vec![
        service("api", &["shop/other"]),
        by_address(&["shop/web"]),
    ])
    .await
    .unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let warnings = apply(vec![by_address(&[])]).await.unwrap();
    assert!(
        warnings[0].contains("no sidecar accepts plaintext yet"),
        "{warnings:?}"
    );
    let server = connect("api");
    // A service that an old sidecar would offer from now on, under a rule that is there already.
    refused(apply(vec![service("api", &["shop/api"])]).await);
    drop(server);
    apply(vec![service("api", &["shop/api"])]).await.unwrap();
    let _server = connect("api");
    refused(apply(vec![by_address(&["shop/batch"])]).await);
    apply(vec![allow("scraped", "api", &["shop/batch"])])
        .await
        .unwrap();
}

fn external(name: &str) -> v1::Resource {
    let mut resource = service(name, &[]);
    if let Some(v1::resource::Spec::Service(spec)) = &mut resource.spec {
        spec.ports
            .iter_mut()
            .for_each(|port| port.target_port = port.port);
        spec.external = Some(v1::External {
            hosts: vec!["api.stripe.com".to_owned()],
            allow_addresses: Vec::new(),
        });
    }
    resource
}

fn offer(service: &str, leaving: bool) -> v1::RegisterRequest {
    let endpoint = v1::OfferedEndpoint {
        service: service.to_owned(),
        address: "127.0.0.1:15006".to_owned(),
        health: v1::Health::Healthy.into(),
    };
    v1::RegisterRequest {
        instance: "one".to_owned(),
        endpoints: vec![endpoint],
        leaving,
    }
}

#[tokio::test]
async fn endpoints_stay_while_their_stream_lives_and_a_grace_period_longer() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let (requests, outgoing) = mpsc::channel(4);
    requests.send(offer("shop/api", false)).await.unwrap();
    let mut client = RegistrationClient::new(plane.channel.clone());
    let answer = client
        .register(by(id("api").as_str(), ReceiverStream::new(outgoing)))
        .await
        .unwrap();
    let mut answers = answer.into_inner();
    assert!(answers.message().await.unwrap().unwrap().revision > 0);
    tokio::time::sleep(plane.hub.leases.grace() * 2).await;
    assert_eq!(plane.endpoints().await, 1);
    drop((requests, answers));
    for _ in 0..200 {
        if plane.endpoints().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lease never ended");
}

#[tokio::test]
async fn endpoints_of_a_sidecar_that_leaves_go_at_once() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let requests = tokio_stream::iter([offer("shop/api", false), offer("shop/api", true)]);
    let mut client = RegistrationClient::new(plane.channel.clone());
    let answer = client
        .register(by(id("api").as_str(), requests))
        .await
        .unwrap();
    let mut answers = answer.into_inner();
    while answers.message().await.unwrap().is_some() {}
    assert_eq!(plane.endpoints().await, 0);
}

#[tokio::test]
async fn an_older_stream_that_leaves_takes_nothing_from_a_newer_one() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    let register = async || {
        let (requests, outgoing) = mpsc::channel(4);
        requests.send(offer("shop/api", false)).await.unwrap();
        let mut client = RegistrationClient::new(plane.channel.clone());
        let request = by(id("api").as_str(), ReceiverStream::new(outgoing));
        let mut answers = client.register(request).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap();
        (requests, answers)
    };
    let (older, mut told) = register().await;
    let newer = register().await;
    older.send(offer("shop/api", true)).await.unwrap();
    assert_eq!(told.message().await.unwrap_err().code(), Code::Aborted);
    assert_eq!(plane.endpoints().await, 1);
    drop(newer);
}

#[tokio::test]
async fn row_08_endpoints_of_a_service_that_the_identity_does_not_own_are_refused_and_audited() {
    let plane = Plane::start().await;
    plane.apply(shop()).await;
    for service in ["shop/api", "shop/none"] {
        let mut client = RegistrationClient::new(plane.channel.clone());
        let requests = tokio_stream::iter([offer(service, false)]);
        let answer = client
            .register(by(id("intruder").as_str(), requests))
            .await
            .unwrap();
        let refused = answer.into_inner().message().await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let audit = plane.hub.store.read().unwrap().audit_newest(1).unwrap();
        assert_eq!(
            (audit[0].outcome.as_str(), audit[0].subject.as_str()),
            ("refused", service)
        );
        assert_eq!(audit[0].actor, id("intruder").as_str());
    }
    assert_eq!(plane.endpoints().await, 0);
}

#[tokio::test]
async fn a_watch_tells_the_state_then_changes_and_resumes_without_a_gap() {
    let plane = Plane::start().await;
    let first = plane.apply(shop()).await;
    let watch = async |from_revision| {
        let request = v1::WatchRequest {
            kind: "Allow".to_owned(),
            from_revision,
            ..Default::default()
        };
        let mut client = ResourcesClient::new(plane.channel.clone());
        client
            .watch(by("spiffe://weft.local/operator/ada", request))
            .await
            .unwrap()
            .into_inner()
    };
    let mut events = watch(0).await;
    for _ in 0..2 {
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        assert!(matches!(event, v1::watch_event::Event::Put(_)));
    }
    let synced = events.message().await.unwrap().unwrap();
    assert!(
        matches!(synced.event, Some(v1::watch_event::Event::Synced(_)))
            && synced.revision == first.revision
    );
    let second = plane.apply(vec![allow("new", "api", &["shop/x"])]).await;
    assert_eq!(
        events.message().await.unwrap().unwrap().revision,
        second.revision
    );

    let mut resumed = watch(first.revision).await;
    let missed = resumed.message().await.unwrap().unwrap();
    assert!(
        matches!(missed.event, Some(v1::watch_event::Event::Put(_)))
            && missed.revision == second.revision
    );
    let mut future = watch(second.revision + 5).await;
    assert_eq!(future.message().await.unwrap_err().code(), Code::OutOfRange);
}
