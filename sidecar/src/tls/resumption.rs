//! Sessions that are resumed, and those that must not help who is no longer believed.

use std::collections::HashSet;

use jiff::Timestamp;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use weft_identity::{Revocations, Serial, TrustBundle, VerifyError, new_key_and_csr};
use weft_policy::Reason;

use super::*;
use crate::Sidecar;
use crate::two_sidecars::{Authority, copy_of};
use crate::view::Enforced;

type Met = Result<(Peer, HandshakeKind), TlsError>;

/// Two sidecars' TLS, over real sockets.
struct Ends {
    authority: Authority,
    client: End,
    server: End,
    listener: TcpListener,
}

struct End {
    sidecar: Arc<Sidecar>,
    tls: Tls,
}

impl Ends {
    async fn new() -> Self {
        let authority = Authority::new();
        Self {
            client: End::new(&authority, "shop/web").await,
            server: End::new(&authority, "shop/api").await,
            authority,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    async fn meet(&self) -> (Met, Met) {
        self.meet_at(&self.listener, NAME, ALPN_TCP).await
    }

    /// Shakes hands and lets one byte pass after it, and with it the ticket. What each end says.
    async fn meet_at(
        &self,
        listener: &TcpListener,
        server_name: &str,
        alpn: &'static [u8],
    ) -> (Met, Met) {
        let expected = Expected {
            identity: &self.server.sidecar.config.own_id,
            server_name,
            protocols: &[alpn],
        };
        let connecting = async {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
            let (mut stream, peer) = self.client.tls.connect(stream.unwrap(), &expected).await?;
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            // Nothing comes from who refused.
            let _ = stream.read_u8().await;
            Ok((peer, kind))
        };
        let accepting = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut stream, peer) = self.server.tls.accept(stream).await?;
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            let _ = stream.write_u8(1).await;
            let _ = stream.flush().await;
            Ok((peer, kind))
        };
        tokio::join!(connecting, accepting)
    }

    /// Two connections, of which the second resumed the session of the first: so would the next.
    async fn resuming() -> Self {
        let ends = Self::new().await;
        assert_eq!(kinds(ends.meet().await), [HandshakeKind::Full; 2]);
        assert_eq!(kinds(ends.meet().await), [HandshakeKind::Resumed; 2]);
        ends
    }
}

impl End {
    async fn new(authority: &Authority, workload: &str) -> Self {
        let sidecar = authority.sidecar(workload, "").await;
        let enforced = authority.enforced(&sidecar, |_| {});
        sidecar.current.publish(Arc::new(enforced));
        let tls = Tls::new(sidecar.identity.clone(), sidecar.current.clone());
        Self { sidecar, tls }
    }

    fn enforces(&self, change: impl FnOnce(&mut Enforced)) {
        let mut enforced = copy_of(&self.sidecar.current.load());
        change(&mut enforced);
        self.sidecar.current.publish(Arc::new(enforced));
    }

    fn revokes(&self, revocations: Revocations) {
        self.enforces(|enforced| enforced.revocations = Arc::new(revocations));
    }

    fn gets(&self, authority: &Authority, ttl: Duration) {
        let key = new_key_and_csr().unwrap();
        let svid = authority.svid_for(&self.sidecar.config.own_id, key, ttl);
        self.sidecar.identity.publish(svid);
    }
}

fn kinds((client, server): (Met, Met)) -> [HandshakeKind; 2] {
    [client.unwrap().1, server.unwrap().1]
}

/// Why the server refused a client that had resumed its session.
fn refused_when_resumed((client, server): (Met, Met)) -> TlsError {
    assert_eq!(client.unwrap().1, HandshakeKind::Resumed);
    server.expect_err("the server took a peer that it should not")
}

fn reason(error: &TlsError) -> Option<Reason> {
    match error {
        TlsError::Refused(refusal) => Some(refusal.reason),
        _ => None,
    }
}

#[tokio::test]
async fn row_14_who_resumes_after_its_serial_was_revoked_is_refused() {
    let ends = Ends::resuming().await;
    let serials = HashSet::from([Serial::new(&[3; 16])]);
    ends.server.revokes(Revocations {
        serials,
        ..Revocations::default()
    });
    let refused = refused_when_resumed(ends.meet().await);
    assert_eq!(reason(&refused), Some(Reason::Revoked), "{refused:?}");
    ends.server.revokes(Revocations::default());
    assert!(ends.meet().await.1.is_ok());
}

