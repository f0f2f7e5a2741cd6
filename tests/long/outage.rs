//! The control plane dies without a word: traffic goes on, a sidecar comes back from its snapshot, and everybody returns.

use std::time::{Duration, Instant};

use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{Load, Mesh, SidecarSpec, eventually_within, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_a_control_plane_fails_no_request() {
    let mut mesh = Mesh::start().await;
    mesh.apply(&(service("shop/api:http", "http") + &allow("any", "shop/api:http", "shop/*")))
        .await;
    let backend = Backend::http().await;
    let api = mesh
        .sidecar(SidecarSpec::of("shop/api").app("shop/api:http", backend.address))
        .await;
    let web = mesh
        .sidecar(SidecarSpec::of("shop/web").upstream("shop/api:http"))
        .await;
    let mut batch = mesh
        .sidecar(SidecarSpec::of("shop/batch").upstream("shop/api:http"))
        .await;
    weft_tests::eventually("the endpoint is known", || async {
        let answer = request(
            web.upstream("shop/api:http"),
            "GET",
            "/",
            &[("Host", "api.shop")],
            b"",
        )
        .await;
        match answer {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let before = revision(&mesh).await;

    let load = Load::start(web.upstream("shop/api:http"), "api.shop", "/", 100);
    mesh.control_plane.kill();
    let killed = Instant::now();

    tokio::time::sleep(Duration::from_secs(20)).await;
    batch.restart().await;
    batch.wait_until_ready().await;
    let served = request(
        batch.upstream("shop/api:http"),
        "GET",
        "/",
        &[("Host", "api.shop")],
        b"",
    )
    .await;
    assert_eq!(served.expect("the restarted sidecar answers").status, 200);
    let from_snapshot = Load::start(batch.upstream("shop/api:http"), "api.shop", "/", 20);

    tokio::time::sleep(Duration::from_secs(60).saturating_sub(killed.elapsed())).await;
    for load in [&load, &from_snapshot] {
        let outcome = load.outcome();
        println!("without a control plane: {outcome:?}");
        assert_eq!(outcome.failed, 0, "{outcome:?}");
    }
    assert!(load.outcome().sent >= 5_000, "{:?}", load.outcome());

    mesh.restart_control_plane().await;
    let back = Instant::now();
    eventually_within(
        Duration::from_secs(5),
        "every sidecar reconnects",
        || async {
            let sidecars = mesh.meshctl(["sidecars", "-o", "json"]).await.ok().json();
            let connected = sidecars["sidecars"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|one| one["connected"] == true)
                .count();
            if connected == 3 {
                Ok(())
            } else {
                Err(sidecars)
            }
        },
    )
    .await;
    println!(
        "three sidecars reconnected {:?} after the control plane was back",
        back.elapsed()
    );
    mesh.apply(&allow("late", "shop/api:http", "shop/late"))
        .await;
    assert!(revision(&mesh).await > before, "revisions continue");
    assert_eq!(load.outcome().failed, 0, "{:?}", load.outcome());
    drop(api);
}

async fn revision(mesh: &Mesh) -> u64 {
    let sidecars = mesh.meshctl(["sidecars", "-o", "json"]).await.ok().json();
    sidecars["revision"].as_u64().expect("a revision")
}
