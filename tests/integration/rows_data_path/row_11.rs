//! Row 11, what a peer with a good SVID or the workload itself can do to a sidecar: others are served meanwhile, memory is
//! bounded, and the process lives.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_tests::frames::{self, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame};
use weft_tests::request;

use super::apps::App;
use super::open::Io;
use super::shop::{LIMIT, Shop, exchange, resident, rule, target};

#[tokio::test(flavor = "multi_thread")]
async fn row_11_heads_that_never_end_are_ended_and_others_are_served_meanwhile() {
    let mut stage = Stage::start().await;
    let before = stage.resident();
    let mut slow: Vec<Box<dyn Io>> = Vec::new();
    for _ in 0..50 {
        slow.push(Box::new(stage.shop.straight("http", "http/1.1").await));
    }
    for _ in 0..100 {
        slow.push(Box::new(stage.shop.through("http").await));
    }
    let started = Instant::now();
    let slow = slow.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await?;
            let mut answer = [0; 64];
            loop {
                stream.write_all(b"a").await?;
                stream.flush().await?;
                let pause = Duration::from_millis(100);
                match tokio::time::timeout(pause, stream.read(&mut answer)).await {
                    Ok(Ok(1..)) | Err(_) => {}
                    Ok(Ok(0)) => return Ok(()),
                    Ok(Err(error)) => return Err(error),
                }
            }
        })
    });
    let slow: Vec<_> = slow.collect();
    stage.others_are_served().await;
    assert!(started.elapsed() < HEAD_LIMIT, "asked while they were open");
    let grown = stage.grown_since(before);
    // A connection over mutual TLS holds its own buffers.
    assert!(grown < 16 * MIB, "{grown} bytes more with 150 slow heads");

    let ended = tokio::time::timeout(HEAD_LIMIT + LIMIT, join_all(slow)).await;
    ended.expect("every slow head is ended");
    assert!(started.elapsed() >= HEAD_LIMIT, "none before its time");
    stage.others_are_served().await;
    stage.shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_huge_heads_are_refused_without_being_kept() {
    let mut stage = Stage::start().await;
    let line = [b"X-More: ", &[b'a'; 1000][..], b"\r\n"].concat();
    let cases = [
        ("one endless header", [&b"GET / HTTP/1.1\r\nHost: api.shop\r\nX: "[..], &vec![b'a'; 4 << 20]].concat()),
        ("endless headers", [&b"GET / HTTP/1.1\r\nHost: api.shop\r\n"[..], &line.repeat(4000)].concat()),
        ("an endless path", [&b"GET /"[..], &vec![b'a'; 4 << 20], b" HTTP/1.1\r\nHost: api.shop\r\n\r\n"].concat()),
        ("many short headers", [&b"GET / HTTP/1.1\r\nHost: api.shop\r\n"[..], &b"X: y\r\n".repeat(200), b"\r\n"].concat()),
        (
            "endless trailers",
            [
                &b"POST / HTTP/1.1\r\nHost: api.shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"[..],
                &line.repeat(4000),
            ]
            .concat(),
        ),
    ];
    let before = stage.resident();
    for (name, bytes) in &cases {
        let ways: [Box<dyn Io>; 2] = [
            Box::new(stage.shop.straight("http", "http/1.1").await),
            Box::new(stage.shop.through("http").await),
        ];
        for stream in ways {
            let answer = exchange(stream, bytes).await;
            let told = answer.starts_with(b"HTTP/1.1 400 ");
            assert!(told, "{name}: {}", answer.escape_ascii());
        }
        stage.others_are_served().await;
    }
    // HTTP/2: a whole list of 1 MiB, in frames that each are small.
    let field = frames::block(&[("x-more", &[b'a'; 120])]);
    let mut list = [
        frames::opening(),
        frame(HEADERS, END_STREAM, 1, &frames::get("/", "api.shop")),
    ]
    .concat();
    for _ in 0..80 {
        list.extend(frame(CONTINUATION, 0, 1, &field.repeat(100)));
    }
    list.extend(frame(CONTINUATION, END_HEADERS, 1, &field));
    list.extend(frame(frames::GOAWAY, 0, 0, &[0; 8]));
    let answer = exchange(stage.shop.straight("rpc", "h2").await, &list).await;
    assert!(!answer.is_empty(), "it is told");
    let grown = stage.grown_since(before);
    assert!(grown < 8 * MIB, "{grown} bytes more");
    stage.others_are_served().await;
    stage.shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_flood_of_http_2_frames_ends_its_connection_alone() {
    let mut stage = Stage::start().await;
    let head = frames::get("/", "api.shop");
    let resets = |stream: u32| {
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        [headers, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let field = frames::block(&[("x-more", &[b'a'; 120])]).repeat(100);
    let continuations = |stream: u32| match stream {
        1 => frame(HEADERS, END_STREAM, 1, &head),
        _ => frame(CONTINUATION, 0, 1, &field),
    };
    let empty_continuations = |stream: u32| match stream {
        1 => frame(HEADERS, END_STREAM, 1, &head),
        _ => frame(CONTINUATION, 0, 1, b""),
    };
    // DATA where no stream was opened, over and over.
    let strays = |stream: u32| frame(frames::DATA, 0, stream, b"stray");
    let floods: [(&str, &Flood<'_>); 4] = [
        ("rapid reset", &resets),
        ("CONTINUATION without an end", &continuations),
        ("empty CONTINUATION without an end", &empty_continuations),
        ("DATA on idle streams", &strays),
    ];
    for (name, flood) in floods {
        let ways: [Box<dyn Io>; 2] = [
            Box::new(stage.shop.straight("rpc", "h2").await),
            Box::new(stage.shop.through("rpc").await),
        ];
        for stream in ways {
            let before = stage.resident();
            let (answer, sent) = tokio::time::timeout(LIMIT, pour(stream, flood))
                .await
                .unwrap_or_else(|_| panic!("{name}: its connection goes on"));
            let goodbye = frames::read(&answer)
                .iter()
                .any(|(kind, _)| *kind == frames::GOAWAY);
            let grown = stage.grown_since(before);
            println!("{name}: ended after {sent} bytes, told: {goodbye}, {grown} bytes grown");
            assert!(grown < 8 * MIB, "{name}: {grown} bytes more");
            stage.others_are_served().await;
        }
    }
    stage.shop.assert_well().await;
}

/// The frames that a flood brings for a stream of this number.
type Flood<'f> = dyn Fn(u32) -> Vec<u8> + Sync + 'f;

/// Writes until the other side ends the connection; what it said, and how many bytes went out.
async fn pour(stream: Box<dyn Io>, flood: &Flood<'_>) -> (Vec<u8>, usize) {
    let (mut read, mut write) = tokio::io::split(stream);
    let pouring = async {
        let mut sent = 0;
        let mut bytes = frames::opening();
        for stream in (1..).step_by(2) {
            bytes.extend(flood(stream));
            if bytes.len() > 16 * 1024 {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
                sent += bytes.len();
                bytes.clear();
            }
        }
        sent
    };
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            // The beginning and the end are what matters.
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    let (sent, ()) = tokio::join!(pouring, reading);
    (answer, sent)
}

struct Stage {
    shop: Shop,
    _app: App,
}

impl Stage {
    async fn start() -> Self {
        let app = App::http().await;
        let ports = [("http", "http", app.address), ("rpc", "http2", app.address)];
        let rules = rule("http", "http", "{paths: [/**]}") + &rule("rpc", "rpc", "{paths: [/**]}");
        let keys = json!({"limits": {"headSeconds": HEAD_LIMIT.as_secs()}});
        let stage = Self {
            shop: Shop::start_with(&ports, &rules, keys).await,
            _app: app,
        };
        // What the first requests bring in stays.
        for _ in 0..10 {
            stage.others_are_served().await;
        }
        stage
    }

    async fn others_are_served(&self) {
        let own = self.shop.web.upstream(&target("http"));
        for _ in 0..5 {
            let answer = request(own, "GET", "/", &[("Host", "api.shop")], b"").await;
            assert_eq!(answer.expect("an answer").status, 200);
        }
    }

    /// Of both sidecars together.
    fn resident(&self) -> u64 {
        resident(&self.shop.api) + resident(&self.shop.web)
    }

    fn grown_since(&self, before: u64) -> u64 {
        self.resident().saturating_sub(before)
    }
}

const HEAD_LIMIT: Duration = Duration::from_secs(3);
const MIB: u64 = 1024 * 1024;
