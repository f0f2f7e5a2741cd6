//! Connections to the control plane: TLS 1.3 to exactly one SPIFFE ID, and gRPC on it.
//!
//! One HTTP/2 connection carries every call; it is made anew when the own SVID is renewed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use weft_identity::{
    JoinToken, Purpose, SpiffeId, TokenError, TrustBundle, VerifyError, verify_svid,
};

use crate::identity::Identity;
use crate::view::Current;

/// A way to the control plane's API; clones share its connection.
#[derive(Clone)]
pub struct ControlPlane {
    shared: Arc<Shared>,
}

struct Shared {
    api: String,
    identity: Identity,
    current: Current,
    /// The channel, and the SVID that it presents.
    channel: Mutex<Option<(u64, Channel)>>,
}

/// Why the control plane cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    #[error("`{0}` is no address of a control plane")]
    Address(String, #[source] tonic::transport::Error),
    #[error("TLS cannot be configured")]
    Tls(#[source] rustls::Error),
}

impl ControlPlane {
    pub fn new(
        api: String,
        identity: Identity,
        current: Current,
    ) -> Result<Self, ControlPlaneError> {
        // What `channel` does later cannot fail if this does not.
        endpoint(&api)?;
        Ok(Self {
            shared: Arc::new(Shared {
                api,
                identity,
                current,
                channel: Mutex::new(None),
            }),
        })
    }

    /// A channel that presents the SVID of now. It connects when it is used.
    pub fn channel(&self) -> Channel {
        let revision = self.shared.identity.load().renewed_revision;
        let mut cached = self
            .shared
            .channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((of, channel)) = cached.as_ref()
            && *of == revision
        {
            return channel.clone();
        }
        let channel = self.connect_lazily();
        *cached = Some((revision, channel.clone()));
        channel
    }

    fn connect_lazily(&self) -> Channel {
        let endpoint =
            endpoint(&self.shared.api).unwrap_or_else(|_| Endpoint::from_static("http://invalid"));
        let shared = Arc::clone(&self.shared);
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            // The bundle and the SVID are those of the moment of connecting.
            let trust = Trust::Bundle(Arc::clone(&shared.current.load().bundle));
            let own = Arc::clone(&shared.identity.load().certified);
            dial(shared.api.clone(), trust, Some(own))
        }))
    }
}

/// A channel for first contact: the server is believed by the root that the token names, and shows no more than that.
pub(crate) fn first_contact(
    attestation: &str,
    token: JoinToken,
) -> Result<Channel, ControlPlaneError> {
    let endpoint = endpoint(attestation)?;
    let address = attestation.to_owned();
    let token = Arc::new(token);
    Ok(
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            dial(address.clone(), Trust::Pinned(Arc::clone(&token)), None)
        })),
    )
}

fn endpoint(authority: &str) -> Result<Endpoint, ControlPlaneError> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| ControlPlaneError::Address(authority.to_owned(), error))?;
    // A peer that died without a word is noticed by the pings; a view is larger than one default window.
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .buffer_size(CALLS_QUEUED))
}

type Dialled = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

fn dial(authority: String, trust: Trust, own: Option<Arc<CertifiedKey>>) -> Dialled {
    Box::pin(async move {
        let config = client_config(trust, own).map_err(io::Error::other)?;
        let connect = async {
            let socket = TcpStream::connect(&authority).await?;
            socket.set_nodelay(true)?;
            TlsConnector::from(Arc::new(config))
                .connect(server_name(&authority)?, socket)
                .await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await??;
        Ok(TokioIo::new(stream))
    })
}

/// The name only routes: whom we speak with is proven by the SPIFFE ID.
fn server_name(authority: &str) -> io::Result<ServerName<'static>> {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(io::Error::other)
}

fn client_config(
    trust: Trust,
    own: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Verifier {
        trust,
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => {
            let own: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(own));
            builder.with_client_cert_resolver(own)
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// What makes the control plane's chain believable.
#[derive(Debug)]
enum Trust {
    Bundle(Arc<TrustBundle>),
    /// First contact: the chain brings its root, which must have the token's fingerprint.
    Pinned(Arc<JoinToken>),
}

#[derive(thiserror::Error)]
enum Disbelief {
    #[error("the control plane's certificate does not verify")]
    Verify(#[from] VerifyError),
    #[error("the control plane shows no usable root with the fingerprint of the join token")]
    Root(#[source] TokenError),
    #[error("{0} answers in the place of the control plane")]
    OtherIdentity(SpiffeId),
}

/// rustls shows its peers' errors by `Debug` alone, and a person is to read this one.
impl std::fmt::Debug for Disbelief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::bootstrap::chain_of(self))
    }
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn judge(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Disbelief> {
        let pinned;
        let bundle: &TrustBundle = match &self.trust {
            Trust::Bundle(bundle) => bundle,
            Trust::Pinned(token) => {
                pinned = token.pinned_bundle(chain).map_err(Disbelief::Root)?;
                &pinned
            }
        };
        // The root itself is no part of a chain that is verified.
        let chain: Vec<_> = chain
            .iter()
            .filter(|der| !bundle.roots.contains(*der))
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let verified = verify_svid(&chain, bundle, Purpose::ServerAuth, now)?;
        if verified.id != SpiffeId::for_control_plane(&bundle.trust_domain) {
            return Err(Disbelief::OtherIdentity(verified.id));
        }
        Ok(())
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
        let chain: Vec<_> = std::iter::once(leaf)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        self.judge(&chain, Timestamp::now())
            .map(|()| ServerCertVerified::assertion())
            .map_err(|disbelief| CertificateError::Other(OtherError(Arc::new(disbelief))).into())
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
        verify_tls13_signature(
            message,
            leaf,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const CALLS_QUEUED: usize = 32;
