//! Row 12: plaintext, strangers and an older TLS at the inbound side of a strict workload.

use tokio::net::TcpStream;
use weft_tests::{eventually, peer};

use super::apps::App;
use super::shop::{Shop, exchange, metric, rule, server_name};

#[tokio::test(flavor = "multi_thread")]
async fn row_12_only_mutual_tls_1_3_reaches_a_strict_workload() {
    let (http, raw) = (App::says(ANSWER).await, App::says(b"pong").await);
    let ports = [("http", "http", http.address), ("raw", "tcp", raw.address)];
    // The rules are as open as rules can be: what is refused here is refused for want of an identity.
    let rules = rule("all-http", "http", "") + &rule("all-raw", "raw", "");
    let mut shop = Shop::start(&ports, &rules).await;
    let plain: [(&str, &[u8]); 5] = [
        (
            "HTTP/1.1",
            b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n",
        ),
        (
            "HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        ("bytes", b"\0\x01\x02ping ping ping"),
        (
            "a proxy's protocol",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: api.shop\r\n\r\n",
        ),
        ("TLS 1.2", &client_hello(server_name("http").as_bytes())),
    ];
    for (count, (name, bytes)) in (1..).zip(plain) {
        let socket = TcpStream::connect(shop.api.inbound)
            .await
            .expect("it accepts");
        let answer = exchange(socket, bytes).await;
        // Nothing, or an alert of TLS: never a word of an application.
        let is_alert = answer.len() == 7 && answer[0] == 0x15;
        assert!(
            answer.is_empty() || is_alert,
            "{name}: {}",
            answer.escape_ascii()
        );
        if name == "TLS 1.2" {
            assert_eq!(answer.last(), Some(&PROTOCOL_VERSION), "{name}");
        }
        counted(&shop, name, count).await;
    }
    for (count, (port, alpn)) in
        (6..).zip([("http", "http/1.1"), ("http", "h2"), ("raw", "weft-tcp")])
    {
        // In TLS 1.3 the client is done before it is refused: what counts is that it gets no answer.
        let name = format!("no certificate, {alpn}");
        if let Ok(stream) = peer::connect(shop.api.inbound, None, &server_name(port), alpn).await {
            let request = b"GET / HTTP/1.1\r\nHost: api.shop\r\n\r\n";
            let answer = exchange(stream, request).await;
            assert!(answer.is_empty(), "{name}: {}", answer.escape_ascii());
        }
        counted(&shop, &name, count).await;
    }
    for app in [&http, &raw] {
        assert_eq!(app.heard(), b"");
    }

    let request = b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n";
    let answer = exchange(shop.straight("http", "http/1.1").await, request).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "with an SVID it is served"
    );
    assert!(http.heard().starts_with(b"GET / HTTP/1.1\r\n"));
    shop.assert_well().await;
}

/// Each stranger is one failed handshake and one refusal for want of an identity.
async fn counted(shop: &Shop, name: &str, count: u64) {
    eventually(name, || async {
        let failures = metric(&shop.api, "weft_sidecar_handshake_failures_total").await;
        let refusals = metric(&shop.api, UNAUTHENTICATED).await;
        if (failures, refusals) == (count, count) {
            Ok(())
        } else {
            Err((failures, refusals))
        }
    })
    .await;
}

/// A ClientHello as a client of 2016 sends it: nothing in it speaks of TLS 1.3.
pub(super) fn client_hello(server_name: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("it is short");
        [&length.to_be_bytes()[..], bytes].concat()
    };
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &sized(body)].concat();
    let name = [&[0][..], &sized(server_name)].concat();
    let extensions = [
        extension(0, &sized(&name)),
        // supported_groups: x25519, secp256r1; signature_algorithms: ECDSA and RSA-PSS with SHA-256.
        extension(10, &sized(&[0, 0x1d, 0, 0x17])),
        extension(13, &sized(&[4, 3, 8, 4])),
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(sized(&[0xc0, 0x2b, 0xc0, 0x2c]));
    body.extend([1, 0]);
    body.extend(sized(&extensions));
    let mut message = vec![1, 0];
    message.extend(sized(&body));
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UNAUTHENTICATED: &str = "weft_sidecar_refusals_total{reason=\"unauthenticated\"}";
/// RFC 8446 §6.2.
const PROTOCOL_VERSION: u8 = 70;
