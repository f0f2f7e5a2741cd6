//! SIGTERM to a sidecar: what is open comes to its end, what is new goes elsewhere, and what never ends is cut at the deadline.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{
    Load, Mesh, Process, Response, SidecarSpec, eventually, eventually_within, request,
};

use crate::replicas::{TARGET, Two};

const HOST: [(&str, &str); 1] = [("Host", "api.shop")];

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_side_fails_no_request_and_leaves_the_catalog_at_once() {
    let mut mesh = Two::start("").await;
    let entry = mesh.web.upstream(TARGET);
    let reading = Load::start(entry, "api.shop", "/", 100);
    let writing = Writing::start(entry);
    mesh.two.release();
    let slow = slow_request_at_one(&mesh, entry).await;

    mesh.sidecars[0].process.signal(Signal::TERM);
    let signalled = Instant::now();
    until_gone(&mesh, "api-1").await;
    println!("out of the catalog after {:?}", signalled.elapsed());
    let count = mesh.one.count();
    assert_eq!(mesh.who_answers().await, ["two"]);
    assert_eq!(mesh.one.count(), count, "it still got new requests");

    // Not before everything else that a drain does was done.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(mesh.sidecars[0].process.ended().is_none());
    mesh.one.release();
    let answer = slow.await.expect("the request was sent");
    assert_eq!((answer.status, answer.text()), (200, "one".to_owned()));
    let (status, after) = end_of(&mut mesh.sidecars[0].process, signalled).await;
    assert_eq!(status.code(), Some(0));
    assert!(after < DRAIN, "it waited for its deadline: {after:?}");

    assert_eq!(mesh.who_answers().await, ["two"]);
    writing.stop().await;
    let outcome = reading.outcome();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_client_side_brings_what_it_took_to_its_end() {
    let mut mesh = Two::start("").await;
    let entry = mesh.web.upstream(TARGET);
    mesh.two.release();
    let slow = slow_request_at_one(&mesh, entry).await;
    // Each of these connections was taken before the drain began; its request is sent only then.
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut kept_alive = weft_tests::KeepAlive::new(connect(entry).await);
        let answer = kept_alive.request("GET", "/", &HOST).await;
        assert_eq!(answer.expect("an answer").status, 200);
        kept.push(kept_alive);
    }

    mesh.web.process.signal(Signal::TERM);
    let signalled = Instant::now();
    let knocking: Vec<_> = (0..4)
        .map(|_| tokio::spawn(knock_until_refused(entry)))
        .collect();
    for mut kept_alive in kept {
        let answer = kept_alive.request("GET", "/", &HOST).await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let ready = weft_tests::get(&format!("http://{}/ready", mesh.web.admin)).await;
    assert_ne!(ready.expect("its admin answers").status, 200);
    for task in knocking {
        let taken = task.await.expect("what is taken is answered");
        assert!(taken > 0, "none was taken after the signal");
    }
    assert!(mesh.web.process.ended().is_none());
    mesh.one.release();
    let answer = slow.await.expect("the request was sent");
    assert_eq!((answer.status, answer.text()), (200, "one".to_owned()));
    let (status, after) = end_of(&mut mesh.web.process, signalled).await;
    assert_eq!(status.code(), Some(0));
    assert!(after < DRAIN, "it waited for its deadline: {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_never_ends_is_cut_at_the_drain_deadline_on_either_side() {
    const RAW: &str = "shop/raw:bytes";
    let limit = Duration::from_secs(2);
    for side in ["client", "server"] {
        let mesh = Mesh::start().await;
        mesh.apply(&(service(RAW, "tcp") + &allow("web", RAW, "shop/web")))
            .await;
        let backend = Backend::tcp().await;
        let server = SidecarSpec::of("shop/raw").app(RAW, backend.address);
        let client = SidecarSpec::of("shop/web").upstream(RAW);
        let mut server = mesh.sidecar(server.drain("2s")).await;
        let mut client = mesh.sidecar(client.drain("2s")).await;
        let entry = client.upstream(RAW);
        let mut tunnel = eventually("bytes pass", || async {
            let mut tunnel = connect(entry).await;
            echo(&mut tunnel).await.map(|()| tunnel)
        })
        .await;

        let draining = match side {
            "client" => &mut client.process,
            _ => &mut server.process,
        };
        draining.signal(Signal::TERM);
        let signalled = Instant::now();
        while signalled.elapsed() < limit.mul_f64(0.75) {
            let echoed = echo(&mut tunnel).await;
            echoed.unwrap_or_else(|error| panic!("cut after {:?}: {error}", signalled.elapsed()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eventually("the tunnel is cut", || {
            let echoed = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(echo(&mut tunnel))
            });
            async move { if echoed.is_err() { Ok(()) } else { Err(()) } }
        })
        .await;
        let (status, after) = end_of(draining, signalled).await;
        assert_eq!(status.code(), Some(0), "{side}");
        println!("the {side} side ended after {after:?}");
        assert!(after >= limit, "{side}: {after:?}");
        assert!(after < limit + Duration::from_secs(3), "{side}: {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_serve_the_same_listeners_and_end_together() {
    const HTTP: &str = "shop/api:http";
    let mesh = Mesh::start().await;
    mesh.apply(&(service(HTTP, "http") + &allow("web", HTTP, "shop/web")))
        .await;
    let backend = Backend::http().await;
    let workers = serde_json::json!({"workers": 3});
    let server = SidecarSpec::of("shop/api").app(HTTP, backend.address);
    let client = SidecarSpec::of("shop/web").upstream(HTTP);
    let mut server = mesh.sidecar(server.set("limits", workers.clone())).await;
    let mut client = mesh.sidecar(client.set("limits", workers)).await;
    let entry = client.upstream(HTTP);
    eventually("requests pass", || async {
        let answer = request(entry, "GET", "/", &HOST, b"").await;
        let status = answer.map(|answer| answer.status);
        if matches!(status, Ok(200)) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    let load = Load::start(entry, "api.shop", "/", 500);
    let asked = (0..100).map(|_| async move {
        let answer = request(entry, "GET", "/", &HOST, b"").await;
        assert_eq!(answer.expect("an answer").status, 200);
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(load.outcome().failed, 0);
    for process in [&mut client.process, &mut server.process] {
        process.signal(Signal::TERM);
        let (status, after) = end_of(process, Instant::now()).await;
        assert_eq!(status.code(), Some(0));
        assert!(after < DRAIN, "it waited for its deadline: {after:?}");
    }
}

/// A request that the first replica has and does not answer yet.
async fn slow_request_at_one(mesh: &Two, entry: SocketAddr) -> JoinHandle<Response> {
    // The balance takes turns: the second one is there at the latest, unless others come in between.
    for _ in 0..20 {
        let sent = tokio::spawn(async move {
            let answer = request(entry, "GET", "/slow", &HOST, b"").await;
            answer.expect("an answer")
        });
        eventually("it is answered or waits", || {
            let is_there = sent.is_finished() || mesh.one.waiting() > 0;
            async move { is_there.then_some(()).ok_or(()) }
        })
        .await;
        if mesh.one.waiting() > 0 {
            return sent;
        }
    }
    panic!("every slow request went to the second replica");
}

/// Waits, not long, until neither the operator nor the client's sidecar is told of a replica.
async fn until_gone(mesh: &Two, instance: &str) {
    let at_once = Duration::from_secs(1);
    eventually_within(at_once, "the endpoint leaves the catalog", || async {
        let listed = mesh.mesh.meshctl(["endpoints", "shop/api", "-o", "json"]);
        let listed = listed.await.ok().stdout;
        if listed.contains(instance) {
            Err(listed)
        } else {
            Ok(())
        }
    })
    .await;
    eventually_within(at_once, "the client knows", || async {
        let view = weft_tests::get(&format!("http://{}/view", mesh.web.admin)).await;
        let view = view.expect("its admin answers").text();
        if view.contains(instance) {
            Err(view)
        } else {
            Ok(())
        }
    })
    .await;
}

/// Sends request after request on connections of their own until none is taken any more; what is taken is answered.
async fn knock_until_refused(entry: SocketAddr) -> u64 {
    let mut taken = 0;
    loop {
        let stream = match TcpStream::connect(entry).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return taken,
            Err(error) => panic!("after {taken}: {error}"),
        };
        let answer = weft_tests::KeepAlive::new(stream)
            .request("GET", "/", &HOST)
            .await
            .unwrap_or_else(|error| panic!("after {taken}: {error}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        taken += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn end_of(process: &mut Process, since: Instant) -> (ExitStatus, Duration) {
    let status = eventually("the process ends", || {
        let ended = process.ended();
        async move { ended.ok_or(()) }
    })
    .await;
    (status, since.elapsed())
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

async fn echo(tunnel: &mut TcpStream) -> std::io::Result<()> {
    let mut echoed = [0; 4];
    tunnel.write_all(b"ping").await?;
    tunnel.read_exact(&mut echoed).await?;
    Ok(())
}

/// Requests that nobody may send twice, one after another.
struct Writing {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<u64>,
}

impl Writing {
    fn start(entry: SocketAddr) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = Arc::clone(&stop);
        let sent = tokio::spawn(async move {
            let mut sent = 0;
            while !stopped.load(Ordering::SeqCst) {
                let answer = request(entry, "POST", "/", &HOST, b"hello").await;
                let answer = answer.expect("an answer");
                assert_eq!(answer.status, 200, "POST {sent}: {}", answer.text());
                sent += 1;
            }
            sent
        });
        Self { stop, sent }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.sent.await.expect("every POST is answered with 200");
        assert!(sent > 50, "only {sent} were sent");
    }
}

/// The default of the harness.
const DRAIN: Duration = Duration::from_secs(5);
