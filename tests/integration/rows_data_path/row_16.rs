//! Row 16: what no parser expects, at every listener of a sidecar: that connection ends, and nothing else does.

use tokio::net::TcpStream;
use weft_tests::{frames, request};

use super::apps::App;
use super::open::Io;
use super::shop::{Shop, exchange, rule, target};
use crate::rows_trust::row_16::garbage;

#[tokio::test(flavor = "multi_thread")]
async fn row_16_garbage_at_any_listener_of_a_sidecar_ends_that_connection_alone() {
    let mut stage = Stage::start().await;
    let thrown = garbage().into_iter().map(|bytes| {
        let stage = &stage;
        async move {
            for (name, entrance) in ENTRANCES {
                let stream = stage.enter(entrance).await;
                let ended = tokio::time::timeout(super::shop::LIMIT, half_closed(stream, &bytes));
                let ended = ended.await;
                assert!(ended.is_ok(), "{name} keeps {}", bytes.escape_ascii());
            }
        }
    });
    futures_util::future::join_all(thrown).await;
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_a_malformed_message_is_answered_with_a_clear_error() {
    let mut stage = Stage::start().await;
    let many_headers = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    let http1: [(&[u8], &str); 12] = [
        (b"\r\n\r\n", "400"),
        (b"GET /\r\n\r\n", "400"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "400"),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "400",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "400",
        ),
        (many_headers.as_bytes(), "400"),
    ];
    for (bytes, status) in http1 {
        for (name, entrance) in [
            ("straight", Entrance::Straight("http", "http/1.1")),
            ("upstream", Entrance::Upstream("http")),
            ("proxy", Entrance::Proxy),
        ] {
            // What cannot be HTTP is no HTTP connection: it may end without an answer in HTTP.
            let is_plain = entrance != Entrance::Straight("http", "http/1.1");
            let may_be_silent = is_plain && !bytes[0].is_ascii_alphabetic();
            let answer = exchange(stage.enter(entrance).await, bytes).await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let what = format!("{name} {}: {answer}", bytes.escape_ascii());
            if may_be_silent && answer.is_empty() {
                continue;
            }
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}");
            assert!(
                answer.to_lowercase().contains("connection: close"),
                "{what}"
            );
            assert!(answer.contains("decision"), "{what}");
        }
    }
    let goodbyes: [(&str, Vec<u8>); 7] = [
        (
            "DATA on stream 0",
            frames::frame(frames::DATA, 1, 0, b"data"),
        ),
        (
            "broken HPACK",
            frames::frame(frames::HEADERS, 4, 1, &[0xff; 4]),
        ),
        (
            "CONTINUATION out of nowhere",
            frames::frame(frames::CONTINUATION, 4, 1, &[0x82]),
        ),
        (
            "SETTINGS of 5 bytes",
            frames::frame(frames::SETTINGS, 0, 0, &[0; 5]),
        ),
        (
            "HEADERS on an even stream",
            frames::frame(frames::HEADERS, 5, 2, &frames::get("/", "a")),
        ),
        ("a window of 0", frames::frame(8, 0, 0, &[0; 4])),
        (
            "a frame of 16 MiB",
            vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        ),
    ];
    for (name, frame) in goodbyes {
        let bytes = [frames::opening(), frame].concat();
        for entrance in [Entrance::Straight("rpc", "h2"), Entrance::Upstream("rpc")] {
            let answer = exchange(stage.enter(entrance).await, &bytes).await;
            let told = frames::read(&answer);
            let goodbye = told.iter().find(|(kind, _)| *kind == frames::GOAWAY);
            let code = goodbye.and_then(|(_, payload)| payload.get(4..8));
            // RFC 9113 §7: an error has a number, and 0 is none.
            assert!(code.is_some_and(|code| code != [0; 4]), "{name}: {told:?}");
        }
    }
    // An alert of TLS says what was wrong (RFC 8446 §6.2): decode_error, unexpected_message.
    for (bytes, alert) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], 50),
        (&[0x16, 3, 1, 0, 4, 99, 0, 0, 0], 10),
    ] {
        let answer = exchange(stage.enter(Entrance::Inbound).await, bytes).await;
        let told = (answer.first(), answer.last());
        assert_eq!(
            told,
            (Some(&0x15), Some(&alert)),
            "{}",
            bytes.escape_ascii()
        );
    }
    stage.assert_well().await;
}

