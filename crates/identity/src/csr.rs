//! Keys and the requests that carry their public halves.
//!
//! Invariant: a request contributes its public key and nothing else; names, flags and lifetimes in it are never even read.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use zeroize::Zeroizing;

use crate::{bundle::sha256, key::PrivateKey, templates};

/// A new private key, which stays on this host, and the request that may leave it.
pub struct KeyAndCsr {
    pub key_pkcs8: Zeroizing<Vec<u8>>,
    pub csr_der: Vec<u8>,
}

impl std::fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyAndCsr(redacted)")
    }
}

pub fn new_key_and_csr() -> Result<KeyAndCsr, CsrError> {
    let key = PrivateKey::generate().map_err(CsrError::Make)?;
    let csr = templates::request()
        .serialize_request(&key)
        .map_err(CsrError::Make)?;
    Ok(KeyAndCsr {
        key_pkcs8: key.to_pkcs8(),
        csr_der: csr.der().to_vec(),
    })
}

/// An ECDSA P-256 key whose private half signed the request that it came in.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub(crate) info: SubjectPublicKeyInfo,
}

impl PublicKey {
    /// SHA-256 over the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.info.subject_public_key_info())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:02x?})", self.fingerprint())
    }
}

pub fn read_csr(der: &[u8]) -> Result<PublicKey, CsrError> {
    if der.len() > CSR_LIMIT_BYTES {
        return Err(CsrError::TooLong {
            limit: CSR_LIMIT_BYTES,
        });
    }
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| CsrError::Unreadable)?;
    if !rest.is_empty() {
        return Err(CsrError::Unreadable);
    }
    let raw_key = request.certification_request_info.subject_pki.raw;
    let info = SubjectPublicKeyInfo::from_der(raw_key).map_err(|_| CsrError::KeyType)?;
    if info.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(CsrError::KeyType);
    }
    request
        .verify_signature()
        .map_err(|_| CsrError::Signature)?;
    Ok(PublicKey { info })
}

#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    #[error("a key and its request could not be made")]
    Make(#[source] rcgen::Error),
    #[error("the certificate request is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the certificate request cannot be read")]
    Unreadable,
    #[error("the certificate request must carry an ECDSA P-256 key")]
    KeyType,
    #[error("the certificate request is not signed by its own key")]
    Signature,
}

const CSR_LIMIT_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn a_request_yields_the_key_that_it_was_made_with() {
        let made = new_key_and_csr().unwrap();
        let key = KeyPair::try_from(made.key_pkcs8.as_slice()).unwrap();
        let read = read_csr(&made.csr_der).unwrap();
        assert_eq!(read.fingerprint(), sha256(&key.subject_public_key_info()));
        assert_ne!(
            read.fingerprint(),
            read_csr(&new_key_and_csr().unwrap().csr_der)
                .unwrap()
                .fingerprint()
        );
        assert_eq!(format!("{made:?}"), "KeyAndCsr(redacted)");
    }

    #[test]
    fn other_key_types_broken_signatures_and_noise_are_refused() {
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let csr = CertificateParams::default()
                .serialize_request(&key)
                .unwrap();
            assert!(matches!(read_csr(csr.der()), Err(CsrError::KeyType)));
        }
        let good = new_key_and_csr().unwrap().csr_der;
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(read_csr(&forged), Err(CsrError::Signature)));
        let mut longer = good.clone();
        longer.push(0);
        assert!(matches!(read_csr(&longer), Err(CsrError::Unreadable)));
        for cut in 0..good.len() {
            assert!(read_csr(&good[..cut]).is_err());
        }
        assert!(matches!(
            read_csr(&vec![0x30; CSR_LIMIT_BYTES + 1]),
            Err(CsrError::TooLong { .. })
        ));
    }
}
