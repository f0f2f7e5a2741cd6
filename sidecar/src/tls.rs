//! Mutual TLS between sidecars: the only place where a [`Peer`] is made, after a handshake that was checked twice.
//!
//! Invariants: TLS 1.3 only, the X25519MLKEM768 hybrid preferred, never 0-RTT. The verifiers ask the bundle that is in force at the
//! handshake, and whatever changed while it ran is caught by asking again after it. Session resumption is off on both sides (no
//! tickets are sent, none are kept), so each handshake is a full one; a measured need would have to earn it, keyed by endpoint,
//! expected identity and bundle revision.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName,
    OtherError, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use weft_identity::{Purpose, SpiffeId, VerifyError};
use weft_policy::Reason;

use crate::enforce::Refusal;
use crate::identity::{Identity, OwnSvid};
use crate::proof::Proof;
use crate::read_ahead::ReadAhead;
use crate::view::{Current, Enforced};

/// A handshake must be complete after this.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What an opaque port speaks.
pub const ALPN_TCP: &[u8] = b"weft-tcp";
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
pub const ALPN_HTTP2: &[u8] = b"h2";
/// Many streams over one connection.
pub const ALPN_MUX: &[u8] = b"weft/1";

/// The other end of a connection, proven by a handshake.
pub struct Peer {
    pub proof: Arc<Proof>,
    /// SHA-256 of its leaf certificate, in hexadecimal.
    pub leaf_sha256: String,
    /// What this side presented.
    own: Arc<OwnSvid>,
}

/// Makes connections of both roles; clones share it.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    current: Current,
    provider: Arc<CryptoProvider>,
    server: ArcSwapOption<CachedServer>,
}

/// The configuration that presents one SVID; made anew when the SVID is another.
struct CachedServer {
    own: Arc<OwnSvid>,
    config: Arc<ServerConfig>,
}

/// Why there is no connection. None of these is a denial by policy, except `Refused`.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("the handshake took longer than {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the configuration cannot be made")]
    Config(#[source] rustls::Error),
    #[error("the server name cannot be sent")]
    ServerName,
    #[error("the peer's SVID does not verify")]
    Peer(#[source] VerifyError),
    #[error("the peer is {got}, not {expected}")]
    OtherIdentity { expected: SpiffeId, got: SpiffeId },
    #[error("an SVID of this connection has expired")]
    Expired,
    #[error("the peer did not agree on the protocol")]
    Protocol,
    #[error("the peer may not be spoken with")]
    Refused(#[source] Refusal),
}

impl TlsError {
    /// How operators are told.
    pub fn refusal(&self) -> Refusal {
        if let Some(refusal) = self.refused() {
            return refusal.clone();
        }
        let mut detail = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            detail = format!("{detail}: {error}");
            cause = error.source();
        }
        Refusal::new(Reason::Unauthenticated).because(detail)
    }

    /// Whether the peer did something wrong, rather than leave or be slow.
    pub fn is_of_the_peer(&self) -> bool {
        match self {
            Self::Handshake(error) => rustls_error(error).is_some(),
            Self::Peer(_)
            | Self::OtherIdentity { .. }
            | Self::Protocol
            | Self::Expired
            | Self::Refused(_) => true,
            Self::Timeout | Self::Config(_) | Self::ServerName => false,
        }
    }

    /// The refusal, also where a verifier told it to rustls.
    fn refused(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Handshake(error) => match rustls_error(error)? {
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
                    cause.downcast_ref::<Self>().and_then(Self::refused)
                }
                _ => None,
            },
            Self::Timeout
            | Self::Config(_)
            | Self::ServerName
            | Self::Peer(_)
            | Self::OtherIdentity { .. }
            | Self::Expired
            | Self::Protocol => None,
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|cause| cause.downcast_ref())
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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self {
            shared: Arc::new(Shared {
                identity,
                current,
                provider,
                server: ArcSwapOption::empty(),
            }),
        }
    }

    /// Shakes hands as the server.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<ReadAhead>, Peer), TlsError> {
        let cached = self.server()?;
        let accepting =
            TlsAcceptor::from(Arc::clone(&cached.config)).accept(ReadAhead::new(stream));
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting)
            .await
            .map_err(|_| TlsError::Timeout)?;
        let stream = stream.map_err(TlsError::Handshake)?;
        let peer = self.check(
            stream.get_ref().1,
            Purpose::ClientAuth,
            Arc::clone(&cached.own),
        )?;
        Ok((stream, peer))
    }

    /// Shakes hands as the client and insists on one identity.
    pub async fn connect(
        &self,
        stream: TcpStream,
        expected: &Expected<'_>,
    ) -> Result<(client::TlsStream<ReadAhead>, Peer), TlsError> {
        let own = Arc::clone(&self.shared.identity.load());
        let config = self.client(&own, expected)?;
        let name = ServerName::try_from(expected.server_name.to_owned())
            .map_err(|_| TlsError::ServerName)?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, ReadAhead::new(stream));
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

    /// Asks everything again, of what is in force now. Only this makes a [`Peer`].
    fn check(
        &self,
        connection: &CommonState,
        purpose: Purpose,
        own: Arc<OwnSvid>,
    ) -> Result<Peer, TlsError> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let enforced = self.shared.current.load();
        let proof = verify(chain, &enforced, purpose)?;
        let leaf = chain
            .first()
            .ok_or(TlsError::Peer(VerifyError::NoCertificate))?;
        let leaf_sha256 = hex(digest::digest(&digest::SHA256, leaf).as_ref());
        let peer = Peer {
            proof: Arc::new(proof),
            leaf_sha256,
            own,
        };
        // Also the own SVID, which no verifier of this side looked at.
        if peer.is_expired(Timestamp::now()) {
            return Err(TlsError::Expired);
        }
        Ok(peer)
    }

    /// The server's configuration for the SVID of now.
    fn server(&self) -> Result<Arc<CachedServer>, TlsError> {
        let own = Arc::clone(&self.shared.identity.load());
        if let Some(cached) = self.shared.server.load_full()
            && Arc::ptr_eq(&cached.own, &own)
        {
            return Ok(cached);
        }
        let verifier = Arc::new(Verifier {
            shared: Arc::downgrade(&self.shared),
            only: None,
        });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.shared.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Config)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.certified))));
        config.alpn_protocols = [ALPN_MUX, ALPN_HTTP2, ALPN_HTTP1, ALPN_TCP]
            .map(<[u8]>::to_vec)
            .into();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        let cached = Arc::new(CachedServer {
            own,
            config: Arc::new(config),
        });
        self.shared.server.store(Some(Arc::clone(&cached)));
        Ok(cached)
    }

    fn client(&self, own: &OwnSvid, expected: &Expected<'_>) -> Result<ClientConfig, TlsError> {
        let verifier = Verifier {
            shared: Arc::downgrade(&self.shared),
            only: Some(expected.identity.clone()),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.shared.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(
                &own.certified,
            ))));
        config.alpn_protocols = expected
            .protocols
            .iter()
            .map(|name| name.to_vec())
            .collect();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }
}

