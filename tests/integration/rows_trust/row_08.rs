//! Row 8: registering endpoints for a service that the identity does not own.

use tonic::Code;
use weft_tests::documents::service;
use weft_tests::{Mesh, Svid};
use weft_wire::v1;
use weft_wire::v1::registration_client::RegistrationClient;

use super::join;

#[tokio::test]
async fn row_08_an_endpoint_of_another_ones_service_is_refused() {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("shop/api:http", "http") + &service("shop/web:http", "http")))
        .await;
    let web = join(&mesh, "shop/web").await;
    let own = register(&mesh, &web, &["shop/web"]).await;
    own.expect("its own service");
    // Alone, hidden behind an own one, and one that does not exist.
    for services in [
        &["shop/api"][..],
        &["shop/web", "shop/api"],
        &["shop/nothing"],
    ] {
        let refused = register(&mesh, &web, services).await;
        let refused = refused.expect_err("not its service");
        assert_eq!(refused.code(), Code::PermissionDenied, "{services:?}");
    }
    mesh.audited("register", "refused", &["shop/sa/web", "shop/api"])
        .await;
    let endpoints = mesh.meshctl(["endpoints", "-o", "json"]).await.ok().stdout;
    assert!(
        endpoints.contains("shop/web") && !endpoints.contains("shop/api"),
        "{endpoints}"
    );
}

/// Registers once and leaves the stream, so that only the grace period keeps what was accepted.
async fn register(
    mesh: &Mesh,
    svid: &Svid,
    services: &[&str],
) -> Result<v1::RegisterResponse, tonic::Status> {
    let endpoints = services
        .iter()
        .map(|service| v1::OfferedEndpoint {
            service: (*service).to_owned(),
            address: "127.0.0.1:9".to_owned(),
            health: v1::Health::Healthy.into(),
        })
        .collect();
    let request = v1::RegisterRequest {
        instance: "web-1".to_owned(),
        endpoints,
        leaving: false,
    };
    let mut client = RegistrationClient::new(svid.channel(mesh.api));
    let mut answers = client
        .register(tokio_stream::once(request))
        .await?
        .into_inner();
    let answer = answers.message().await?;
    Ok(answer.expect("an answer"))
}
