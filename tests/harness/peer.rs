//! Whoever holds an SVID and its key, as a thief or a foreign program would use them: straight to a listener, past every
//! sidecar. What it is shown by the other side it believes, because what is tested is the other side.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::Stream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use weft_wire::v1;

/// A certificate chain with its private key.
#[derive(Debug, Clone)]
pub struct Svid {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key_pkcs8: Vec<u8>,
}

impl Svid {
    /// What lies in a sidecar's runtime folder now.
    #[track_caller]
    pub fn of_sidecar(runtime: &Path) -> Self {
        let text = std::fs::read(runtime.join("svid.json")).expect("the sidecar has an SVID");
        let stored: Value = serde_json::from_slice(&text).expect("an SVID's file");
        let decode = |value: &Value| {
            STANDARD
                .decode(value.as_str().expect("a string"))
                .expect("base64")
        };
        Self {
            chain: stored["chain"]
                .as_array()
                .expect("a chain")
                .iter()
                .map(|der| CertificateDer::from(decode(der)))
                .collect(),
            key_pkcs8: decode(&stored["key"]),
        }
    }

    /// The operator's, from a context folder.
    #[track_caller]
    pub fn of_operator(context: &Path) -> Self {
        let pem = std::fs::read(context.join("operator.pem")).expect("a chain");
        let key = std::fs::read(context.join("operator.key")).expect("a key");
        Self {
            chain: CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<_, _>>()
                .expect("PEM"),
            key_pkcs8: PrivatePkcs8KeyDer::from_pem_slice(&key)
                .expect("PEM")
                .secret_pkcs8_der()
                .to_vec(),
        }
    }

    /// What the control plane answered to a request for this key.
    pub fn issued(answer: &v1::IssuedSvid, key_pkcs8: &[u8]) -> Self {
        Self {
            chain: answer
                .chain
                .iter()
                .map(|der| CertificateDer::from(der.to_vec()))
                .collect(),
            key_pkcs8: key_pkcs8.to_vec(),
        }
    }

    /// The serial number of the leaf in lower-case hex, as the control plane prints it.
    #[track_caller]
    pub fn serial(&self) -> String {
        let (_, leaf) = x509_parser::parse_x509_certificate(&self.chain[0]).expect("a certificate");
        let digits: String = leaf
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        digits.trim_start_matches("00").to_owned()
    }

    /// Calls a gRPC listener with this SVID.
    pub fn channel(&self, address: SocketAddr) -> Channel {
        channel(address, Some(self.clone()))
    }

    /// A connection to a listener, with this SVID and the given name and protocol asked for.
    pub async fn connect(
        &self,
        address: SocketAddr,
        server_name: &str,
        alpn: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        connect(address, Some(self), server_name, alpn).await
    }

    /// To pose as a server with this SVID; clients may stay anonymous.
    pub fn server_config(&self, alpn: &str) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is there")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key())
            .expect("the key fits the certificate");
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Arc::new(config)
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_pkcs8.clone()).into()
    }
}

/// Calls a gRPC listener over TLS without any certificate.
pub fn anonymous_channel(address: SocketAddr) -> Channel {
    channel(address, None)
}

fn channel(address: SocketAddr, svid: Option<Svid>) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .timeout(CALL_LIMIT)
        .connect_with_connector_lazy(tower::service_fn(move |_: ::http::Uri| {
            let svid = svid.clone();
            async move {
                let stream = connect(address, svid.as_ref(), "control-plane.test", "h2").await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }))
}

/// A TLS connection, with a certificate or without.
pub async fn connect(
    address: SocketAddr,
    svid: Option<&Svid>,
    server_name: &str,
    alpn: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider())));
    let mut config = match svid {
        Some(svid) => builder
            .with_client_auth_cert(svid.chain.clone(), svid.key())
            .expect("the key fits the certificate"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

/// Sends these bytes as the one message of a call, whatever the method expects, and gives the bytes of every answer.
pub async fn call_raw(
    channel: Channel,
    path: &str,
    message: impl Into<Bytes>,
) -> Result<Vec<Bytes>, Status> {
    let message = message.into();
    let mut answers = stream_raw(channel, path, tokio_stream::once(message)).await?;
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

/// The same with many messages, and an answer at a time.
pub async fn stream_raw(
    channel: Channel,
    path: &str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
    let answer = grpc.streaming(Request::new(messages), path, AsIs).await?;
    Ok(answer.into_inner())
}

/// The codec that leaves bytes as they are.
#[derive(Debug, Clone, Copy)]
pub struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Believes every server that holds the key of what it shows.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// No call of a test takes longer, streams included.
const CALL_LIMIT: Duration = Duration::from_secs(30);
