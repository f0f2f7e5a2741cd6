//! What an inbound exchange came over must stay believed, declared and counted as long as the exchange lives.

use super::*;

const UPGRADE: &str =
    "GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
/// Every SVID of the test's authority has it.
pub(super) const SERIAL: [u8; 16] = [3; 16];

#[tokio::test]
async fn row_14_a_tunnel_is_cut_when_the_serial_behind_it_is_revoked() {
    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let mut tunnel = open_tunnel(&mesh).await;
    mesh.server_revokes_serial(SERIAL);
    assert_ends(&mut tunnel).await;
}

#[tokio::test]
async fn row_03_what_is_no_longer_declared_or_leads_elsewhere_is_cut() {
    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let mut tunnel = open_tunnel(&mesh).await;
    mesh.server_declares(None);
    assert_ends(&mut tunnel).await;

    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    let mut bytes = TcpStream::connect(mesh.upstream).await.unwrap();
    bytes.write_all(b"ping").await.unwrap();
    while mesh.server.connections.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let port = mesh.server.current.load().inbound[&service()].view.ports[0].clone();
    mesh.server_declares(Some(Port {
        target_port: port.target_port ^ 1,
        ..port
    }));
    assert_ends(&mut bytes).await;
}

#[tokio::test]
async fn row_03_a_kept_connection_reaches_no_port_that_moved() {
    let mesh = Pair::start(Protocol::Http, RULE_WITHOUT_HTTP).await;
    let request = "GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(mesh.ask(request).await.starts_with("HTTP/1.1 200"));
    let elsewhere = start_app(Protocol::Http).await;
    let port = mesh.server.current.load().inbound[&service()].view.ports[0].clone();
    mesh.server_declares(Some(Port {
        target_port: elsewhere.port(),
        ..port
    }));
    // The old connection is cut; a new one leads where the port leads now.
    let answer = mesh.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn row_11_a_tunnel_keeps_its_listeners_place() {
    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let tunnel = open_tunnel(&mesh).await;
    // Long enough for the connection's own task to have ended.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(mesh.places_of_the_application(), 1);
    drop(tunnel);
    while mesh.places_of_the_application() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn row_11_who_is_refused_as_a_whole_keeps_no_place() {
    let mesh = Pair::start(Protocol::Http2, RULE).await;
    mesh.server_allows("");
    let answer = mesh
        .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    // The connection that the sidecars share stays, for others.
    let ended = async {
        while mesh.server.connections.len() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(2 * LONG, ended)
        .await
        .expect("a refused connection stays");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_not_lost_for_its_method() {
    let rule = RULE.replace("GET, POST", "GET, HEAD, POST");
    for protocol in [Protocol::Http, Protocol::Http2] {
        let mesh = Pair::start(protocol, &rule).await;
        let answer = mesh
            .ask("GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("body=hello"), "{protocol:?}: {answer}");
    }
}

pub(super) async fn open_tunnel(mesh: &Pair) -> TcpStream {
    let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let head = read_until(&mut client, b"\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.unwrap();
    client
}

pub(super) async fn assert_ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it stays open");
    assert!(rest.is_empty());
}
