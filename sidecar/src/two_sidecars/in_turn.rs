//! Requests that share a connection: each must stay allowed while it is open, and the connection while its peer is believed.

use tokio::sync::mpsc;

use super::inlets::{SERIAL, assert_ends, open_tunnel};
use super::*;

const ASK: &str = "GET /orders/1 HTTP/1.1\r\nHost: a\r\n\r\n";

/// An application that answers nothing and tells when a request has come and when its connection has ended.
struct Silent {
    came: mpsc::UnboundedReceiver<()>,
    ended: mpsc::UnboundedReceiver<()>,
}

impl Silent {
    async fn start() -> (Self, Pair) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell_come, came) = mpsc::unbounded_channel();
        let (tell_ended, ended) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = tell_come.send(());
                while let Ok(1..) = stream.read(&mut buffer).await {}
                let _ = tell_ended.send(());
            }
        });
        let mesh = Pair::before(address, Protocol::Http, RULE).await;
        (Self { came, ended }, mesh)
    }

    async fn open_request(&mut self, mesh: &Pair) -> TcpStream {
        let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
        client.write_all(ASK.as_bytes()).await.unwrap();
        tokio::time::timeout(LONG, self.came.recv())
            .await
            .expect("it does not arrive");
        assert!(self.ended.try_recv().is_err(), "it is open");
        client
    }

    async fn assert_ended(&mut self, what: &str) {
        let ended = tokio::time::timeout(LONG, self.ended.recv()).await;
        assert!(ended.is_ok(), "{what}: it stays open");
    }
}

#[tokio::test]
async fn row_14_a_request_that_waits_for_its_answer_is_cut() {
    let (mut app, mesh) = Silent::start().await;
    let _client = app.open_request(&mesh).await;
    mesh.server_allows("");
    app.assert_ended("the server's side").await;

    let (mut app, mesh) = Silent::start().await;
    let mut client = app.open_request(&mesh).await;
    mesh.client_allows("");
    mesh.client_judges_again();
    app.assert_ended("the client's side").await;
    // A reset: nobody may take the silence for an answer.
    assert!(client.read_u8().await.is_err());
}

#[tokio::test]
async fn row_14_an_open_request_is_cut_when_the_serial_of_its_upstream_is_revoked() {
    let (mut app, mesh) = Silent::start().await;
    let _client = app.open_request(&mesh).await;
    mesh.client_revokes_serial(SERIAL);
    app.assert_ended("the upstream is revoked").await;
}

#[tokio::test]
async fn row_14_a_shared_connection_ends_with_its_peer_also_when_nothing_is_open_on_it() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let answer = mesh.ask_until(ASK, b"body=\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!mesh.server.connections.is_empty());
    mesh.server_revokes_serial(SERIAL);
    let ended = async {
        while mesh.places_held() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, ended)
        .await
        .expect("it stays open");
}

/// A change is published first and what is live is judged again then: a request that comes between the two is judged by the change.
#[tokio::test]
async fn row_03_a_request_between_a_change_and_its_judgement_of_the_live_is_judged_by_the_change() {
    let moved = |enforced: &mut Enforced| {
        let offered = &enforced.inbound[&service()];
        let port = offered.view.ports[0].clone();
        let port = Port {
            target_port: port.target_port ^ 1,
            ..port
        };
        let moved = inbound_service(port, RULE);
        enforced.inbound.insert(service(), Arc::new(moved));
    };
    let revoked = |enforced: &mut Enforced| {
        enforced.revocations = Arc::new(revoking(SERIAL));
    };
    let changes: [&dyn Fn(&mut Enforced); 2] = [&moved, &revoked];
    for change in changes {
        let mesh = Pair::start(Protocol::Http, RULE).await;
        let mut client = TcpStream::connect(mesh.upstream).await.unwrap();
        client.write_all(ASK.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, b"body=\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut enforced = copy_of(&mesh.server.current.load_full());
        change(&mut enforced);
        mesh.server.current.publish(Arc::new(enforced));
        client.write_all(ASK.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, b"}").await;
        assert!(answer.contains("HTTP/1.1 403"), "{answer}");
    }
}

#[tokio::test]
async fn row_11_who_is_refused_as_a_whole_keeps_no_stream() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    mesh.server_allows("");
    let answer = mesh.ask_until(ASK, b"}").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let ended = async {
        // The connection that all streams share stays.
        while mesh.server.connections.len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG / 2, ended)
        .await
        .expect("a refused stream stays");
}

#[tokio::test]
async fn row_17_a_tunnel_is_cut_on_either_side_when_its_rule_names_the_upgrade_no_more() {
    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let mut tunnel = open_tunnel(&mesh).await;
    mesh.server_allows(RULE);
    assert_ends(&mut tunnel).await;

    let mesh = Pair::start(Protocol::Http, RULE_WITH_WEBSOCKET).await;
    let mut tunnel = open_tunnel(&mesh).await;
    mesh.client_allows(RULE);
    mesh.client_judges_again();
    assert_ends(&mut tunnel).await;
}
