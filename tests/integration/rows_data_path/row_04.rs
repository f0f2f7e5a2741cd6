//! Row 4: a client that sends its own `x-forwarded-client-cert`: the application sees exactly one, and it is the verified one.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use weft_tests::backend::Seen;
use weft_tests::documents::allow;

use super::attack::{Http2, Shop, WAYS, status};

/// web may call every port of api.
fn rules() -> String {
    allow("http", "shop/api:http", "shop/web") + &allow("h2", "shop/api:h2", "shop/web")
}

/// What a client would like to be taken for.
const EVIL: &str = "By=evil;URI=spiffe://test.example/ns/shop/sa/evil";

#[tokio::test(flavor = "multi_thread")]
async fn row_04_no_client_certificate_header_of_an_http1_client_reaches_the_backend() {
    let shop = Shop::open(&rules()).await;
    let cases = [
        (
            "as it is written",
            format!("x-forwarded-client-cert: {EVIL}"),
        ),
        ("mixed case", format!("X-Forwarded-CLIENT-cert: {EVIL}")),
        ("underscores", format!("x_forwarded_client_cert: {EVIL}")),
        (
            "both, mixed case",
            format!("X_Forwarded-Client_CERT: {EVIL}"),
        ),
        (
            "twice",
            format!("x-forwarded-client-cert: {EVIL}\r\nx-forwarded-client-cert: {EVIL}"),
        ),
        (
            "twice, spelt differently",
            format!("X-Forwarded-Client-Cert: {EVIL}\r\nx_forwarded_client_cert: {EVIL}"),
        ),
        ("a list", format!("x-forwarded-client-cert: {EVIL},{EVIL}")),
        (
            "nominated",
            format!("Connection: x-forwarded-client-cert\r\nx-forwarded-client-cert: {EVIL}"),
        ),
        (
            "nominated in mixed case",
            format!(
                "Connection: X-Forwarded-Client-Cert, close\r\nx-forwarded-client-cert: {EVIL}"
            ),
        ),
        (
            "nominated with underscores",
            format!("Connection: x_forwarded_client_cert\r\nx_forwarded_client_cert: {EVIL}"),
        ),
        (
            "nominated, so that the true one be lost",
            "Connection: x-forwarded-client-cert".to_owned(),
        ),
        (
            "nominated twice",
            "Connection: close\r\nConnection: x-forwarded-client-cert".to_owned(),
        ),
        ("not at all", "X-Other: 1".to_owned()),
    ];
    for way in WAYS {
        for (what, lines) in &cases {
            let request = format!("GET / HTTP/1.1\r\nHost: api.shop\r\n{lines}\r\n{CLOSE}\r\n");
            let answer = shop.send(way, request.as_bytes()).await;
            assert_eq!(status(&answer), Some(200), "{what} {way:?}");
            let heard = shop.http.text();
            assert_eq!(
                lines_about_the_client(&heard),
                [verified(&shop)],
                "{what} {way:?}: {heard}"
            );
            assert!(!heard.contains("evil"), "{what} {way:?}: {heard}");
            shop.http.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_no_client_certificate_in_trailers_of_an_http1_client_reaches_the_backend() {
    let shop = Shop::open(&rules()).await;
    for way in WAYS {
        for name in SPELLINGS {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: api.shop\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, {name}\r\n{CLOSE}\r\n\
                 5\r\nhello\r\n0\r\nx-sum: 7\r\n{name}: {EVIL}\r\n{name}: {EVIL}\r\n\r\n"
            );
            let answer = shop.send(way, request.as_bytes()).await;
            assert_eq!(status(&answer), Some(200), "{name} {way:?}");
            let heard = shop.http.text();
            assert!(
                heard.contains("hello") && heard.contains("x-sum: 7"),
                "{name} {way:?}: {heard}"
            );
            assert_eq!(
                lines_about_the_client(&heard),
                [verified(&shop)],
                "{name} {way:?}: {heard}"
            );
            assert!(!heard.contains("evil"), "{name} {way:?}: {heard}");
            shop.http.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_no_client_certificate_of_an_http2_client_reaches_the_backend() {
    let shop = Shop::open(&rules()).await;
    for way in WAYS {
        let mut sender = shop.http2(way, "h2").await;
        for name in SPELLINGS {
            let name: HeaderName = name.parse().expect("a header's name");
            for (headers, trailers) in [(1, 0), (2, 0), (0, 1), (0, 2), (2, 2)] {
                post(&mut sender, times(&name, headers), times(&name, trailers)).await;
                let seen = shop.h2.last();
                assert_only_verified(&shop, &seen);
                let trailers = seen.trailers.unwrap_or_default();
                assert_eq!(
                    trailers.get("x-sum").map(HeaderValue::as_bytes),
                    Some(&b"7"[..])
                );
                assert_eq!(trailers.len(), 1, "{trailers:?}");
            }
        }
        // HTTP/2 that becomes HTTP/1.1 on its way.
        let mut sender = shop.http2(way, "http").await;
        for name in SPELLINGS {
            let name: HeaderName = name.parse().expect("a header's name");
            post(&mut sender, times(&name, 2), times(&name, 2)).await;
            let heard = shop.http.text();
            assert!(heard.contains("hello"), "{heard}");
            assert_eq!(
                lines_about_the_client(&heard),
                [verified(&shop)],
                "{name} {way:?}: {heard}"
            );
            assert!(!heard.contains("evil"), "{name} {way:?}: {heard}");
            shop.http.clear();
        }
    }
}

/// An HTTP/2 request with content and, always, one harmless trailer.
async fn post(sender: &mut Http2, headers: HeaderMap, mut trailers: HeaderMap) {
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    let body = Full::new(Bytes::from_static(b"hello"));
    let body = body
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .boxed();
    let mut request = Request::post("http://api.shop/")
        .body(body)
        .expect("a request");
    *request.headers_mut() = headers;
    let announced = HeaderValue::from_static("x-sum");
    request.headers_mut().insert("trailer", announced);
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

fn times(name: &HeaderName, count: usize) -> HeaderMap {
    let value = HeaderValue::from_static(EVIL);
    (0..count).map(|_| (name.clone(), value.clone())).fold(
        HeaderMap::new(),
        |mut all, (name, value)| {
            all.append(name, value);
            all
        },
    )
}

#[track_caller]
fn assert_only_verified(shop: &Shop, seen: &Seen) {
    let all: Vec<_> = seen
        .headers
        .iter()
        .filter(|(name, _)| is_about_the_client(name.as_str()))
        .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    assert_eq!(all, [verified(shop)]);
    assert_eq!(seen.body, b"hello");
}

/// What every lenient reader could take for the header, in head and trailers.
fn lines_about_the_client(heard: &str) -> Vec<String> {
    let lines = heard.split("\r\n").filter_map(|line| line.split_once(':'));
    lines
        .filter(|(name, _)| is_about_the_client(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

fn is_about_the_client(name: &str) -> bool {
    name.to_ascii_lowercase().replace('_', "-").trim() == "x-forwarded-client-cert"
}

/// What the API's sidecar must say of web.
fn verified(shop: &Shop) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &shop.svid.chain[0]);
    let hash: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "By=spiffe://test.example/ns/shop/sa/api;Hash={hash};URI=spiffe://test.example/ns/shop/sa/web"
    )
}

const CLOSE: &str = "Connection: close\r\n";
const SPELLINGS: [&str; 3] = [
    "x-forwarded-client-cert",
    "x_forwarded_client_cert",
    "x-forwarded_client-cert",
];
