//! Row 2: a workload goes round its own sidecar and dials a peer's inbound listener with its real SVID.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_tests::documents::{allow, allow_http};
use weft_tests::{KeepAlive, SidecarSpec, Svid, eventually};

use super::attack::{
    H2, HTTP, Http2, RAW, Shop, Way, exchange, get_http2, http2, status, straight,
};

/// web reads orders over HTTP and may send bytes; batch may do nothing.
fn rules() -> String {
    let orders = "{methods: [GET], paths: [\"/orders/**\"]}";
    allow_http("http", "shop/api:http", "shop/web", orders)
        + &allow_http("h2", "shop/api:h2", "shop/web", orders)
        + &allow("raw", "shop/api:raw", "shop/web")
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_a_workload_that_no_rule_names_is_refused_past_its_own_sidecar() {
    let shop = Shop::open(&rules()).await;
    let batch = SidecarSpec::of("shop/batch").upstream("shop/api:http");
    let batch = shop.mesh.sidecar(batch).await;
    // Its own sidecar refuses it; so does the peer, which is what counts.
    let own = weft_tests::request(
        batch.upstream("shop/api:http"),
        "GET",
        "/orders/1",
        &[("Host", "api.shop")],
        b"",
    )
    .await;
    assert_eq!(own.expect("an answer").status, 403);
    let svid = Svid::of_sidecar(&batch.runtime);
    let probes = shop.raw.count();

    let refused = straight(&svid, shop.api.inbound, HTTP, &get("/orders/1")).await;
    assert_eq!(status(&refused), Some(403));
    let text = String::from_utf8_lossy(&refused).into_owned();
    assert!(
        text.contains("x-weft-decision: ") && !text.contains("orders"),
        "{text}"
    );

    let stream = svid
        .connect(shop.api.inbound, H2, "h2")
        .await
        .expect("a good handshake");
    let mut sender = http2(stream).await;
    for _ in 0..3 {
        assert_eq!(
            get_http2(&mut sender, "http://api.shop/orders/1", None).await,
            403
        );
    }

    let stream = svid
        .connect(shop.api.inbound, RAW, "weft-tcp")
        .await
        .expect("a good handshake");
    assert_eq!(
        exchange(stream, b"\0bytes").await,
        b"",
        "closed without a byte"
    );

    assert_eq!(shop.http.text(), "");
    assert_eq!((shop.h2.count(), shop.raw.count()), (0, probes));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_a_workload_gets_no_more_past_its_own_sidecar_than_through_it() {
    let shop = Shop::open(&rules()).await;
    let cases = [
        ("GET", "/orders/1", 200),
        ("POST", "/orders/1", 403),
        ("GET", "/admin", 403),
        ("GET", "/orders/2", 200),
    ];
    for (method, path, wanted) in cases {
        let asked =
            format!("{method} {path} HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n");
        let answer = straight(&shop.svid, shop.api.inbound, HTTP, asked.as_bytes()).await;
        assert_eq!(status(&answer), Some(wanted), "{method} {path}");
    }
    let heard = shop.http.text();
    assert!(
        heard.contains("GET /orders/1") && !heard.contains("POST") && !heard.contains("admin"),
        "{heard}"
    );

    // One HTTP/2 connection carries what is allowed and what is not.
    let stream = shop
        .svid
        .connect(shop.api.inbound, H2, "h2")
        .await
        .expect("a good handshake");
    let mut sender = http2(stream).await;
    for (path, wanted) in [
        ("/orders/1", 200),
        ("/admin", 403),
        ("/orders/2", 200),
        ("/", 403),
    ] {
        let uri = format!("http://api.shop{path}");
        assert_eq!(get_http2(&mut sender, &uri, None).await, wanted, "{path}");
    }
    assert_eq!(shop.h2.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_each_request_on_an_open_connection_is_judged_by_the_policy_of_its_moment() {
    let shop = Shop::open(&rules()).await;
    let stream = shop
        .svid
        .connect(shop.api.inbound, HTTP, "http/1.1")
        .await
        .expect("a good handshake");
    let mut http1 = KeepAlive::new(stream);
    let stream = shop
        .svid
        .connect(shop.api.inbound, H2, "h2")
        .await
        .expect("a good handshake");
    let mut h2 = http2(stream).await;
    assert_eq!(ask_both(&mut http1, &mut h2, "/orders/1").await, (200, 200));

    let other = "{paths: [\"/returns/**\"]}";
    let tightened = allow_http("http", "shop/api:http", "shop/web", other)
        + &allow_http("h2", "shop/api:h2", "shop/web", other);
    shop.mesh.apply(&tightened).await;
    assert_eq!(ask_both(&mut http1, &mut h2, "/orders/1").await, (403, 403));
    assert_eq!(
        ask_both(&mut http1, &mut h2, "/returns/1").await,
        (200, 200)
    );
    assert_eq!((shop.http.requests(), shop.h2.count()), (2, 2));

    // With the last rule for it the connection itself ends.
    let ended = allow_http("http", "shop/api:http", "shop/nobody", other)
        + &allow_http("h2", "shop/api:h2", "shop/nobody", other);
    shop.mesh.apply(&ended).await;
    let late = http1
        .request("GET", "/returns/1", &[("Host", "api.shop")])
        .await;
    assert!(late.is_err(), "{late:?}");
    eventually("the HTTP/2 connection is cut", || {
        let is_closed = h2.is_closed();
        async move { is_closed.then_some(()).ok_or(()) }
    })
    .await;
    assert_eq!((shop.http.requests(), shop.h2.count()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_open_bytes_and_open_streams_are_cut_when_their_rule_goes() {
    let shop = Shop::open(
        &(allow("raw", "shop/api:raw", "shop/web") + &allow("http", "shop/api:http", "shop/web")),
    )
    .await;
    let stream = shop.svid.connect(shop.api.inbound, RAW, "weft-tcp").await;
    let mut stream = stream.expect("a good handshake");
    let mut echoed = [0; 4];
    stream.write_all(b"ping").await.expect("sent");
    stream
        .read_exact(&mut echoed)
        .await
        .expect("the rule allows it");
    // A request whose content does not end.
    let (content, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = StreamBody::new(ReceiverStream::new(body)).boxed();
    let request = http::Request::post("http://api.shop/")
        .body(body)
        .expect("a request");
    let mut sender = shop.http2(Way::Straight, "http").await;
    content
        .send(Ok(Frame::data(Bytes::from_static(b"begun"))))
        .await
        .expect("room");
    let asked = tokio::spawn(sender.send_request(request));
    eventually("the content is on its way", || async {
        let heard = shop.http.text();
        heard.contains("begun").then_some(()).ok_or(heard)
    })
    .await;

    shop.mesh
        .apply(
            &(allow("raw", "shop/api:raw", "shop/nobody")
                + &allow("http", "shop/api:http", "shop/nobody")),
        )
        .await;
    // Whatever is said now comes back from nobody.
    assert_eq!(exchange(stream, b"pong").await, b"");
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
    let answer = answer.expect("the stream ends").expect("nobody panicked");
    assert!(answer.is_err(), "{answer:?}");
    let again = shop.svid.connect(shop.api.inbound, RAW, "weft-tcp").await;
    assert_eq!(
        exchange(again.expect("a good handshake"), b"\0bytes").await,
        b""
    );
    drop(content);
}

async fn ask_both<S>(http1: &mut KeepAlive<S>, h2: &mut Http2, path: &str) -> (u16, u16)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let answer = http1.request("GET", path, &[("Host", "api.shop")]).await;
    let uri = format!("http://api.shop{path}");
    (
        answer.expect("an answer").status,
        get_http2(h2, &uri, None).await,
    )
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n").into_bytes()
}
