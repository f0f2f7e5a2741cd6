//! Certificates of ninety seconds under load: no request notices that they change.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{Load, Mesh, SidecarSpec, eventually, request};

#[tokio::test(flavor = "multi_thread")]
async fn three_minutes_of_short_certificates_fail_no_request() {
    let mesh = Mesh::start().await;
    let settings = "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {ttl: 90s, renewEvery: 15s}\n";
    let documents = format!(
        "{settings}{}{}{}{}",
        service("shop/api:http", "http"),
        service("shop/web:http", "http"),
        allow("web", "shop/api:http", "shop/web"),
        allow("client", "shop/web:http", "shop/client"),
    );
    mesh.apply(&documents).await;
    let backend = Backend::http().await;
    let api = mesh
        .sidecar(SidecarSpec::of("shop/api").app("shop/api:http", backend.address))
        .await;
    // Two hops: client -> web -> api; web's program is web's own upstream listener to api.
    let web = SidecarSpec::of("shop/web").upstream("shop/api:http");
    let web_upstream = free_address();
    let web = mesh
        .sidecar(
            web.app("shop/web:http", web_upstream).set(
                "upstreams",
                serde_json::json!([{"service": "shop/api", "port": "http", "listen": web_upstream.to_string()}]),
            ),
        )
        .await;
    let client = mesh
        .sidecar(SidecarSpec::of("shop/client").upstream("shop/web:http"))
        .await;
    let entry = client.upstream("shop/web:http");
    eventually("two hops work", || async {
        match request(entry, "GET", "/", &[("Host", "localhost")], b"").await {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    let load = Load::start(entry, "localhost", "/", 200);
    let mut issued = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for _ in 0..180 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        issued.insert(current_serial(&mesh, "spiffe://test.example/ns/shop/sa/web").await);
        if let Some(hash) = backend.last_certificate_hash() {
            seen.insert(hash);
        }
    }
    let outcome = load.outcome();
    println!(
        "{outcome:?}; {} serials issued to web, {} of them seen by api",
        issued.len(),
        seen.len()
    );
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.sent >= 35_000, "{outcome:?}");
    assert!(issued.len() >= 8, "{issued:?}");
    assert!(seen.len() >= 3, "{seen:?}");
    for sidecar in [&client, &web, &api] {
        let metrics = weft_tests::get(&format!("http://{}/metrics", sidecar.admin))
            .await
            .expect("metrics")
            .text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("weft_requests_on_expired_connection_total"))
            .unwrap_or_else(|| panic!("no such metric in {metrics}"))
            .to_owned();
        assert!(line.ends_with(" 0"), "{line}");
    }
}

async fn current_serial(mesh: &Mesh, id: &str) -> String {
    let shown = mesh
        .meshctl(["identity", "show", id, "-o", "json"])
        .await
        .ok()
        .json();
    shown["lineages"][0]["currentSerial"]
        .as_str()
        .unwrap_or_else(|| panic!("no serial in {shown}"))
        .to_owned()
}

fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
