//! Many connections through two sidecars at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow_http, service};
use weft_tests::{Mesh, SidecarSpec, eventually, request};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_connections_fail_nothing_and_leave_no_memory_behind() {
    let mesh = Mesh::start().await;
    let rule = allow_http(
        "web",
        "shop/api:http",
        "shop/web",
        "{methods: [GET], paths: [\"/orders/**\"]}",
    );
    mesh.apply(&(service("shop/api:http", "http") + &rule))
        .await;
    let backend = Backend::http().await;
    let quiet = serde_json::json!({"format": "text", "level": "info", "access": false});
    let api = SidecarSpec::of("shop/api")
        .app("shop/api:http", backend.address)
        .set("log", quiet.clone());
    let api = mesh.sidecar(api).await;
    let web = mesh
        .sidecar(
            SidecarSpec::of("shop/web")
                .upstream("shop/api:http")
                .set("log", quiet),
        )
        .await;
    let entry = web.upstream("shop/api:http");
    eventually("the endpoint is known", || async {
        match request(entry, "GET", "/orders/1", &[("Host", "api.shop")], b"").await {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    let before = rss(web.process.pid()) + rss(api.process.pid());
    let (answered, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut connections = JoinSet::new();
    for _ in 0..32 {
        connections.spawn(keep_asking(
            entry,
            Arc::clone(&answered),
            began + Duration::from_secs(5),
        ));
    }
    while let Some(ended) = connections.join_next().await {
        ended.expect("no panic").expect("no request fails");
    }
    let count = answered.load(Ordering::SeqCst);
    println!("{count} requests in {:?}", began.elapsed());
    assert!(count > 500, "only {count} requests were answered");
    let after = rss(web.process.pid()) + rss(api.process.pid());
    assert!(
        after < before + (32 << 20),
        "memory grew from {before} to {after} bytes"
    );
}

/// One request after the other on one connection.
async fn keep_asking(
    entry: SocketAddr,
    answered: Arc<AtomicU64>,
    until: Instant,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(entry).await?;
    let mut buffer = vec![0u8; 4096];
    while Instant::now() < until {
        stream
            .write_all(b"GET /orders/7 HTTP/1.1\r\nHost: api.shop\r\n\r\n")
            .await?;
        let read = stream.read(&mut buffer).await?;
        if !buffer[..read].starts_with(b"HTTP/1.1 200 ") {
            let told = String::from_utf8_lossy(&buffer[..read]).into_owned();
            return Err(std::io::Error::other(told));
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Resident bytes of a process.
fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("every process has it");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        << 10
}
