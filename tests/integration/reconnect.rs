//! The control plane goes and comes back: traffic and the catalog stay, everybody returns, and a sidecar that restarts
//! meanwhile serves from its snapshot.

use std::time::{Duration, Instant};

use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{Load, Mesh, SidecarSpec, eventually_within};

use crate::rows_trust::{status, until_status};

#[tokio::test]
async fn an_edit_right_after_a_restart_waits_for_everybody_to_come_back() {
    let mut mesh = Mesh::start().await;
    mesh.apply(&service(TARGET, "http")).await;
    let _web = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    let _api = mesh.sidecar(SidecarSpec::of("shop/api")).await;
    let batch = mesh.sidecar(SidecarSpec::of("shop/batch")).await;
    let apply = async |mesh: &Mesh, name, timeout| {
        let rule = allow(name, TARGET, "shop/*");
        let arguments = ["apply", "-f", "-", "--wait", "--timeout", timeout];
        mesh.meshctl_with(&arguments, &rule).await
    };
    mesh.control_plane.kill();
    mesh.restart_control_plane().await;
    let back = apply(&mesh, "first", "30s").await.ok();
    assert!(back.stdout.contains("enforced by 3/3"), "{back:?}");

    mesh.control_plane.kill();
    mesh.restart_control_plane().await;
    let hasty = apply(&mesh, "second", "10ms").await;
    assert_eq!(hasty.code, 1, "it cannot be known yet: {hasty:?}");
    drop(batch);
}

const TARGET: &str = "shop/api:http";
const HOST: &str = "api.shop";

#[tokio::test(flavor = "multi_thread")]
async fn every_sidecar_returns_within_five_seconds_and_no_endpoint_is_missed_meanwhile() {
    let mut mesh = Mesh::start().await;
    mesh.apply(&(service(TARGET, "http") + &allow("any", TARGET, "shop/*")))
        .await;
    let backend = Backend::http().await;
    let _api = mesh
        .sidecar(SidecarSpec::of("shop/api").app(TARGET, backend.address))
        .await;
    let web = mesh
        .sidecar(SidecarSpec::of("shop/web").upstream(TARGET))
        .await;
    let mut batch = mesh
        .sidecar(SidecarSpec::of("shop/batch").upstream(TARGET))
        .await;
    for sidecar in [&web, &batch] {
        until_status(sidecar.upstream(TARGET), HOST, 200).await;
    }
    // The snapshot is written a moment after what it holds is in force.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = mesh.meshctl(["sidecars", "-o", "json"]).await.ok().json();

    let load = Load::start(web.upstream(TARGET), HOST, "/", 50);
    mesh.control_plane.kill();
    batch.restart().await;
    batch.wait_until_ready().await;
    assert_eq!(
        status(batch.upstream(TARGET), HOST).await,
        Some(200),
        "it serves from its snapshot"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;

    mesh.restart_control_plane().await;
    let back = Instant::now();
    let limit = Duration::from_secs(5);
    let after = eventually_within(limit, "every sidecar reconnects", || async {
        let sidecars = mesh.meshctl(["sidecars", "-o", "json"]).await.ok().json();
        let all = sidecars["sidecars"].as_array().cloned().unwrap_or_default();
        let connected = all.iter().filter(|one| one["connected"] == true).count();
        if connected == 3 {
            Ok(sidecars)
        } else {
            Err(sidecars)
        }
    })
    .await;
    println!("three sidecars returned within {:?}", back.elapsed());
    assert!(
        after["revision"].as_u64() >= before["revision"].as_u64(),
        "revisions go on: {before} {after}"
    );
    mesh.apply(&allow("late", TARGET, "shop/late")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let outcome = load.outcome();
    assert!(outcome.sent > 50, "{outcome:?}");
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    let endpoints = mesh.meshctl(["endpoints", "-o", "json"]).await.ok().json();
    assert_eq!(endpoints.as_array().map(Vec::len), Some(1), "{endpoints}");
}