/// A way into a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    /// Before any handshake.
    Inbound,
    /// Behind a good one, to this port with this protocol.
    Straight(&'static str, &'static str),
    Upstream(&'static str),
    Proxy,
    Admin,
}

const ENTRANCES: [(&str, Entrance); 12] = [
    ("inbound", Entrance::Inbound),
    ("http/1.1", Entrance::Straight("http", "http/1.1")),
    ("h2", Entrance::Straight("rpc", "h2")),
    ("h2 at an HTTP/1.1 port", Entrance::Straight("http", "h2")),
    (
        "http/1.1 at an h2 port",
        Entrance::Straight("rpc", "http/1.1"),
    ),
    ("weft-tcp", Entrance::Straight("raw", "weft-tcp")),
    (
        "weft-tcp at an HTTP port",
        Entrance::Straight("http", "weft-tcp"),
    ),
    ("upstream http", Entrance::Upstream("http")),
    ("upstream h2", Entrance::Upstream("rpc")),
    ("upstream tcp", Entrance::Upstream("raw")),
    ("proxy", Entrance::Proxy),
    ("admin", Entrance::Admin),
];

struct Stage {
    shop: Shop,
    _apps: [App; 2],
}

impl Stage {
    async fn start() -> Self {
        let apps = [App::http().await, App::echo().await];
        let ports = [
            ("http", "http", apps[0].address),
            ("rpc", "http2", apps[0].address),
            ("raw", "tcp", apps[1].address),
        ];
        let rules = rule("http", "http", "{paths: [/**]}")
            + &rule("rpc", "rpc", "{paths: [/**]}")
            + &rule("raw", "raw", "");
        Self {
            shop: Shop::start(&ports, &rules).await,
            _apps: apps,
        }
    }

    async fn enter(&self, entrance: Entrance) -> Box<dyn Io> {
        let address = match entrance {
            Entrance::Straight(port, alpn) => {
                return Box::new(self.shop.straight(port, alpn).await);
            }
            Entrance::Inbound => self.shop.api.inbound,
            Entrance::Upstream(port) => self.shop.web.upstream(&target(port)),
            Entrance::Proxy => self.shop.web.proxy,
            Entrance::Admin => self.shop.api.admin,
        };
        Box::new(TcpStream::connect(address).await.expect("it accepts"))
    }

    /// Others are served, by each way.
    async fn assert_well(&mut self) {
        let own = self.shop.web.upstream(&target("http"));
        let answer = request(own, "GET", "/", &[("Host", "api.shop")], b"").await;
        assert_eq!(answer.expect("an answer").status, 200);
        let through = super::open::Kind::Tunnel.open(self.shop.through("raw").await);
        through.await.expect("an echo");
        let call = super::open::http2(self.shop.through("rpc").await).await;
        let request = http::Request::get("http://api.shop/");
        let request = request.body(super::apps::whole("")).expect("a request");
        let answer = call.expect("HTTP/2").send_request(request).await;
        assert_eq!(answer.expect("an answer").status(), 200);
        self.shop.assert_well().await;
    }
}

/// Sends, says that nothing more comes, and waits for the end.
async fn half_closed(mut stream: Box<dyn Io>, bytes: &[u8]) {
    use tokio::io::AsyncWriteExt as _;
    // It may hang up in the middle.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    super::shop::read_rest(&mut stream, &mut Vec::new()).await;
}
