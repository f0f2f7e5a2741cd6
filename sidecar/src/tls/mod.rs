//! Mutual TLS between sidecars: the only place where a [`Peer`] is made, after a handshake that was checked again when it was over.
//!
//! Invariants: TLS 1.3 only, the X25519MLKEM768 hybrid preferred, never 0-RTT. The verifiers ask what is in force at the handshake, and
//! whatever changed while it ran is caught by asking again after it; that is also what stands between a resumed session, of which rustls
//! asks no verifier, and a peer that has expired, was revoked or quarantined, or whose root left the bundle.

mod chains;
mod config;
#[cfg(test)]
mod cost;
mod error;
mod peer;
mod recent;
#[cfg(test)]
mod resumption;
mod sessions;
mod verifier;

use std::sync::Arc;
use std::time::Duration;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use weft_identity::{Purpose, SpiffeId};

pub use error::TlsError;
pub use peer::Peer;

use crate::identity::{Identity, OwnSvid};
use crate::read_ahead::ReadAhead;
use crate::view::Current;
use chains::Chains;
use config::Configs;

/// A handshake must be complete after this.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What an opaque port speaks.
pub const ALPN_TCP: &[u8] = b"weft-tcp";
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
pub const ALPN_HTTP2: &[u8] = b"h2";
/// Many streams over one connection.
pub const ALPN_MUX: &[u8] = b"weft/1";

/// Makes connections of both roles; clones share it.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    current: Current,
    chains: Arc<Chains>,
    configs: Configs,
}

/// Whom a client connection is for.
pub struct Expected<'a> {
    pub identity: &'a SpiffeId,
    pub server_name: &'a str,
    /// Those that this side can speak there, the best first.
    pub protocols: &'a [&'static [u8]],
}

impl Tls {
    pub fn new(identity: Identity, current: Current) -> Self {
        Self::with_provider(identity, current, provider())
    }

    fn with_provider(identity: Identity, current: Current, provider: CryptoProvider) -> Self {
        let chains = Arc::new(Chains::new());
        let configs = Configs::new(Arc::clone(&chains), current.clone(), provider);
        Self {
            shared: Arc::new(Shared {
                identity,
                current,
                chains,
                configs,
            }),
        }
    }

    /// Shakes hands as the server.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<ReadAhead>, Peer), TlsError> {
        let cached = self.shared.configs.server(&self.shared.identity.load())?;
        let accepting =
            TlsAcceptor::from(Arc::clone(&cached.config)).accept(ReadAhead::new(stream));
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting)
            .await
            .map_err(|_| TlsError::Timeout)?;
        let stream = stream.map_err(TlsError::Handshake)?;
        let own = Arc::clone(&cached.own);
        let peer = self.check(stream.get_ref().1, Purpose::ClientAuth, own)?;
        Ok((stream, peer))
    }

    /// Shakes hands as the client and insists on one identity.
    pub async fn connect(
        &self,
        stream: TcpStream,
        expected: &Expected<'_>,
    ) -> Result<(client::TlsStream<ReadAhead>, Peer), TlsError> {
        let own = Arc::clone(&self.shared.identity.load());
        let address = stream.peer_addr().map_err(TlsError::Handshake)?;
        let (key, config) = self.shared.configs.client(&own, address, expected)?;
        let connected = self
            .shake_hands(TlsConnector::from(config), stream, expected, own)
            .await;
        if connected.is_err() {
            self.shared.configs.forget(&key);
        }
        connected
    }

    async fn shake_hands(
        &self,
        connector: TlsConnector,
        stream: TcpStream,
        expected: &Expected<'_>,
        own: Arc<OwnSvid>,
    ) -> Result<(client::TlsStream<ReadAhead>, Peer), TlsError> {
        let name = ServerName::try_from(expected.server_name.to_owned())
            .map_err(|_| TlsError::ServerName)?;
        let connecting = connector.connect(name, ReadAhead::new(stream));
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
            .await
            .map_err(|_| TlsError::Timeout)?;
        let stream = stream.map_err(TlsError::Handshake)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if !agreed.is_some_and(|agreed| expected.protocols.contains(&agreed)) {
            return Err(TlsError::Protocol);
        }
        let peer = self.check(stream.get_ref().1, Purpose::ServerAuth, own)?;
        if peer.id() != expected.identity {
            return Err(TlsError::OtherIdentity {
                expected: expected.identity.clone(),
                got: peer.id().clone(),
            });
        }
        Ok((stream, peer))
    }

    fn check(
        &self,
        connection: &rustls::CommonState,
        purpose: Purpose,
        own: Arc<OwnSvid>,
    ) -> Result<Peer, TlsError> {
        let Shared {
            chains, current, ..
        } = &*self.shared;
        Peer::of(connection, purpose, own, chains, current)
    }
}

/// The library's choice, with the suite that TLS 1.3 makes mandatory first: a handshake hashes much and encrypts little, and many processors
/// have instructions for SHA-256 but none for SHA-384.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}
