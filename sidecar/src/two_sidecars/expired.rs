//! SVIDs that come to their end while connections are kept.

use super::*;
use crate::metrics::{ListenerLabel, SideLabel};

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
