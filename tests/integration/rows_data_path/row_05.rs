//! Row 5: opaque bytes to dodge rules about requests, paths with two readings, and requests whose end two parsers would see at
//! two places. Everything is sent through the client's own sidecar and, past it, straight to the peer.

mod http2;

use tokio::net::TcpStream;
use weft_tests::documents::{allow, allow_http};

use super::attack::{H2, HTTP, RAW, Shop, WAYS, Way, exchange, get_http2, status};

/// What a parser that was fooled would take for the next request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn row_05_opaque_bytes_never_reach_a_port_that_is_declared_http() {
    let conditions = "{methods: [GET], paths: [\"/orders/**\"]}";
    let unconditional = allow("http", "shop/api:http", "shop/web")
        + &allow("h2", "shop/api:h2", "shop/web")
        + &allow("raw", "shop/api:raw", "shop/web");
    let conditional = allow_http("http", "shop/api:http", "shop/web", conditions)
        + &allow_http("h2", "shop/api:h2", "shop/web", conditions);
    let shop = Shop::open(&unconditional).await;
    let request = b"GET /orders/1 HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n";
    for rules in [&unconditional, &conditional] {
        shop.mesh.apply(rules).await;
        for (name, bytes) in [(HTTP, &request[..]), (HTTP, b"\0\x01opaque"), (H2, PREFACE)] {
            let stream = shop.svid.connect(shop.api.inbound, name, "weft-tcp").await;
            let answer = exchange(stream.expect("a good handshake"), bytes).await;
            assert_eq!(answer, b"", "{name} {rules}");
        }
        let upstream = TcpStream::connect(shop.web.upstream("shop/api:http")).await;
        let answer = exchange(upstream.expect("a listener"), b"\0\x01opaque").await;
        assert_eq!(answer, b"", "its own sidecar, {rules}");
        assert_eq!(
            (shop.http.text(), shop.h2.count()),
            (String::new(), 0),
            "{rules}"
        );
        let answer = shop.send(Way::Straight, request).await;
        assert_eq!(status(&answer), Some(200), "as a request");
        shop.http.clear();
    }
    // HTTP for a port of bytes is refused too: nobody would look into it.
    let probes = shop.raw.count();
    let stream = shop.svid.connect(shop.api.inbound, RAW, "http/1.1").await;
    assert_eq!(
        exchange(stream.expect("a good handshake"), request).await,
        b""
    );
    assert_eq!(shop.raw.count(), probes);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_path_with_two_readings_is_refused_where_a_rule_looks_at_paths_and_passes_where_none_does()
 {
    let anything = "{paths: [\"/**\"]}";
    let rules = allow_http("http", "shop/api:http", "shop/web", anything)
        + &allow_http("h2", "shop/api:h2", "shop/web", anything);
    let shop = Shop::open(&rules).await;
    for way in WAYS {
        let mut sender = shop.http2(way, "h2").await;
        for path in PATHS {
            let answer = shop.send(way, &get(path)).await;
            assert_eq!(status(&answer), Some(400), "{path} {way:?}");
            let uri = format!("http://api.shop{path}");
            assert_eq!(
                get_http2(&mut sender, &uri, None).await,
                400,
                "{path} {way:?}"
            );
        }
        assert_eq!(
            (shop.http.text(), shop.h2.count()),
            (String::new(), 0),
            "{way:?}"
        );
    }
    for path in ["/", "/a", "/a/b.c/..d/%20/~x;y=.?q=/../%2f"] {
        let answer = shop.send(Way::OwnSidecar, &get(path)).await;
        assert_eq!(status(&answer), Some(200), "{path}");
    }

    shop.mesh
        .apply(
            &(allow("http", "shop/api:http", "shop/web") + &allow("h2", "shop/api:h2", "shop/web")),
        )
        .await;
    for way in WAYS {
        let mut sender = shop.http2(way, "h2").await;
        for path in PATHS {
            shop.http.clear();
            let answer = shop.send(way, &get(path)).await;
            assert_eq!(status(&answer), Some(200), "{path} {way:?}");
            let line = format!("GET {path} HTTP/1.1\r\n");
            assert!(
                shop.http.text().starts_with(&line),
                "{path}: {}",
                shop.http.text()
            );
            let uri = format!("http://api.shop{path}");
            assert_eq!(
                get_http2(&mut sender, &uri, None).await,
                200,
                "{path} {way:?}"
            );
            assert_eq!(shop.h2.last().target, uri, "{way:?}");
        }
    }
}

