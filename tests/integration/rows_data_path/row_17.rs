//! Row 17: whoever was allowed a request asks for more with it: an upgrade, a tunnel, another protocol.

use std::time::Duration;

use http::{Method, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use weft_tests::{eventually, frames};

use super::apps::{App, whole};
use super::open::{Io, Kind, http2};
use super::shop::{Shop, exchange, read_head, read_until, rule};

#[tokio::test(flavor = "multi_thread")]
async fn row_17_an_upgrade_needs_a_rule_that_names_it_and_h2c_is_always_removed() {
    let app = App::says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let ports = [("http", "http", app.address), ("any", "http", app.address)];
    let rules = rule("plain", "http", "{paths: [/plain]}")
        + &rule(
            "socket",
            "http",
            "{paths: [/socket], upgrades: [websocket]}",
        );
    // Where there are no HTTP conditions every upgrade passes, but for the one that would end HTTP/1.1 itself.
    let rules = rules + &rule("any", "any", "");
    let mut shop = Shop::start(&ports, &rules).await;
    let cases = [
        ("/plain", "Connection: upgrade\r\nUpgrade: websocket", 403),
        ("/socket", "Connection: upgrade\r\nUpgrade: other", 403),
        (
            "/socket",
            "Connection: upgrade\r\nUpgrade: websocket, other",
            403,
        ),
        (
            "/socket",
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: other",
            403,
        ),
        ("/socket", "Connection: upgrade\r\nUpgrade: TLS/1.3", 403),
        (
            "/plain",
            "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
            200,
        ),
        (
            "/plain",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABk",
            200,
        ),
        ("/plain", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk", 200),
        ("/plain", "Upgrade: websocket", 200),
        ("/socket", "Connection: upgrade\r\nUpgrade: h2c", 200),
        (
            "/socket",
            "Connection: upgrade\r\nUpgrade: h2c, websocket",
            200,
        ),
    ];
    for stream in both(&shop, "any").await {
        let headers = "Connection: upgrade, http2-settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk";
        let request = format!("GET / HTTP/1.1\r\nHost: api.shop\r\n{headers}\r\n\r\n");
        exchange(stream, request.as_bytes()).await;
    }
    let heard = String::from_utf8(app.heard()).expect("text").to_lowercase();
    assert!(
        heard.contains("get / ") && !heard.contains("h2c"),
        "{heard}"
    );
    for (path, headers, status) in cases {
        let request = format!("GET {path} HTTP/1.1\r\nHost: api.shop\r\n{headers}\r\n\r\n");
        for mut stream in both(&shop, "http").await {
            stream
                .write_all(request.as_bytes())
                .await
                .expect("it is read");
            let head = read_head(&mut stream).await.expect(&request);
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}")),
                "{request}{head}"
            );
            assert!(!head.to_lowercase().contains("upgrade:"), "{request}{head}");
        }
    }
    let heard = String::from_utf8(app.heard()).expect("text").to_lowercase();
    for word in ["h2c", "http2-settings", "other", "tls/1.3"] {
        assert!(!heard.contains(word), "{word} reached the app: {heard}");
    }
    // Only where it was asked for alone, or beside h2c, under the rule that names it: over both ways.
    assert_eq!(heard.matches("upgrade: websocket").count(), 2, "{heard}");
    shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_what_follows_an_upgrade_that_the_backend_did_not_take_is_judged_as_http() {
    let app = App::says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let ports = [("http", "http", app.address)];
    let rules = rule(
        "socket",
        "http",
        "{paths: [/socket], upgrades: [websocket]}",
    );
    let mut shop = Shop::start(&ports, &rules).await;
    let upgrade = "GET /socket HTTP/1.1\r\nHost: api.shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let followed_by: [(&[u8], &[u8]); 2] = [
        (
            b"GET /hidden HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 403",
        ),
        (b"\x81\x06hidden\r\n\r\n", b"HTTP/1.1 400"),
    ];
    for (bytes, second) in followed_by {
        for stream in both(&shop, "http").await {
            let answer = exchange(stream, &[upgrade.as_bytes(), bytes].concat()).await;
            let name = format!("{}: {}", bytes.escape_ascii(), answer.escape_ascii());
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{name}");
            assert!(contains(&answer, second), "{name}");
        }
    }
    let heard = app.heard();
    assert!(!contains(&heard, b"hidden"), "{}", heard.escape_ascii());
    assert!(contains(&heard, b"GET /socket"));
    shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_backend_that_switches_protocols_unasked_opens_no_tunnel() {
    let app = App::says(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nleak",
    )
    .await;
    let ports = [("http", "http", app.address)];
    let mut shop = Shop::start(&ports, &rule("plain", "http", "{paths: [/plain]}")).await;
    for stream in both(&shop, "http").await {
        let request = b"GET /plain HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\nhidden";
        let answer = exchange(stream, request).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 502"),
            "{}",
            answer.escape_ascii()
        );
        assert!(!contains(&answer, b"leak"));
    }
    assert!(!contains(&app.heard(), b"hidden"));
    shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_connect_is_refused_under_http_conditions_and_opens_a_tunnel_under_a_rule_without() {
    let (http, echo) = (App::http().await, App::echo().await);
    let ports = [
        ("plain", "http", http.address),
        ("http", "http", http.address),
        ("raw", "tcp", echo.address),
    ];
    let anything = "{paths: [/**], upgrades: [websocket]}";
    let rules =
        rule("plain", "plain", "") + &rule("http", "http", anything) + &rule("raw", "raw", "");
    let mut shop = Shop::start(&ports, &rules).await;
    let mut open = Vec::new();
    for stream in both(&shop, "plain").await {
        open.push(Kind::Connect.open(stream).await.expect("a tunnel"));
    }
    for mut stream in both(&shop, "http").await {
        let connect = b"CONNECT api.shop:81 HTTP/1.1\r\nHost: api.shop:81\r\n\r\n";
        stream.write_all(connect).await.expect("it is read");
        let head = read_head(&mut stream).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert!(head.contains("x-weft-decision"), "{head}");
    }
    // The proxy opens tunnels of bytes alone.
    for (port, status) in [(82, "200"), (80, "403"), (81, "403"), (99, "403")] {
        let mut stream = TcpStream::connect(shop.web.proxy)
            .await
            .expect("it accepts");
        let connect =
            format!("CONNECT api.shop:{port} HTTP/1.1\r\nHost: api.shop:{port}\r\n\r\nping");
        stream
            .write_all(connect.as_bytes())
            .await
            .expect("it is read");
        let head = read_head(&mut stream).await.expect("an answer");
        assert_eq!(head.get(9..12), Some(status), "{port}: {head}");
        if status == "200" {
            read_until(&mut stream, b"ping").await.expect("an echo");
        }
    }
    assert!(open.iter().all(|open| !open.has_ended()));
    shop.mesh
        .apply(&rule("plain", "plain", "{paths: [/**]}"))
        .await;
    eventually(
        "tunnels end when their rule gets HTTP conditions",
        || async {
            let ended = open.iter().all(|open| open.has_ended());
            ended.then_some(()).ok_or(())
        },
    )
    .await;
    shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_over_http_2_no_connect_of_either_kind_opens_a_tunnel() {
    let app = App::http().await;
    let ports = [
        ("plain", "http2", app.address),
        ("http", "http2", app.address),
        ("older", "http", app.address),
    ];
    let rules = rule("plain", "plain", "")
        + &rule("older", "older", "")
        + &rule("http", "http", "{paths: [/**]}");
    let mut shop = Shop::start(&ports, &rules).await;
    for (port, status) in [("plain", 501), ("http", 403), ("older", 501)] {
        for stream in both_as(&shop, port, "h2").await {
            let mut sender = http2(stream).await.expect("HTTP/2");
            let connect = Request::builder()
                .method(Method::CONNECT)
                .uri("api.shop:80")
                .body(whole(""))
                .expect("a request");
            let answer = sender.send_request(connect).await.expect("an answer");
            assert_eq!(answer.status(), status, "{port}");
        }
        // Nobody announced that it understands RFC 8441, so that a stream that begins so is an error.
        for stream in both_as(&shop, port, "h2").await {
            let extended = frames::block(&[
                (":method", b"CONNECT"),
                (":protocol", b"websocket"),
                (":scheme", b"http"),
                (":path", b"/socket"),
                (":authority", b"api.shop"),
            ]);
            let headers = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &extended);
            let data = frames::frame(frames::DATA, 0, 1, b"hidden");
            let sent = [frames::opening(), headers, data].concat();
            let answer = until_reset(stream, &sent).await;
            let kinds: Vec<u8> = answer.iter().map(|(kind, _)| *kind).collect();
            assert!(!kinds.contains(&frames::HEADERS), "{port}: {kinds:?}");
        }
    }
    shop.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_tunnel_is_cut_when_its_rule_names_the_upgrade_no_more() {
    let app = App::http().await;
    let ports = [("http", "http", app.address)];
    let named = "{paths: [/**]}, {paths: [/socket], upgrades: [websocket]}";
    let mut shop = Shop::start(&ports, &rule("http", "http", named)).await;
    let mut open = Vec::new();
    let mut kept = Vec::new();
    for (tunnels, responses) in both(&shop, "http")
        .await
        .into_iter()
        .zip(both(&shop, "http").await)
    {
        open.push(Kind::WebSocket.open(tunnels).await.expect("a tunnel"));
        kept.push(
            Kind::Response("/stream")
                .open(responses)
                .await
                .expect("a response"),
        );
    }
    shop.mesh
        .apply(&rule("http", "http", "{paths: [/**]}"))
        .await;
    eventually("the tunnels end", || async {
        let ended = open.iter().all(|open| open.has_ended());
        ended.then_some(()).ok_or(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        kept.iter().all(|open| !open.has_ended()),
        "what is still allowed goes on"
    );
    shop.assert_well().await;
}

/// A connection straight to the server's side, and one through both.
async fn both(shop: &Shop, port: &str) -> [Box<dyn Io>; 2] {
    both_as(shop, port, "http/1.1").await
}

async fn both_as(shop: &Shop, port: &str, alpn: &str) -> [Box<dyn Io>; 2] {
    [
        Box::new(shop.straight(port, alpn).await),
        Box::new(shop.through(port).await),
    ]
}

/// The frames that come until a stream is reset or the connection ends.
async fn until_reset(mut stream: Box<dyn Io>, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    use tokio::io::AsyncReadExt as _;
    stream.write_all(bytes).await.expect("it is read");
    stream.flush().await.expect("it is read");
    let mut answer = Vec::new();
    let ended = [frames::RST_STREAM, frames::GOAWAY];
    tokio::time::timeout(super::shop::LIMIT, async {
        while !frames::read(&answer)
            .iter()
            .any(|(kind, _)| ended.contains(kind))
        {
            if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
                return;
            }
        }
    })
    .await
    .expect("it is reset");
    frames::read(&answer)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}
