//! A reader that is slower than its sender: the sender is slowed down, and the sidecars hold next to nothing.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tcp::{receive, send_noise};
use crate::rows_data_path::apps::{App, whole};
use crate::rows_data_path::open::http2;
use crate::rows_data_path::shop::{LIMIT, Shop, read_head, resident, rule};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_bytes_or_http_1_makes_no_sidecar_grow() {
    let raw = App::each(|mut stream| async move {
        let _ = stream.read_u8().await;
        send_noise_to(stream).await;
    })
    .await;
    let http = App::each(|mut stream| async move {
        if read_head(&mut stream).await.is_ok() {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            send_noise_to(stream).await;
        }
    })
    .await;
    let ports = [("http", "http", http.address), ("raw", "tcp", raw.address)];
    let shop = Shop::start(
        &ports,
        &(rule("http", "http", "") + &rule("raw", "raw", "")),
    )
    .await;
    for port in ["raw", "http"] {
        let before = resident(&shop.api) + resident(&shop.web);
        let mut stream = shop.through(port).await;
        let request: &[u8] = match port {
            "http" => b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n",
            // An application that ends while it has unread bytes resets its connection.
            _ => b"g",
        };
        stream.write_all(request).await.expect("it is read");
        if port == "http" {
            read_head(&mut stream).await.expect("an answer");
        }
        let mut first = vec![0; 64 * 1024];
        stream.read_exact(&mut first).await.expect("the beginning");
        let grown = most_grown(&shop, before).await;
        assert!(grown < 8 << 20, "{port}: {grown} bytes more");
        let all = tokio::time::timeout(4 * LIMIT, receive(&mut stream)).await;
        let (_, rest) = all.expect("in time");
        assert_eq!(first.len() + rest, SIZE, "{port}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_one_http_2_stream_makes_no_sidecar_grow_and_stops_no_other_stream() {
    let app = App::http().await;
    let ports = [("rpc", "http2", app.address)];
    let shop = Shop::start(&ports, &rule("rpc", "rpc", "")).await;
    let mut sender = http2(shop.through("rpc").await).await.expect("HTTP/2");
    let before = resident(&shop.api) + resident(&shop.web);
    let get = |path: &str| {
        let request = Request::get(format!("http://api.shop{path}"));
        request.body(whole("")).expect("a request")
    };
    let mut large = sender.send_request(get("/large")).await.expect("an answer");
    let first = large.frame().await.expect("a frame").expect("data");
    let mut total = first.into_data().expect("data").len();
    let grown = most_grown(&shop, before).await;
    assert!(grown < 8 << 20, "{grown} bytes more");
    let small = sender.send_request(get("/small")).await.expect("an answer");
    let small = small.collect().await.expect("its content").to_bytes();
    assert_eq!(&small[..], b"ok");
    while let Some(frame) = large.frame().await {
        total += frame.expect("data").into_data().expect("data").len();
    }
    assert_eq!(total, SIZE);
}

/// What both sidecars grow by while nothing is read, once the senders are at a stand.
async fn most_grown(shop: &Shop, before: u64) -> u64 {
    let mut grown = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = resident(&shop.api) + resident(&shop.web);
        grown = grown.max(now.saturating_sub(before));
    }
    grown
}

async fn send_noise_to(mut stream: tokio::net::TcpStream) {
    send_noise(&mut stream, SIZE).await;
}

const SIZE: usize = 64 << 20;