/// None of them is in canonical form, though every one may stand in a request line.
const PATHS: [&str; 24] = [
    "/.",
    "/..",
    "/a/./b",
    "/a/../b",
    "/orders/..",
    "/a/..;x/b",
    "//",
    "//a",
    "/a//b",
    "/a//",
    "/%61",
    "/%2e%2e/b",
    "/a/%2E./b",
    "/%7Ea",
    "/a%2Fb",
    "/a%2fb",
    "/a%5Cb",
    "/a%5cb",
    "/a\\b",
    "/..\\b",
    "/a%00",
    "/a%0d%0ab",
    "/a%7f",
    "/a%zz",
];

/// A head that is refused whatever the rules, and what stands after it.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_head_with_two_readings_is_refused_and_nothing_of_it_reaches_the_backend() {
    let shop = Shop::open(&allow("http", "shop/api:http", "shop/web")).await;
    for way in WAYS {
        for lines in HEADERS {
            let attack =
                format!("POST /a HTTP/1.1\r\nHost: api.shop\r\n{lines}\r\n\r\n0\r\n\r\n{SMUGGLED}");
            refused_without_a_byte(&shop, way, lines, &attack).await;
        }
        for head in HEADS {
            refused_without_a_byte(&shop, way, head, &format!("{head}\r\n\r\n{SMUGGLED}")).await;
        }
        // An empty line before the request: its own sidecar does not even take it for HTTP.
        let attack = format!("\r\nGET /a HTTP/1.1\r\nHost: api.shop\r\n\r\n{SMUGGLED}");
        let code = status(&shop.send(way, attack.as_bytes()).await);
        assert!(matches!(code, None | Some(400)), "{way:?}: {code:?}");
        assert_eq!(shop.http.text(), "", "{way:?}");
        // A request without fault before it is answered; the faulty one never reaches anybody.
        let first = "POST /first HTTP/1.1\r\nHost: api.shop\r\nContent-Length: 5\r\n\r\nhello";
        let attack =
            format!("{first}GET /second HTTP/1.1\r\nHost: api.shop\r\nHost: b\r\n\r\n{SMUGGLED}");
        let answer = shop.send(way, attack.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.contains("HTTP/1.1 400 "),
            "{way:?}: {text}"
        );
        let heard = shop.http.text();
        assert!(
            heard.starts_with("POST /first ") && heard.ends_with("hello"),
            "{way:?}: {heard}"
        );
        shop.http.clear();
    }
}

/// A body is passed on while it comes; what must not happen is that it ever ends, or that anything follows it.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_bad_chunk_ends_the_request_and_nothing_follows_it_to_the_backend() {
    let shop = Shop::open(&allow("http", "shop/api:http", "shop/web")).await;
    for way in WAYS {
        for chunks in CHUNKS {
            for first in ["", "3\r\nabc\r\n"] {
                let attack = format!(
                    "POST /a HTTP/1.1\r\nHost: api.shop\r\nTransfer-Encoding: chunked\r\n\r\n{first}{chunks}0\r\n\r\n{SMUGGLED}"
                );
                let answer = shop.send(way, attack.as_bytes()).await;
                let code = status(&answer);
                assert!(
                    matches!(code, None | Some(400)),
                    "{first:?} {chunks:?} {way:?}: {code:?}"
                );
                let heard = shop.http.text();
                assert!(!heard.contains("smuggled"), "{chunks:?} {way:?}: {heard}");
                assert_eq!(shop.http.requests(), 0, "{chunks:?} {way:?}: {heard}");
                shop.http.clear();
            }
        }
        // What is well framed arrives, also what comes after it on the same connection.
        let good = format!(
            "POST /a HTTP/1.1\r\nHost: api.shop\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n{SMUGGLED}"
        );
        let answer = shop.send(way, good.as_bytes()).await;
        assert_eq!(
            String::from_utf8_lossy(&answer)
                .matches("HTTP/1.1 200")
                .count(),
            2,
            "{way:?}"
        );
        assert_eq!(shop.http.requests(), 2, "{way:?}: {}", shop.http.text());
        shop.http.clear();
    }
}

