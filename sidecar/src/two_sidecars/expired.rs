//! SVIDs that come to their end while connections are kept.

use super::*;
use crate::dial::Dialler;
use crate::metrics::{ListenerLabel, SideLabel};
use crate::mux::Carried;
use crate::mux::frame::HEADER;
use crate::tls::{ALPN_MUX, Tls};

const NAME: &str = "main.api.shop.weft.local";

const ASK: &str = "GET /orders/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_kept_connection_is_replaced_before_an_svid_of_it_expires() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let expires = mesh.gives(&mesh.server, Duration::from_secs(9));
    assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
    // As a renewal does; what is open still has the old one.
    mesh.gives(&mesh.server, HOUR);
    assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
    assert_eq!(accepted(&mesh.server), 1);

    let margin = Duration::from_secs(5);
    sleep_until(expires - margin).await;
    assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
    assert_eq!(accepted(&mesh.server), 2);
    // The server's side had not closed it yet: it was the pool that did not take it.
    assert!(Timestamp::now() < expires - Duration::from_secs(2));

    sleep_until(expires).await;
    assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
    assert_eq!(accepted(&mesh.server), 2);
    for sidecar in [&mesh.client, &mesh.server] {
        assert_eq!(sidecar.metrics.requests_on_expired_connection.get(), 0);
    }
}

#[tokio::test]
async fn row_01_a_kept_connection_takes_nothing_new_once_the_own_svid_is_another() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let mesh = Pair::start(protocol, RULE).await;
        for _ in 0..2 {
            assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
        }
        assert_eq!(accepted(&mesh.server), 1, "{protocol:?}");
        mesh.gives(&mesh.client, HOUR);
        assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
        assert_eq!(accepted(&mesh.server), 2, "{protocol:?}");
    }
}

#[tokio::test]
async fn row_01_an_endpoint_whose_svid_has_expired_is_passed_over_and_never_told_as_a_refusal() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let port = mesh.server.current.load().inbound[&service()].view.ports[0].clone();
    let (_other, address) = mesh.authority.server(&port, RULE).await;
    let expires = mesh.gives(&mesh.server, Duration::from_secs(1));
    sleep_until(expires).await;

    let answer = mesh.ask(ASK).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(!answer.contains("decision"), "{answer}");
    assert!(mesh.client.metrics.endpoint_failures.get() > 0);

    let expired = mesh.endpoint();
    let live = Endpoint {
        address,
        ..expired.clone()
    };
    mesh.client_sees_endpoints(vec![expired, live]);
    for _ in 0..4 {
        let answer = mesh.ask(ASK).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(forwarded(&mesh.server), 0);
}

#[tokio::test]
async fn row_01_with_an_expired_svid_of_its_own_a_sidecar_sends_no_request() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    assert!(mesh.ask(ASK).await.starts_with("HTTP/1.1 200"));
    let expires = mesh.gives(&mesh.client, Duration::from_secs(1));
    sleep_until(expires).await;
    let answer = mesh.ask(ASK).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(!answer.contains("decision"), "{answer}");
    assert_eq!(forwarded(&mesh.server), 1);
}

/// A client that minds no `GoAway`, with frames of its own.
#[tokio::test]
async fn row_01_no_stream_of_bytes_begins_on_a_shared_connection_whose_svid_has_expired() {
    let mesh = Pair::start(Protocol::Tcp, RULE_WITHOUT_HTTP).await;
    let expires = mesh.gives(&mesh.client, Duration::from_secs(3));
    let tls = Tls::new(mesh.client.identity.clone(), mesh.client.current.clone());
    let dialler = Dialler::new(Arc::clone(&mesh.client), tls);
    let endpoint = mesh.endpoint();
    let dialled = dialler.dial_mesh((&endpoint).into(), NAME, &[ALPN_MUX]);
    let (mut stream, _) = dialled.await.expect("its SVID holds yet");
    stream.write_all(&asking(1)).await.unwrap();
    assert_eq!(kinds_until_last(&mut stream, 1).await.first(), Some(&2));

    sleep_until(expires).await;
    stream.write_all(&asking(2)).await.unwrap();
    let kinds = kinds_until_last(&mut stream, 2).await;
    assert_eq!(kinds, [10], "a refusal, and nothing of the application");
}

/// Opens a slot for bytes, asks something on it and ends.
fn asking(slot: u8) -> Vec<u8> {
    let mut opening = Vec::new();
    Carried::Tcp.write_opening(NAME, &mut opening);
    let length = u8::try_from(opening.len()).unwrap();
    [
        &[1, 0, 0, slot, 0, 0, 0, length][..],
        &opening,
        &[2, 0, 0, slot, 0, 0, 0, 4],
        b"ping",
        &[3, 0, 0, slot, 0, 0, 0, 0],
    ]
    .concat()
}

/// The kinds of the frames that come for a slot until the server ends or resets it.
async fn kinds_until_last(stream: &mut (impl tokio::io::AsyncRead + Unpin), slot: u8) -> Vec<u8> {
    let reading = async {
        let mut kinds = Vec::new();
        loop {
            let mut header = [0; HEADER];
            stream.read_exact(&mut header).await.expect("a frame");
            let [kind, _, _, of, _, _, high, low] = header;
            // Data, and Refused with its decision.
            if matches!(kind, 2 | 10) {
                let mut data = vec![0; usize::from(u16::from_be_bytes([high, low]))];
                stream.read_exact(&mut data).await.expect("its payload");
            }
            if of == slot {
                kinds.push(kind);
                if matches!(kind, 3..=5 | 10) {
                    return kinds;
                }
            }
        }
    };
    tokio::time::timeout(LONG, reading)
        .await
        .expect("it stays open")
}

impl Pair {
    /// Gives a sidecar another SVID; answers when that expires.
    fn gives(&self, sidecar: &Sidecar, ttl: Duration) -> Timestamp {
        let key = new_key_and_csr().unwrap();
        let svid = self.authority.svid_for(&sidecar.config.own_id, key, ttl);
        let expires = svid.verified.not_after;
        sidecar.identity.publish(svid);
        expires
    }
}

async fn sleep_until(moment: Timestamp) {
    let left = moment.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

fn accepted(sidecar: &Sidecar) -> u64 {
    let label = ListenerLabel {
        listener: "inbound",
    };
    sidecar.metrics.accepted.get_or_create(&label).get()
}

fn forwarded(sidecar: &Sidecar) -> u64 {
    let label = SideLabel { side: "server" };
    sidecar.metrics.requests.get_or_create(&label).get()
}
