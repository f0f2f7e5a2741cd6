//! Decides whether a presented chain is an X.509-SVID of the bundle's trust domain.
//!
//! Invariant: `Verified` is made here only, after the chain was built to a root of the bundle (rustls-webpki: signatures,
//! validity, CA flags, path length, critical extensions) and the leaf and its issuers kept every rule of the SPIFFE standard.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs as algorithms};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    bundle::TrustBundle,
    name::NameError,
    spiffe::{SpiffeId, TrustDomain},
};

/// A peer's identity with what limits it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    pub id: SpiffeId,
    pub serial: Serial,
    pub not_before: Timestamp,
    /// The earliest end of the leaf and of every intermediate between it and the root.
    pub not_after: Timestamp,
    /// Which bundle this was verified against.
    pub bundle_revision: u64,
}

impl Verified {
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// Whether the leaf is valid already, and neither it nor an intermediate has expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && !self.is_expired(now)
    }
}

/// What the peer uses its certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    ClientAuth,
    ServerAuth,
}

/// `chain` is what the peer sent: its SVID first, then intermediates in any order.
pub fn verify_svid(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    purpose: Purpose,
    now: Timestamp,
) -> Result<Verified, VerifyError> {
    let Some((leaf_der, intermediates)) = chain.split_first() else {
        return Err(VerifyError::NoCertificate);
    };
    if chain.len() > CHAIN_LIMIT {
        return Err(VerifyError::ChainTooLong { limit: CHAIN_LIMIT });
    }
    let leaf = parse(leaf_der)?;
    let id = check_leaf(&leaf, bundle)?;

    let end_entity = EndEntityCert::try_from(leaf_der).map_err(VerifyError::Chain)?;
    let path = end_entity
        .verify_for_usage(
            ALGORITHMS,
            &bundle.anchors,
            intermediates,
            unix_time(now)?,
            usage(purpose),
            None,
            None,
        )
        .map_err(VerifyError::Chain)?;
    let mut not_after = instant(leaf.validity().not_after.timestamp())?;
    for issuer in path.intermediate_certificates() {
        let der = issuer.der();
        let issuer = parse(&der)?;
        check_issuer(&issuer, &bundle.trust_domain)?;
        not_after = not_after.min(instant(issuer.validity().not_after.timestamp())?);
    }
    Ok(Verified {
        id,
        serial: Serial::new(leaf.raw_serial()),
        not_before: instant(leaf.validity().not_before.timestamp())?,
        not_after,
        bundle_revision: bundle.revision,
    })
}

/// The rules that the standard sets for a leaf (X509-SVID §2, §4 and §5.2).
fn check_leaf(leaf: &X509Certificate<'_>, bundle: &TrustBundle) -> Result<SpiffeId, VerifyError> {
    let id = only_uri(leaf)?
        .parse::<SpiffeId>()
        .map_err(VerifyError::SpiffeId)?;
    if !id.is_in(&bundle.trust_domain) {
        return Err(VerifyError::TrustDomain {
            found: id.trust_domain(),
            wanted: bundle.trust_domain.clone(),
        });
    }
    if id.path().is_empty() {
        return Err(VerifyError::EmptyPath);
    }
    if leaf.is_ca() {
        return Err(VerifyError::LeafIsCa);
    }
    let key_usage = leaf
        .key_usage()
        .map_err(|_| VerifyError::Unreadable)?
        .ok_or(VerifyError::NoDigitalSignature)?;
    if !key_usage.value.digital_signature() {
        return Err(VerifyError::NoDigitalSignature);
    }
    if key_usage.value.key_cert_sign() || key_usage.value.crl_sign() {
        return Err(VerifyError::LeafMaySign);
    }
    match leaf
        .extended_key_usage()
        .map_err(|_| VerifyError::Unreadable)?
    {
        None if bundle.foreign => {}
        Some(purposes) if purposes.value.client_auth && purposes.value.server_auth => {}
        None | Some(_) => return Err(VerifyError::ExtendedKeyUsage),
    }
    Ok(id)
}