async fn refused_without_a_byte(shop: &Shop, way: Way, what: &str, attack: &str) {
    let answer = shop.send(way, attack.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status(&answer), Some(400), "{what:?} {way:?}: {text}");
    assert_eq!(
        text.matches("HTTP/1.1 ").count(),
        1,
        "{what:?} {way:?}: {text}"
    );
    assert_eq!(shop.http.text(), "", "{what:?} {way:?}");
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n").into_bytes()
}

/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Header lines that leave the request's end, or its target, in doubt.
const HEADERS: &[&str] = &[
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 0",
    "Content-Length: 0\r\ncontent-length: 5",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: 0x5",
    "Content-Length: 5 5",
    "Content-Length: 18446744073709551616",
    "Content-Length:",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding:",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Content-Length : 5",
    " Content-Length: 5",
    "X-A: b\r\n Content-Length: 5",
    "X-A: b\r\n\tTransfer-Encoding: chunked",
    "X-A: b\rContent-Length: 5",
    "X-A: b\r\r\nContent-Length: 5",
    "X-A: b\nContent-Length: 5",
    "X-A: b\n\nGET /smuggled HTTP/1.1\nHost: api.shop",
    "X-A: b\0c",
    "X-A",
    ": b",
    "X A: b",
    "Host: api.shop",
    "Host: admin.shop",
    "host: api.shop",
];

/// Whole heads with two readings.
const HEADS: &[&str] = &[
    "GET http://admin.shop/a HTTP/1.1\r\nHost: api.shop",
    "GET http://api.shop/a HTTP/1.1\r\nHost: example.com",
    "GET http://api.shop:80/a HTTP/1.1\r\nHost: api.shop",
    "GET http://user@api.shop/a HTTP/1.1\r\nHost: api.shop",
    "GET /a HTTP/1.1",
    "GET /a HTTP/1.1\r\nHost:",
    "GET /a HTTP/1.1\r\nHost: api.shop, admin.shop",
    "GET /a HTTP/1.1\r\nHost: api.shop/x",
    "GET /a HTTP/1.1\nHost: api.shop",
    "GET /a HTTP/1.1\rHost: api.shop",
    "GET  /a HTTP/1.1\r\nHost: api.shop",
    "GET /a  HTTP/1.1\r\nHost: api.shop",
    "GET\t/a\tHTTP/1.1\r\nHost: api.shop",
    "GET /a b HTTP/1.1\r\nHost: api.shop",
    "GET /a\u{1}b HTTP/1.1\r\nHost: api.shop",
    "GET /a\u{7f} HTTP/1.1\r\nHost: api.shop",
    "GET /a#b HTTP/1.1\r\nHost: api.shop",
    "GET /a\r\nHost: api.shop",
    "GET /a HTTP/2.0\r\nHost: api.shop",
    "GET /a HTTP/1.2\r\nHost: api.shop",
    "POST /a HTTP/1.0\r\nHost: api.shop\r\nTransfer-Encoding: chunked",
];

/// Chunks whose end two parsers see at two places; each stands where a chunk begins.
const CHUNKS: &[&str] = &[
    "-5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "5h\r\nhello\r\n",
    "10000000000000005\r\nhello\r\n",
    "ffffffffffffffffff\r\nhello\r\n",
    "00000000000000005\r\nhello\r\n",
    " 5\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "5\t\r\nhello\r\n",
    "5 ;x\r\nhello\r\n",
    "5;\r\nhello\r\n",
    "5;x\nhello\r\n",
    "5\nhello\r\n",
    "5\rhello\r\n",
    "\r\nhello\r\n",
    "5\r\nhello",
    "5\r\nhelloX\r\n",
    "5\r\nhello\n",
    "5\r\nhello\r",
    "5\r\nhello\n\r",
    "0\r\nX-A: b\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\n X-A: b\r\n\r\n",
    "0\r\nX-A : b\r\n\r\n",
    "0\r\nX-A: b\rc\r\n\r\n",
];