impl Peer {
    /// Whether a request may begin now: neither SVID has expired and the peer would be believed again.
    pub fn may_begin(&self, enforced: &Enforced, now: Timestamp) -> Result<(), TlsError> {
        if self.is_expired(now) {
            return Err(TlsError::Expired);
        }
        self.proof.admit(enforced).map_err(TlsError::Refused)
    }

    /// Whom the handshake proved.
    pub fn id(&self) -> &SpiffeId {
        &self.proof.verified.id
    }

    /// Whether one of both SVIDs has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.own.verified.is_expired(now) || self.proof.verified.is_expired(now)
    }

    /// When the first of both SVIDs expires.
    pub fn expires(&self) -> Timestamp {
        let theirs = self.proof.verified.not_after;
        theirs.min(self.own.verified.not_after)
    }

    /// Whether this side would present the same SVID today.
    pub fn is_of(&self, own: &OwnSvid) -> bool {
        self.own.renewed_revision == own.renewed_revision
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

fn verify(
    chain: &[CertificateDer<'_>],
    enforced: &Enforced,
    purpose: Purpose,
) -> Result<Proof, TlsError> {
    let proof =
        Proof::of(chain, &enforced.bundle, purpose, Timestamp::now()).map_err(TlsError::Peer)?;
    proof.admit(enforced).map_err(TlsError::Refused)?;
    Ok(proof)
}

/// Verifies SVIDs in handshakes, against what is in force then.
struct Verifier {
    /// The configuration that holds the verifier is held there.
    shared: Weak<Shared>,
    /// As a client: the one identity that may answer.
    only: Option<SpiffeId>,
}

impl Verifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
    ) -> Result<(), rustls::Error> {
        let shared = self
            .shared
            .upgrade()
            .ok_or(rustls::Error::General("stopping".to_owned()))?;
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let verified = verify(&chain, &shared.current.load(), purpose)
            .map_err(certificate_error)?
            .verified;
        match &self.only {
            Some(only) if *only != verified.id => Err(certificate_error(TlsError::OtherIdentity {
                expected: only.clone(),
                got: verified.id,
            })),
            Some(_) | None => Ok(()),
        }
    }

    fn algorithms(&self) -> Result<Arc<CryptoProvider>, rustls::Error> {
        let shared = self
            .shared
            .upgrade()
            .ok_or(rustls::Error::General("stopping".to_owned()))?;
        Ok(Arc::clone(&shared.provider))
    }

    fn signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            leaf,
            signed,
            &self.algorithms()?.signature_verification_algorithms,
        )
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms()
            .map(|provider| {
                provider
                    .signature_verification_algorithms
                    .supported_schemes()
            })
            .unwrap_or_default()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(leaf, intermediates, Purpose::ClientAuth)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name routes; the SPIFFE ID is what is proven.
        self.judge(leaf, intermediates, Purpose::ServerAuth)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

fn certificate_error(error: TlsError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
