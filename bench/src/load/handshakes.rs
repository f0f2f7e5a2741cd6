//! Full TLS handshakes against the server-side proxy.
//!
//! The client does not check the server's certificate: its own cost is not what is measured. It ends each connection in order and reads
//! until the server does, so that a client certificate that was refused counts as a failure: in TLS 1.3 the client alone would not notice.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::tally::{Bounds, Outcome, Tally, Window, pause};
use super::{Group, Handshakes};
use crate::certificates::Leaf;

/// Connects with one certificate, one group and one protocol.
#[derive(Clone)]
struct Client(TlsConnector);

impl Client {
    fn new(with: &Handshakes) -> anyhow::Result<Self> {
        let (chain, key) = Leaf::read(&with.certificate, &with.key)?;
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = match with.group {
            Group::Hybrid => vec![X25519MLKEM768],
            Group::X25519 => vec![X25519],
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS 1.3")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Indifferent))
            .with_client_auth_cert(chain, key)
            .context("the client's certificate")?;
        config.alpn_protocols = vec![with.alpn.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

pub(super) async fn run(
    to: SocketAddr,
    with: &Handshakes,
    window: Window,
) -> anyhow::Result<Outcome> {
    let client = Client::new(with)?;
    let name = ServerName::try_from(with.server_name.clone()).context("the server's name")?;
    let mut tasks = JoinSet::new();
    for _ in 0..with.connections {
        tasks.spawn(handshakes(to, client.clone(), name.clone(), window.bounds));
    }
    window.collect(tasks).await
}

async fn handshakes(
    to: SocketAddr,
    client: Client,
    name: ServerName<'static>,
    bounds: Bounds,
) -> Tally {
    let mut tally = Tally::default();
    while !bounds.is_over() {
        let began = Instant::now();
        match Box::pin(handshake(to, &client, name.clone())).await {
            Ok(()) => tally.done(began, 0, &bounds),
            Err(error) => {
                tally.fail(&format_args!("{error:#}"));
                pause().await;
            }
        }
    }
    tally
}

async fn handshake(
    to: SocketAddr,
    client: &Client,
    name: ServerName<'static>,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(to).await.context("cannot connect")?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    let connected = client.0.connect(name, stream).await;
    let mut stream = connected.context("the handshake failed")?;
    // A server may close without a word, but not with an alert. Those that speak HTTP/2 first send their settings.
    match stream.shutdown().await {
        Ok(()) => {}
        Err(error) if is_end(&error) => return Ok(()),
        Err(error) => return Err(error).context("cannot close"),
    }
    let mut rest = [0; 512];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(error).context("refused after the handshake"),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | BrokenPipe | NotConnected
    )
}

/// Believes everybody. Only for a client whose cost must be small and who says nothing secret.
#[derive(Debug)]
struct Indifferent;

impl ServerCertVerifier for Indifferent {
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
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