/// What webpki does not ask of an issuer: leave to sign, and not to claim another domain (X509-SVID §3.2, §4.3).
fn check_issuer(
    issuer: &X509Certificate<'_>,
    trust_domain: &TrustDomain,
) -> Result<(), VerifyError> {
    let key_usage = issuer.key_usage().map_err(|_| VerifyError::Unreadable)?;
    if !issuer.is_ca() || !key_usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(VerifyError::IssuerMayNotSign);
    }
    for uri in uris(issuer)? {
        let id = uri.parse::<SpiffeId>().map_err(VerifyError::SpiffeId)?;
        if !id.is_in(trust_domain) || !id.path().is_empty() {
            return Err(VerifyError::IssuerIdentity);
        }
    }
    Ok(())
}

pub(crate) fn only_uri<'c>(leaf: &'c X509Certificate<'_>) -> Result<&'c str, VerifyError> {
    match uris(leaf)?.as_slice() {
        [uri] => Ok(uri),
        found => Err(VerifyError::UriCount { found: found.len() }),
    }
}

fn uris<'c>(certificate: &'c X509Certificate<'_>) -> Result<Vec<&'c str>, VerifyError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| VerifyError::Unreadable)?;
    let names = names
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(Ok(*uri)),
            GeneralName::Invalid(..) => Some(Err(VerifyError::Unreadable)),
            _ => None,
        })
        .collect()
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, VerifyError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(VerifyError::Unreadable),
    }
}

fn usage(purpose: Purpose) -> KeyUsage {
    match purpose {
        Purpose::ClientAuth => KeyUsage::client_auth(),
        Purpose::ServerAuth => KeyUsage::server_auth(),
    }
}

fn unix_time(now: Timestamp) -> Result<UnixTime, VerifyError> {
    let seconds = u64::try_from(now.as_second()).map_err(|_| VerifyError::Time)?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

pub(crate) fn instant(seconds: i64) -> Result<Timestamp, VerifyError> {
    Timestamp::from_second(seconds).map_err(|_| VerifyError::Time)
}

/// A certificate's serial number: big-endian, without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

impl Serial {
    pub fn new(bytes: &[u8]) -> Self {
        let start = bytes
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(bytes.len());
        Self(bytes.get(start..).unwrap_or_default().into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("00");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Serial {
    type Err = SerialError;

    /// Hexadecimal, with or without the colons that other tools print.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| {
                c.to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
                    .ok_or(SerialError)
            })
            .collect::<Result<_, _>>()?;
        if digits.is_empty() || digits.len() > 2 * SERIAL_LIMIT_BYTES {
            return Err(SerialError);
        }
        let mut bytes: Vec<u8> = digits
            .rchunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        bytes.reverse();
        Ok(Self::new(&bytes))
    }
}

crate::name::string_form!(Serial, "^[0-9a-fA-F:]+$");

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 1 to 20 bytes in hexadecimal")]
pub struct SerialError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the peer sent no certificate")]
    NoCertificate,
    #[error("the peer sent more than {limit} certificates")]
    ChainTooLong { limit: usize },
    #[error("a certificate of the chain cannot be read")]
    Unreadable,
    #[error("a certificate holds a time that cannot be represented")]
    Time,
    #[error("the chain does not verify against the trust bundle")]
    Chain(#[source] webpki::Error),
    #[error("an SVID carries exactly one URI name, this one has {found}")]
    UriCount { found: usize },
    #[error("the certificate's URI is not a SPIFFE ID")]
    SpiffeId(#[source] NameError),
    #[error("the SVID belongs to trust domain {found}, not {wanted}")]
    TrustDomain {
        found: TrustDomain,
        wanted: TrustDomain,
    },
    #[error("the SPIFFE ID of an SVID needs a path")]
    EmptyPath,
    #[error("an SVID must not be a CA certificate")]
    LeafIsCa,
    #[error("an SVID must not be allowed to sign certificates or revocation lists")]
    LeafMaySign,
    #[error("an SVID needs the key usage digitalSignature")]
    NoDigitalSignature,
    #[error("an SVID needs the extended key usages of both client and server")]
    ExtendedKeyUsage,
    #[error("an intermediate of the chain is not allowed to sign certificates")]
    IssuerMayNotSign,
    #[error("an intermediate of the chain claims an identity that no issuer may have")]
    IssuerIdentity,
}

/// Ours has two; a federated mesh or an operator's own root may put more between.
const CHAIN_LIMIT: usize = 6;
/// RFC 5280 §4.1.2.2.
const SERIAL_LIMIT_BYTES: usize = 20;
/// No SHA-1, no RSA under 2048 bits.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

#[cfg(test)]
mod tests;
