//! A million distinct paths: what the server's sidecar takes for them, and that the record accounts for each.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, SidecarSpec, eventually_within};

const TARGET: &str = "shop/api:http";
const PATHS: u64 = 1_000_000;
const CONNECTIONS: u64 = 32;
/// Requests before the measurement: pools and buffers have their size then.
const WARM: u64 = 32_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_million_distinct_paths_take_8_mib_at_most_and_each_is_accounted_for() {
    let mesh = Mesh::start().await;
    mesh.apply(&(service(TARGET, "http") + &allow("all", TARGET, "shop/web")))
        .await;
    let quiet = json!({"format": "text", "level": "info", "access": false});
    let app = application().await;
    let api = SidecarSpec::of("shop/api").app(TARGET, app);
    let api = mesh.sidecar(api.set("log", quiet.clone())).await;
    let web = SidecarSpec::of("shop/web").upstream(TARGET);
    let web = mesh.sidecar(web.set("log", quiet)).await;
    let upstream = web.upstream(TARGET);

    // The same path over and over.
    throw(upstream, WARM, |_, path| path.push_str("/warm")).await;
    let before = resident(api.process.pid());
    let began = Instant::now();
    throw(upstream, PATHS, |number, path| {
        let _ = write!(path, "/{}/{}", word(number % 1000), word(number));
    })
    .await;
    let took = began.elapsed();
    let after = resident(api.process.pid());
    println!(
        "{PATHS} distinct paths in {took:?}: the server's sidecar from {before} KiB to {after} KiB, {} KiB more",
        after.saturating_sub(before)
    );

    let limit = std::time::Duration::from_secs(60);
    let listed = eventually_within(limit, "everything is accounted for", || async {
        let listed = mesh.meshctl(["flows", "-o", "json"]).await.ok().json();
        let flows = listed["flows"].as_array().cloned().unwrap_or_default();
        let [folded, dropped] =
            ["folded", "dropped"].map(|field| listed[field].as_u64().unwrap_or(0));
        let counts = flows.iter().filter_map(|flow| flow["count"].as_u64());
        let told = counts.sum::<u64>() + dropped;
        if told == PATHS + WARM {
            Ok((flows.len(), folded, dropped))
        } else {
            Err(told)
        }
    })
    .await;
    let (flows, folded, dropped) = listed;
    println!("flows {flows}, told less exactly {folded}, dropped {dropped}");
    assert!(folded > PATHS * 9 / 10);
    assert!(after < before + (8 << 10), "{before} KiB, then {after} KiB");
}

/// So many requests over some connections, each with the path that `write` makes of its number.
async fn throw(upstream: SocketAddr, requests: u64, write: fn(u64, &mut String)) {
    let mut threads = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        threads.spawn(async move {
            let mut stream = TcpStream::connect(upstream).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket's option");
            let (mut path, mut answer) = (String::new(), [0; 4096]);
            let mut number = connection;
            while number < requests {
                path.clear();
                write(number, &mut path);
                let request = format!("GET {path} HTTP/1.1\r\nHost: api.shop\r\n\r\n");
                stream.write_all(request.as_bytes()).await.expect("sent");
                let mut got = 0;
                while got < ANSWER.len() {
                    let count = stream.read(&mut answer[got..]).await.expect("an answer");
                    assert!(count > 0, "the connection ended");
                    got += count;
                    if answer[..got].ends_with(b"ok") {
                        break;
                    }
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"));
                number += CONNECTIONS;
            }
        });
    }
    while let Some(ended) = threads.join_next().await {
        ended.expect("a client");
    }
}

/// Answers every request alike, and remembers none.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let mut held = 0;
                while let Ok(count @ 1..) = stream.read(&mut buffer[held..]).await {
                    held += count;
                    if buffer[..held].ends_with(b"\r\n\r\n") {
                        held = 0;
                        if stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// A word of its own for each number, which no folding takes for an identifier.
fn word(number: u64) -> String {
    let digits = number.to_string().into_bytes();
    let letter = |digit: &u8| char::from(b"aeiouybdgt"[usize::from(digit - b'0')]);
    digits.iter().map(letter).collect()
}

/// VmRSS in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).expect("a number")
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
