//! The connection to the control plane: gRPC over TLS 1.3 with the operator's certificate.
//!
//! Invariant: the server is the control plane of the context's trust domain, by its exact SPIFFE ID, or there is no
//! connection. Host names and addresses prove nothing.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use weft_identity::{Purpose, SpiffeId, TrustBundle, verify_svid};
use weft_wire::v1;

use crate::context::Context;
use crate::failure::{Refused, Unreachable};

pub(crate) type Resources = v1::resources_client::ResourcesClient<Channel>;
pub(crate) type Decisions = v1::decisions_client::DecisionsClient<Channel>;
pub(crate) type Flows = v1::flows_client::FlowsClient<Channel>;
pub(crate) type Operations = v1::operations_client::OperationsClient<Channel>;

/// A connection over which the control plane has proved who it is.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) async fn connect(context: &Context) -> anyhow::Result<Self> {
        let address = context.settings.api.clone();
        let tls = TlsConnector::from(Arc::new(tls_config(context)?));
        let dialled = address.clone();
        let connector = service_fn(move |_| {
            let (tls, address) = (tls.clone(), dialled.clone());
            async move { dial(&tls, &address).await.map(TokioIo::new) }
        });
        let channel = endpoint()
            .connect_with_connector(connector)
            .await
            .map_err(|error| Unreachable {
                address,
                problem: innermost(&error),
            })?;
        Ok(Self { channel })
    }

    pub(crate) fn resources(&self) -> Resources {
        Resources::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub(crate) fn decisions(&self) -> Decisions {
        Decisions::new(self.channel.clone())
    }

    pub(crate) fn flows(&self) -> Flows {
        Flows::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub(crate) fn operations(&self) -> Operations {
        Operations::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }
}

/// The error of a call, for `map_err`.
pub(crate) fn refused(status: tonic::Status) -> anyhow::Error {
    Refused(status).into()
}

pub(crate) fn endpoint() -> Endpoint {
    // The address is the connector's business; this one only fills the `:authority` header.
    Endpoint::from_static("http://control-plane.weft")
        .connect_timeout(CONNECT_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
}

async fn dial(
    tls: &TlsConnector,
    address: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let shake_hands = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(std::io::Error::other)?;
        tls.connect(name, stream).await
    };
    tokio::time::timeout(CONNECT_TIMEOUT, shake_hands)
        .await
        .unwrap_or_else(|_| {
            Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "no answer in time",
            ))
        })
}

fn tls_config(context: &Context) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = ControlPlaneVerifier {
        bundle: context.bundle.clone(),
        provider: Arc::clone(&provider),
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(context.chain.clone(), context.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    // rustls asks no verifier on resumption, so there is none.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Accepts the control plane of one trust domain and nobody else.
#[derive(Debug)]
struct ControlPlaneVerifier {
    bundle: TrustBundle,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ControlPlaneVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf)
            .chain(intermediates)
            .cloned()
            .collect();
        let verified = verify_svid(&chain, &self.bundle, Purpose::ServerAuth, Timestamp::now())
            .map_err(|error| {
                rustls::Error::General(format!("its certificate is not trusted: {error}"))
            })?;
        if verified.id != SpiffeId::for_control_plane(&self.bundle.trust_domain) {
            return Err(rustls::Error::General(format!(
                "{} answered, which is not the control plane",
                verified.id
            )));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "TLS 1.2 is not spoken here".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The cause at the bottom: transports wrap it in levels that say nothing.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Never sent and never checked: identity is what proves the peer.
const SERVER_NAME: &str = "control-plane";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A page of resources, or what an apply replaced.
const MESSAGE_LIMIT: usize = 64 << 20;
