//! The same over HTTP/2, where the application speaks HTTP/1.1: nothing of a request may become framing on the way.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_tests::documents::allow;

use super::PREFACE;
use crate::rows_data_path::attack::{HTTP, Shop, WAYS, Way};

#[tokio::test(flavor = "multi_thread")]
async fn row_05_http2_carries_no_framing_of_http1_to_the_backend() {
    let shop = Shop::open(&allow("http", "shop/api:http", "shop/web")).await;
    for way in WAYS {
        for fields in FIELDS {
            let accepted = ask_raw_http2(&shop, way, "/a", fields).await;
            let heard = shop.http.text();
            assert!(!accepted, "{fields:?} {way:?}: {heard}");
            assert_eq!(shop.http.requests(), 0, "{fields:?} {way:?}: {heard}");
            assert!(!heard.contains("smuggled"), "{fields:?} {way:?}: {heard}");
            shop.http.clear();
        }
        for path in PATHS {
            let accepted = ask_raw_http2(&shop, way, path, &[]).await;
            let heard = shop.http.text();
            assert!(!accepted && heard.is_empty(), "{path:?} {way:?}: {heard}");
        }
        for fields in [&[("x-a", "b")][..], &[("content-length", "3")]] {
            assert!(
                ask_raw_http2(&shop, way, "/a", fields).await,
                "{fields:?} {way:?}"
            );
            assert_eq!(shop.http.requests(), 1, "{fields:?} {way:?}");
            shop.http.clear();
        }
    }
}

/// What an HTTP/2 request with three bytes of content must not say.
const FIELDS: &[&[(&str, &str)]] = &[
    &[("transfer-encoding", "chunked")],
    &[("connection", "x-a"), ("x-a", "b")],
    &[("upgrade", "h2c")],
    &[("keep-alive", "timeout=5")],
    &[("te", "gzip")],
    &[("content-length", "3"), ("content-length", "3")],
    &[("content-length", "3"), ("content-length", "0")],
    &[("content-length", "3, 3")],
    &[("content-length", "+3")],
    &[("content-length", "0")],
    &[("content-length", "7")],
    &[("content_length", "3")],
    &[("transfer_encoding", "chunked")],
    &[("host", "admin.shop")],
    &[("host", "api.shop"), ("host", "api.shop")],
    &[("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: api.shop")],
    &[("x-a", "b\nc")],
    &[("x-a: b\r\nx-b", "c")],
    &[("X-A", "b")],
    &[("x a", "b")],
    &[(":path", "/smuggled")],
    &[("x-a", "b"), (":authority", "admin.shop")],
];

/// What is no path (RFC 9113 §8.3.1), and would be made one on the way.
const PATHS: &[&str] = &[
    "",
    "a",
    "api.shop",
    "?a",
    "*",
    "http://api.shop/a",
    "/a b",
    "/a\r\nx-a: b",
];

async fn ask_raw_http2(shop: &Shop, way: Way, path: &str, fields: &[(&str, &str)]) -> bool {
    match way {
        Way::OwnSidecar => {
            let upstream = TcpStream::connect(shop.web.upstream("shop/api:http")).await;
            raw_http2(upstream.expect("a listener"), path, fields).await
        }
        Way::Straight => {
            let stream = shop.svid.connect(shop.api.inbound, HTTP, "h2").await;
            raw_http2(stream.expect("a good handshake"), path, fields).await
        }
    }
}

/// Sends one request frame by frame, so that no library corrects it; whether it is answered with 200.
async fn raw_http2(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    fields: &[(&str, &str)],
) -> bool {
    let pseudo = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "api.shop"),
        (":path", path),
    ];
    // Literals without indexing and without Huffman's code (RFC 7541 §6.2.2).
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let block: Vec<u8> = pseudo
        .iter()
        .chain(fields)
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect();
    let request = [PREFACE, &frame(1, 4, &block), &frame(0, 1, b"abc")].concat();
    let _ = stream.write_all(&request).await;
    let _ = stream.flush().await;
    let answered = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).await.ok()?;
            match head[3] {
                // HEADERS: 200 has an entry of its own in the static table.
                1 => return Some(payload.first() == Some(&0x88)),
                // RST_STREAM and GOAWAY.
                3 | 7 => return Some(false),
                _ => {}
            }
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    answered.expect("an answer in time").unwrap_or(false)
}

/// A frame on stream 1.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, 1], payload].concat()
}
