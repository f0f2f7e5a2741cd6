//! CONNECT in every variant: what comes through it must be for the host that it named.

use tokio::io::AsyncWriteExt as _;
use weft_tests::KeepAlive;

use super::{HOST, OTHER, WILD, World, echoes, ends, rule};
use crate::rows_data_path::shop::{exchange, read_head};

#[tokio::test(flavor = "multi_thread")]
async fn row_17_connect_to_tls_needs_the_server_name_that_it_named() {
    let world = World::open().await;
    for name in [HOST, WILD] {
        let (stream, head) = world.connect(&world.at(name, &world.tls)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut tls = world.handshake(stream, name).await.expect("a handshake");
        assert!(echoes(&mut tls).await, "{name}");
    }
    // Another host of the same service is another host.
    for name in [WILD, OTHER, "127.0.0.1"] {
        let (stream, head) = world.connect(&world.at(HOST, &world.tls)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let error = world
            .handshake(stream, name)
            .await
            .expect_err("it is refused");
        assert!(
            error.to_string().to_lowercase().contains("unrecogni"),
            "{name}: {error}"
        );
    }
    let id = world.decision("misdirected").await;
    let why = world.why(&id).await;
    assert!(
        why.contains("CONNECT") && why.contains("shop/outside"),
        "{why}"
    );
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: api.outside.test\r\n\r\n"[..],
        b"\x80\x2e\x01\x03\x01\x00",
        b"\0\0\0\0\0\0\0\0",
    ] {
        let (stream, _) = world.connect(&world.at(HOST, &world.tls)).await;
        let answer = exchange(stream, bytes).await;
        assert!(
            answer.is_empty(),
            "{}: {}",
            bytes.escape_ascii(),
            answer.escape_ascii()
        );
    }
    world.decision("wrongProtocol").await;
    let log = world.web.process.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("CONNECT"))
        .collect();
    let refused =
        |line: &&&str| line.contains("reason=\"misdirected\"") && line.contains("decision=");
    assert!(lines.iter().any(|line| refused(&line)), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_requests_behind_a_connect_are_judged_one_by_one_and_for_its_host_alone() {
    let world = World::open().await;
    world
        .apply(&rule("  http: [{methods: [GET], paths: [/open]}]\n"))
        .await;
    // Under HTTP conditions bytes are never allowed, and no name is looked up for them.
    for app in [&world.tls, &world.echo] {
        let (_, head) = world.connect(&world.at(HOST, app)).await;
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert!(head.contains("x-weft-decision"), "{head}");
    }
    assert_eq!(world.dns.asked(), [""; 0]);
    let authority = world.at(HOST, &world.http);
    let (stream, head) = world.connect(&authority).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut inside = KeepAlive::new(stream);
    for (method, path, host, status) in [
        ("GET", "/open", authority.clone(), 200),
        ("GET", "/open", HOST.to_owned(), 200),
        ("GET", "/closed", authority.clone(), 403),
        ("GET", "/open", world.at(WILD, &world.http), 421),
        ("GET", "/open", world.at(OTHER, &world.http), 421),
        ("GET", "/open", authority.clone(), 200),
    ] {
        let answer = inside
            .request(method, path, &[("Host", &host)])
            .await
            .expect("an answer");
        assert_eq!(answer.status, status, "{path} {host}: {}", answer.text());
    }
    // Neither bytes nor another tunnel.
    let (stream, _) = world.connect(&authority).await;
    let answer = exchange(stream, b"\x16\x03\x01\0\0").await;
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    world.decision("wrongProtocol").await;
    world.apply(&rule("")).await;
    let (mut stream, _) = world.connect(&authority).await;
    let nested = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream
        .write_all(nested.as_bytes())
        .await
        .expect("it is read");
    let head = read_head(&mut stream).await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(ends(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_connect_to_a_port_of_bytes_opens_a_tunnel_to_named_hosts_and_ports_alone() {
    let world = World::open().await;
    let (mut stream, head) = world.connect(&world.at(WILD, &world.echo)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(echoes(&mut stream).await);
    let other_port = world.echo.address.port() ^ 1;
    for authority in [
        format!("{HOST}:{other_port}"),
        world.at(OTHER, &world.echo),
        format!("127.0.0.1:{}", world.echo.address.port()),
    ] {
        let (_, head) = world.connect(&authority).await;
        assert!(head.starts_with("HTTP/1.1 403"), "{authority}: {head}");
    }
    // Over an upstream listener nothing becomes a tunnel either.
    let listener = world.web.upstream("shop/outside:http");
    let authority = world.at(HOST, &world.http);
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let stream = tokio::net::TcpStream::connect(listener)
        .await
        .expect("it accepts");
    let answer = exchange(stream, connect.as_bytes()).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 403"),
        "{}",
        answer.escape_ascii()
    );
}
