//! The host that a request names is the host that is dialled, or nothing is.

use tokio::net::TcpStream;
use weft_tests::raw;

use super::{HOST, OTHER, WILD, World, echoes, is_closed, rule_at};
use crate::rows_data_path::shop::exchange;

#[tokio::test(flavor = "multi_thread")]
async fn row_03_a_host_that_the_external_service_does_not_name_is_misdirected() {
    let world = World::open().await;
    let port = world.http.address.port();
    for (host, status) in [
        (HOST.to_owned(), 200),
        (format!("{HOST}:{port}"), 200),
        (format!("{}.:{port}", HOST.to_uppercase()), 200),
        (WILD.to_owned(), 200),
        (OTHER.to_owned(), 421),
        ("wild.outside.test".to_owned(), 421),
        (format!("{HOST}:{}", port ^ 1), 421),
        ("127.0.0.1".to_owned(), 421),
        ("orders.shop".to_owned(), 421),
        (format!("{HOST}.evil.test"), 421),
    ] {
        let answer = world.get_at_listener(&host).await;
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
    }
    let listener = world.web.upstream("shop/outside:http");
    let nameless = raw(listener, b"GET / HTTP/1.0\r\n\r\n")
        .await
        .expect("an answer");
    assert!(
        nameless.starts_with(b"HTTP/1.1 400"),
        "{}",
        nameless.escape_ascii()
    );
    let id = world.decision("misdirected").await;
    let why = world.why(&id).await;
    assert!(
        why.contains("misdirected") && why.contains("shop/outside"),
        "{why}"
    );
    assert!(
        why.contains("spec.hosts of shop/outside do not name that host"),
        "{why}"
    );

    // At the proxy: the target and `Host` must agree, and a request for TLS does not leave in the clear.
    let authority = world.at(HOST, &world.http);
    for (request, status) in [
        (
            format!("GET http://{authority}/ HTTP/1.1\r\nHost: {OTHER}:{port}\r\n\r\n"),
            "400",
        ),
        (
            format!(
                "GET https://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
            ),
            "403",
        ),
        (
            format!(
                "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
            ),
            "200",
        ),
        (
            format!(
                "GET http://{}/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                world.at(HOST, &world.tls),
                world.at(HOST, &world.tls)
            ),
            "403",
        ),
    ] {
        let stream = TcpStream::connect(world.web.proxy)
            .await
            .expect("it accepts");
        let answer = exchange(stream, request.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.get(9..12), Some(status), "{request}{answer}");
    }
    let asked = world.dns.asked();
    assert!(
        asked
            .iter()
            .all(|name| [HOST, WILD].contains(&name.as_str())),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_a_listener_for_tls_goes_where_the_server_name_says_and_nowhere_else() {
    let world = World::open().await;
    let listener = world.web.upstream("shop/outside:tls");
    let connect = async || TcpStream::connect(listener).await.expect("it accepts");
    for name in [HOST, WILD] {
        let mut tls = world
            .handshake(connect().await, name)
            .await
            .expect("a handshake");
        assert!(echoes(&mut tls).await, "{name}");
    }
    let before = world.tls.connections();
    let error = world
        .handshake(connect().await, OTHER)
        .await
        .expect_err("it is refused");
    assert!(
        error.to_string().contains("UnrecognizedName")
            || error.to_string().contains("UnrecognisedName"),
        "{error}"
    );
    // An address is no server name: the ClientHello has none.
    assert!(world.handshake(connect().await, "127.0.0.1").await.is_err());
    let id = world.decision("misdirected").await;
    assert!(world.why(&id).await.contains("shop/outside"));
    let answer = exchange(
        connect().await,
        b"GET / HTTP/1.1\r\nHost: api.outside.test\r\n\r\n",
    )
    .await;
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    world.decision("wrongProtocol").await;
    assert_eq!(world.tls.connections(), before, "nothing of it was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_to_the_only_host_of_a_service_and_to_none_where_there_are_several() {
    let world = World::open().await;
    let single = world
        .service("single.outside.test")
        .replace("name: outside", "name: single");
    world.apply(&(single + &rule_at("single", ""))).await;
    let mut stream = TcpStream::connect(world.web.upstream("shop/single:raw"))
        .await
        .expect("it accepts");
    assert!(echoes(&mut stream).await);
    assert!(is_closed(world.web.upstream("shop/outside:raw")).await);
    let log = world.web.process.log();
    assert!(log.contains("bytes name no host"), "{log}");
}
