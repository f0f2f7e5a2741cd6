//! The roots of one trust domain.
//!
//! Invariant: a bundle holds at least one root, every one of them a readable CA certificate; an empty bundle, which could be
//! taken for "trust anything" or "not loaded yet", cannot be made.

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::spiffe::TrustDomain;

#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustBundle {
    pub trust_domain: TrustDomain,
    pub roots: Vec<CertificateDer<'static>>,
    /// Grows with each change, so that sessions of an older bundle can be told.
    pub revision: u64,
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    pub(crate) foreign: bool,
    pub(crate) digest: [u8; 32],
}

impl TrustBundle {
    pub fn new(
        trust_domain: TrustDomain,
        roots: Vec<CertificateDer<'static>>,
        revision: u64,
    ) -> Result<Self, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        if roots.len() > ROOT_LIMIT {
            return Err(BundleError::TooMany { limit: ROOT_LIMIT });
        }
        let anchors = roots
            .iter()
            .enumerate()
            .map(|(index, root)| read_root(index, root))
            .collect::<Result<_, _>>()?;
        let digest = digest_of(&trust_domain, &roots, false);
        Ok(Self {
            trust_domain,
            roots,
            revision,
            anchors,
            foreign: false,
            digest,
        })
    }

    /// What the bundle believes, whatever its revision: two with the same digest verify the same chains.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The bundle of another mesh. Its SVIDs may leave out the extended key usage, which the standard leaves optional
    /// (X509-SVID §4.4) and our own certificates always carry.
    #[must_use]
    pub fn federated(self) -> Self {
        Self {
            digest: digest_of(&self.trust_domain, &self.roots, true),
            foreign: true,
            ..self
        }
    }
}

fn digest_of(
    trust_domain: &TrustDomain,
    roots: &[CertificateDer<'static>],
    foreign: bool,
) -> [u8; 32] {
    let name = trust_domain.to_string();
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&[u8::from(foreign)]);
    // Each with its length, so that no two bundles look alike.
    for part in std::iter::once(name.as_bytes()).chain(roots.iter().map(AsRef::as_ref)) {
        hash.update(&part.len().to_be_bytes());
        hash.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

fn read_root(
    index: usize,
    root: &CertificateDer<'static>,
) -> Result<TrustAnchor<'static>, BundleError> {
    let (rest, certificate) =
        X509Certificate::from_der(root).map_err(|_| BundleError::Unreadable { index })?;
    if !rest.is_empty() {
        return Err(BundleError::Unreadable { index });
    }
    if !certificate.is_ca() {
        return Err(BundleError::NotCa { index });
    }
    let anchor =
        webpki::anchor_from_trusted_cert(root).map_err(|_| BundleError::Unreadable { index })?;
    Ok(anchor.to_owned())
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustBundle")
            .field("trust_domain", &self.trust_domain)
            .field("roots", &self.roots.len())
            .field("revision", &self.revision)
            .finish()
    }
}

/// What a join token pins: SHA-256 over the whole certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256(certificate)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("a trust bundle needs at least one root")]
    Empty,
    #[error("a trust bundle may hold at most {limit} roots")]
    TooMany { limit: usize },
    #[error("root {index} of the trust bundle is not a readable certificate")]
    Unreadable { index: usize },
    #[error("root {index} of the trust bundle is not a CA certificate")]
    NotCa { index: usize },
}

/// Rotation needs two; every root is tried at a handshake, so the number is bounded.
const ROOT_LIMIT: usize = 16;