#[tokio::test]
async fn row_14_who_resumes_after_it_was_quarantined_is_refused() {
    let ends = Ends::resuming().await;
    let quarantined = HashSet::from([ends.client.sidecar.config.own_id.clone()]);
    ends.server.revokes(Revocations {
        quarantined,
        ..Revocations::default()
    });
    let refused = refused_when_resumed(ends.meet().await);
    assert_eq!(reason(&refused), Some(Reason::Quarantined), "{refused:?}");
}

#[tokio::test]
async fn row_14_who_resumes_after_its_root_left_the_bundle_is_refused() {
    let ends = Ends::resuming().await;
    let other = Authority::new().bundle;
    // The revision is the same: what counts is what the bundle holds.
    ends.server.enforces(|enforced| enforced.bundle = other);
    let refused = refused_when_resumed(ends.meet().await);
    assert!(
        matches!(refused, TlsError::Peer(VerifyError::Chain(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn row_14_a_client_refuses_a_server_that_was_revoked_when_it_resumes() {
    let ends = Ends::resuming().await;
    let identities = HashSet::from([ends.server.sidecar.config.own_id.clone()]);
    ends.client.revokes(Revocations {
        identities,
        ..Revocations::default()
    });
    let (client, server) = ends.meet().await;
    assert_eq!(server.unwrap().1, HandshakeKind::Resumed);
    let refused = client.expect_err("the client took a revoked server");
    assert_eq!(reason(&refused), Some(Reason::Revoked), "{refused:?}");
    // It was not the session: without one, it is refused too, in the handshake.
    let (client, server) = ends.meet().await;
    assert!(client.is_err() && server.is_err());
}

#[tokio::test]
async fn row_14_who_resumes_while_nothing_is_known_is_refused() {
    let ends = Ends::resuming().await;
    ends.server.enforces(|enforced| enforced.stale = true);
    let refused = refused_when_resumed(ends.meet().await);
    assert_eq!(reason(&refused), Some(Reason::Stale), "{refused:?}");
}

#[tokio::test]
async fn row_01_who_resumes_after_its_svid_expired_is_refused() {
    let ends = Ends::new().await;
    ends.client.gets(&ends.authority, Duration::from_secs(2));
    let expires = ends.client.sidecar.identity.load().verified.not_after;
    assert_eq!(kinds(ends.meet().await), [HandshakeKind::Full; 2]);
    assert_eq!(kinds(ends.meet().await), [HandshakeKind::Resumed; 2]);
    let left = Duration::try_from(Timestamp::now().duration_until(expires)).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(1100)).await;
    let (client, server) = ends.meet().await;
    assert!(matches!(client, Err(TlsError::Expired)), "{client:?}");
    // Resumed, as no certificate was asked for: it was the second look that refused it.
    assert!(
        matches!(server, Err(TlsError::Peer(VerifyError::Chain(_)))),
        "{server:?}"
    );
}

#[tokio::test]
async fn no_session_is_resumed_over_a_renewal_of_either_side_or_a_change_of_the_clients_bundle() {
    let ends = Ends::resuming().await;
    for end in [&ends.client, &ends.server] {
        end.gets(&ends.authority, Duration::from_secs(3600));
        assert_eq!(kinds(ends.meet().await), [HandshakeKind::Full; 2]);
        assert_eq!(kinds(ends.meet().await), [HandshakeKind::Resumed; 2]);
    }
    let known = &ends.authority.bundle;
    let roots = [known.roots.clone(), Authority::new().bundle.roots.clone()].concat();
    let both = TrustBundle::new(known.trust_domain.clone(), roots, known.revision).unwrap();
    ends.client
        .enforces(|enforced| enforced.bundle = Arc::new(both));
    assert_eq!(kinds(ends.meet().await), [HandshakeKind::Full; 2]);
    assert_eq!(kinds(ends.meet().await), [HandshakeKind::Resumed; 2]);
}

#[tokio::test]
async fn row_03_no_session_is_resumed_for_another_server_name_endpoint_or_protocol() {
    let ends = Ends::resuming().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (listener, name, alpn) in [
        (&ends.listener, "other.api.shop.weft.local", ALPN_TCP),
        (&ends.listener, NAME, ALPN_HTTP2),
        (&elsewhere, NAME, ALPN_TCP),
    ] {
        let met = ends.meet_at(listener, name, alpn).await;
        assert_eq!(kinds(met), [HandshakeKind::Full; 2]);
        let met = ends.meet_at(listener, name, alpn).await;
        assert_eq!(kinds(met), [HandshakeKind::Resumed; 2]);
    }
}

const NAME: &str = "main.api.shop.weft.local";
