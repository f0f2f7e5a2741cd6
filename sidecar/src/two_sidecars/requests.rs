//! HTTP/1.1 and bytes, through both sidecars.

use super::*;

#[tokio::test]
async fn row_04_a_permitted_request_arrives_with_the_verified_identity_and_no_other() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let answer = mesh
        .ask("GET /orders/1?q=%41 HTTP/1.1\r\nHost: Any.Host\r\nX-Forwarded-Client-Cert: URI=evil\r\nx_forwarded_client_cert: a\r\nConnection: close, x-nominated\r\nX-Nominated: 1\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("GET /orders/1?q=%41 host=Any.Host"),
        "{answer}"
    );
    assert!(
        answer.contains("By=spiffe://weft.local/ns/shop/sa/api;Hash="),
        "{answer}"
    );
    assert!(
        answer.contains(";URI=spiffe://weft.local/ns/shop/sa/web\n"),
        "{answer}"
    );
    assert!(
        !answer.contains("evil") && !answer.contains("nominated"),
        "{answer}"
    );
}

#[tokio::test]
async fn row_02_what_no_rule_names_is_refused_on_both_sides_with_a_decision() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let answer = mesh
        .ask("GET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains(r#"{"error":"refused by the mesh","decision":""#),
        "{answer}"
    );

    // The server side is the authority: it refuses also what the client side lets through.
    mesh.server_allows("");
    let answer = mesh
        .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn row_05_malformed_framing_is_answered_with_400_and_a_decision() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let answer = mesh
        .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /orders/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("HTTP/1.1 400") && answer.contains("decision"),
        "{answer}"
    );
}

#[tokio::test]
async fn bodies_stream_through_and_connections_are_used_again() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    for _ in 0..3 {
        let request = "POST /orders/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"body=hello\n") {
            assert_ne!(
                client.read_buf(&mut answer).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    let accepted = mesh
        .server
        .metrics
        .accepted
        .get_or_create(&crate::metrics::ListenerLabel {
            listener: "inbound",
        });
    assert_eq!(accepted.get(), 1);
}

#[tokio::test]
async fn http2_goes_through_both_sidecars() {
    let mesh = Pair::start(Protocol::Http2, RULE).await;
    let answer = mesh
        .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("GET /orders/1 host=a"), "{answer}");
}

#[tokio::test]
async fn each_direction_of_a_tcp_connection_ends_by_itself() {
    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    let answer = tokio::time::timeout(LONG, async {
        let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(answer.await.unwrap(), "got ping and the end");
}

#[tokio::test]
async fn a_removed_rule_cuts_an_open_connection() {
    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    while mesh.server.connections.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    mesh.server_allows("");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(LONG, client.read_to_end(&mut rest))
        .await
        .expect("the connection stayed open");
    // A reset through both sidecars: an end of the stream would say that the application had finished.
    let error = ended.expect_err("the connection ended as if it were complete");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(rest.is_empty());
}

#[tokio::test]
async fn row_17_an_upgrade_that_no_rule_names_is_refused_and_a_named_one_becomes_a_tunnel() {
    let upgrade =
        "GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let answer = mesh.ask_until(upgrade, b"}").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    client.write_all(upgrade.as_bytes()).await.unwrap();
    let head = read_until(&mut client, b"\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.write_all(b"\x81\x00\n\n").await.unwrap();
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\x81\x00\n\n");
}

#[tokio::test]
async fn row_13_an_endpoint_with_another_identity_is_passed_over_and_never_told_as_a_refusal() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let mesh = Pair::start(protocol, RULE).await;
        mesh.client_sees(&["spiffe://weft.local/ns/shop/sa/other"]);
        let request = "GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = mesh.ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{protocol:?}: {answer}");
        assert!(!answer.contains("decision"), "{protocol:?}: {answer}");
    }
}

#[tokio::test]
async fn a_stale_endpoint_does_not_hide_the_live_one_at_the_same_address() {
    let stale = "spiffe://weft.local/ns/shop/sa/gone";
    let live = "spiffe://weft.local/ns/shop/sa/api";
    for (protocol, rule) in [
        (Protocol::Http, RULE),
        (Protocol::Http2, RULE),
        (Protocol::Tcp, RULE_WITHOUT_HTTP),
    ] {
        for seen in [[stale, live], [live, stale]] {
            let mesh = Pair::start(protocol, rule).await;
            mesh.client_sees(&seen);
            let request = "GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            if protocol == Protocol::Tcp {
                client.shutdown().await.unwrap();
            }
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("GET /orders/1"), "{seen:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn row_14_a_revoked_peer_is_cut_and_refused() {
    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    while mesh.server.connections.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    mesh.server_revokes("spiffe://weft.local/ns/shop/sa/web");
    for _ in 0..2 {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LONG, client.read_to_end(&mut rest)).await;
        assert!(
            ended.is_ok() && rest.is_empty(),
            "the connection stayed open"
        );
        client = TcpStream::connect(mesh.upstream).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_waits_for_100_continue_gets_it() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    let head =
        "POST /orders/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let interim = read_until(&mut client, b"\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    client.write_all(b"hello").await.unwrap();
    let answer = read_until(&mut client, b"body=hello\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn row_17_connect_and_a_wish_for_h2c_open_no_tunnel_under_http_conditions() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let answer = mesh
        .ask("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let answer = mesh
        .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        !answer.contains("h2c") && !answer.contains("http2-settings"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_answer_to_head_says_nothing_about_length_that_the_application_did_not() {
    let mesh = Pair::start(Protocol::Http, RULE_WITHOUT_HTTP).await;
    let answer = mesh
        .ask("HEAD /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("content-length: 0"), "{answer}");
}

#[tokio::test]
async fn rules_in_audit_mode_are_counted_and_grant_nothing() {
    let trial = RULE.replace("spec:", "spec:\n  mode: Audit");
    let mesh = Pair::start(Protocol::Http, &trial).await;
    // Only the server side judges them, as it is the authority: the client's lets the request through.
    mesh.client_allows(RULE);
    let answer = mesh
        .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let label = crate::metrics::RuleLabel {
        rule: "shop/rule".to_owned(),
    };
    let count = |sidecar: &Sidecar| sidecar.metrics.audit_matches.get_or_create(&label).get();
    assert_eq!((count(&mesh.server), count(&mesh.client)), (1, 0));
}
