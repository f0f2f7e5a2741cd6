//! The audit record: every mutation, issue and refusal, whoever caused it, and no flood of any.

use tonic::Code;
use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, SidecarSpec, Svid};
use weft_wire::v1;
use weft_wire::v1::operations_client::OperationsClient;
use weft_wire::v1::registration_client::RegistrationClient;
use weft_wire::v1::resources_client::ResourcesClient;

use crate::rows_trust::{join, renew};

const TARGET: &str = "shop/api:http";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_leaves_a_record() {
    let mesh = Mesh::start_with(weft_tests::MeshOptions {
        flags: vec!["--lease-grace".into(), "1s".into()],
        ..Default::default()
    })
    .await;
    mesh.apply(&(service(TARGET, "http") + &allow("all", TARGET, "shop/*")))
        .await;
    mesh.meshctl(["delete", "Allow/shop/all"]).await.ok();
    let nowhere = ([127, 0, 0, 1], 9).into();
    let spec = SidecarSpec::of("shop/api").app(TARGET, nowhere);
    let mut sidecar = mesh.sidecar(spec).await;
    mesh.audited("register", "ok", &["offers shop/api at"])
        .await;
    sidecar.process.kill();
    mesh.meshctl(["identity", "revoke", "shop/api", "--reason", "test"])
        .await
        .ok();
    for (action, mentions) in [
        ("issue", "\"root\""),
        ("issue", "\"intermediate\""),
        ("issue", "/ns/weft/sa/control-plane"),
        ("login", "/operator/"),
        ("apply", "Service/shop/api"),
        ("apply", "Allow/shop/all"),
        ("delete", "Allow/shop/all"),
        ("token.create", "/ns/shop/sa/api"),
        ("attest", "/ns/shop/sa/api"),
        ("revoke", "/ns/shop/sa/api"),
        ("lease.end", "offers nothing any more"),
    ] {
        mesh.audited(action, "ok", &[mentions]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_refused_leaves_a_record_and_what_is_only_tried_leaves_none() {
    let mesh = Mesh::start().await;
    mesh.apply(&service(TARGET, "http")).await;
    let operator = Svid::of_operator(&mesh.context()).channel(mesh.api);
    let mut resources = ResourcesClient::new(operator.clone());
    for (dry_run, name) in [(true, "tried"), (false, "wrong")] {
        let mut resource = v1::Resource {
            metadata: Some(v1::Metadata {
                name: name.to_owned(),
                namespace: "shop".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        resource.spec = Some(v1::resource::Spec::Allow(v1::AllowSpec::default()));
        let request = v1::ApplyRequest {
            resources: vec![resource],
            dry_run,
            ..Default::default()
        };
        let refused = resources.apply(request).await.expect_err("an empty rule");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let request = v1::DeleteRequest {
        keys: vec![v1::ResourceKey {
            kind: "Allow".to_owned(),
            namespace: "shop".to_owned(),
            name: "nothing".to_owned(),
        }],
        ..Default::default()
    };
    let refused = resources.delete(request).await.expect_err("no such rule");
    assert_eq!(refused.code(), Code::NotFound);
    let mut operations = OperationsClient::new(operator);
    let request = v1::CreateTokenRequest {
        workload: "weft/control-plane".to_owned(),
        ttl: None,
    };
    operations
        .create_token(request)
        .await
        .expect_err("a reserved namespace");
    let request = v1::RevokeRequest {
        target: Some(v1::revoke_request::Target::Lineage("none".to_owned())),
        ..Default::default()
    };
    operations.revoke(request).await.expect_err("no lineage");
    let web = join(&mesh, "shop/web").await;
    let unread = renew(&mesh, &web, b"no request").await;
    let unread = unread.expect_err("it is no request").code();
    assert_eq!(unread, Code::InvalidArgument);
    mesh.audited("renew", "refused", &["/ns/shop/sa/web", "cannot be read"])
        .await;
    for (action, mentions) in [
        ("apply", "Allow/shop/wrong"),
        ("delete", "Allow/shop/nothing"),
        ("token.create", "weft/control-plane"),
        ("revoke", "no such lineage"),
    ] {
        mesh.audited(action, "refused", &[mentions, "/operator/"])
            .await;
    }
    let all = serde_json::Value::from(mesh.audit().await).to_string();
    assert!(!all.contains("Allow/shop/tried"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_is_refused_again_and_again_does_not_fill_the_record() {
    let mesh = Mesh::start().await;
    let web = join(&mesh, "shop/web").await.channel(mesh.api);
    for i in 0..300 {
        let request = v1::RegisterRequest {
            instance: "web-1".to_owned(),
            endpoints: vec![v1::OfferedEndpoint {
                service: format!("shop/s{i}"),
                address: "127.0.0.1:9".to_owned(),
                health: v1::Health::Healthy.into(),
            }],
            leaving: false,
        };
        let mut client = RegistrationClient::new(web.clone());
        let answers = client.register(tokio_stream::once(request)).await;
        let refused = match answers {
            Ok(mut answers) => answers.get_mut().message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        let code = refused.expect_err("not its service").code();
        assert_eq!(code, Code::PermissionDenied);
    }
    let records = mesh.audit().await;
    let of_web = records
        .iter()
        .filter(|record| record["action"] == "register")
        .count();
    // Two windows at most, as the test may run over the end of one.
    assert!((1..=45).contains(&of_web), "{of_web} records");
}
