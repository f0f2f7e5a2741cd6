//! gRPC health checks and server reflection on the mTLS API, as a platform's tools use them.

use std::collections::BTreeSet;

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use weft_tests::{Mesh, Svid, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_of_every_service_and_of_the_end() {
    let mut mesh = Mesh::start().await;
    let operator = Svid::of_operator(&mesh.context());
    let mut client = HealthClient::new(operator.channel(mesh.api));
    for service in SERVICES.iter().chain(&[""]) {
        let request = HealthCheckRequest {
            service: (*service).to_owned(),
        };
        let answer = client.check(request).await.expect("a known service");
        assert_eq!(
            answer.into_inner().status(),
            ServingStatus::Serving,
            "{service}"
        );
    }
    let request = HealthCheckRequest {
        service: "weft.v1.Nothing".to_owned(),
    };
    let unknown = client.check(request).await.expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);

    let mut watched = client
        .watch(HealthCheckRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let next = async |stream: &mut tonic::Streaming<HealthCheckResponse>| {
        stream
            .message()
            .await
            .map(|answer| answer.map(|answer| answer.status()))
    };
    let first = next(&mut watched).await.expect("an answer");
    assert_eq!(first, Some(ServingStatus::Serving));
    mesh.control_plane.signal(rustix::process::Signal::TERM);
    let last = next(&mut watched).await.expect("an answer before the end");
    assert_eq!(last, Some(ServingStatus::NotServing));
    eventually("it ends", || {
        let ended = mesh.control_plane.ended();
        async move { ended.ok_or(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_whole_api() {
    let mesh = Mesh::start().await;
    let operator = Svid::of_operator(&mesh.context());
    let mut client = ServerReflectionClient::new(operator.channel(mesh.api));
    let ask = |message| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "weft.v1.Resources".to_owned(),
        )),
    ];
    let mut answers = client
        .server_reflection_info(tokio_stream::iter(asked))
        .await
        .expect("a stream")
        .into_inner();
    let mut next = async || {
        let answer = answers.message().await.expect("an answer");
        answer.and_then(|answer| answer.message_response)
    };
    let Some(MessageResponse::ListServicesResponse(listed)) = next().await else {
        panic!("no list of services");
    };
    let listed: BTreeSet<String> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for service in SERVICES {
        assert!(listed.contains(service), "{service} is not in {listed:?}");
    }
    let Some(MessageResponse::FileDescriptorResponse(files)) = next().await else {
        panic!("no description of the resources' service");
    };
    assert!(!files.file_descriptor_proto.is_empty());
}

const SERVICES: [&str; 6] = [
    "weft.v1.Issuance",
    "weft.v1.Registration",
    "weft.v1.Resources",
    "weft.v1.Operations",
    "weft.v1.Decisions",
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
];
