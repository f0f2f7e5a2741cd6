//! TLS of the control plane's listeners: 1.3 only, its own SVID hot-swapped, and on the API a client certificate that
//! [`weft_identity::verify_svid`] accepts and nobody has revoked.
//!
//! No session is ever resumed here, so every connection passes the verifier.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use weft_identity::{Purpose, Serial, TrustBundle, Verified, VerifyError, verify_svid};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::Ca;
use crate::revocations::Distrust;

/// For the mTLS API.
pub(crate) fn api(ca: &Arc<Ca>, distrust: Distrust) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = provider();
    let verifier = PeerVerifier {
        bundle: Arc::clone(ca.bundle()),
        distrust,
        provider: Arc::clone(&provider),
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Resolver {
            ca: Arc::clone(ca),
            is_first_contact: false,
        }));
    Ok(finished(config))
}

/// For first contact: no client certificate, and the root in the chain, because a join token pins it.
pub(crate) fn first_contact(ca: &Arc<Ca>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver {
            ca: Arc::clone(ca),
            is_first_contact: true,
        }));
    Ok(finished(config))
}

/// Who a finished handshake proved.
pub(crate) fn peer(
    chain: Option<&[CertificateDer<'_>]>,
    bundle: &TrustBundle,
    now: Timestamp,
) -> Result<Verified, VerifyError> {
    verify_svid(chain.unwrap_or_default(), bundle, Purpose::ClientAuth, now)
}

fn finished(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

struct Resolver {
    ca: Arc<Ca>,
    is_first_contact: bool,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = self.ca.own();
        Some(if self.is_first_contact {
            Arc::clone(&own.chain_with_root)
        } else {
            Arc::clone(&own.chain)
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

struct PeerVerifier {
    bundle: Arc<TrustBundle>,
    distrust: Distrust,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let unusable = || rustls::Error::from(CertificateError::ApplicationVerificationFailure);
        let now = i64::try_from(now.as_secs()).map_err(|_| unusable())?;
        let now = Timestamp::from_second(now).map_err(|_| unusable())?;
        let chain: Vec<_> = std::iter::once(end_entity.clone())
            .chain(intermediates.iter().cloned())
            .collect();
        let verified = peer(Some(&chain), &self.bundle, now).map_err(|error| {
            let cause = rustls::OtherError(Arc::new(error));
            rustls::Error::from(CertificateError::Other(cause))
        })?;
        if self.distrust.load().identities.contains(&verified.id) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let proof = verify_tls13_signature(message, certificate, signature, algorithms)?;
        // A serial is asked for only now: anybody can show a certificate, and the use of a revoked one may freeze a lineage.
        if self.distrust.is_refused(serial(certificate)?) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(proof)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn serial(certificate: &CertificateDer<'_>) -> Result<Serial, CertificateError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    Ok(Serial::new(parsed.raw_serial()))
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerVerifier")
    }
}
