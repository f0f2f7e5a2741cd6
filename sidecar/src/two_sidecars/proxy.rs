//! Upgrades through the HTTP proxy, which names its targets request by request.

use super::inlets::assert_ends;
use super::*;

const UPGRADE: &str = "GET http://api.shop/orders/1 HTTP/1.1\r\nHost: api.shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn row_17_an_upgrade_through_the_proxy_that_no_rule_names_is_refused_before_it_leaves() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let mut client = TcpStream::connect(mesh.proxy).await.unwrap();
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, b"}").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let label = crate::metrics::ListenerLabel {
        listener: "inbound",
    };
    assert_eq!(mesh.server.metrics.accepted.get_or_create(&label).get(), 0);
}

#[tokio::test]
async fn row_17_a_tunnel_through_the_proxy_keeps_its_place_and_is_cut_when_its_rule_names_it_no_more()
 {
    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let mut tunnel = TcpStream::connect(mesh.proxy).await.unwrap();
    tunnel.write_all(UPGRADE.as_bytes()).await.unwrap();
    let head = read_until(&mut tunnel, b"\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // Long enough for the connection's own task to have ended.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(places(&mesh.client, "httpProxy"), 1);

    mesh.client_allows(RULE);
    mesh.client_judges_again();
    assert_ends(&mut tunnel).await;
    let left = async {
        while places(&mesh.client, "httpProxy") > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, left)
        .await
        .expect("it keeps its place");
}

#[tokio::test]
async fn row_13_the_proxy_passes_over_an_endpoint_with_another_identity_and_tells_it_as_no_refusal()
{
    let ask =
        "GET http://api.shop/orders/1 HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n";
    let other = "spiffe://weft.local/ns/shop/sa/other";
    let live = "spiffe://weft.local/ns/shop/sa/api";
    for (seen, status) in [
        (&[other][..], "503"),
        (&[other, live], "200"),
        (&[live, other], "200"),
    ] {
        let mesh = Pair::start(Protocol::Http, RULE).await;
        mesh.client_sees(seen);
        let mut client = TcpStream::connect(mesh.proxy).await.unwrap();
        client.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{seen:?}: {answer}"
        );
        assert!(!answer.contains("decision"), "{answer}");
    }
}

#[tokio::test]
async fn row_14_an_answer_through_the_proxy_ends_when_its_request_is_no_longer_allowed() {
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = app.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = app.accept().await.unwrap();
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
        stream.write_all(part).await.unwrap();
        // Until the sidecar goes.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let mesh = Pair::before(address, Protocol::Http, RULE).await;
    let mut client = TcpStream::connect(mesh.proxy).await.unwrap();
    let ask = "GET http://api.shop/orders/1 HTTP/1.1\r\nHost: api.shop\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, b"part").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    mesh.client_allows("");
    mesh.client_judges_again();
    let end = tokio::time::timeout(LONG, client.read_u8()).await;
    assert!(end.expect("it stays open").is_err());
}
