//! The certificate authority: a root signs intermediates, an intermediate signs SVIDs.
//!
//! Invariant: no certificate outlives its issuer, and none names another trust domain than its issuer's.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, Issuer, PublicKeyData};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{
    csr::PublicKey,
    key::PrivateKey,
    spiffe::{SpiffeId, TrustDomain},
    templates::{self, Validity},
    verify::{self, Serial, VerifyError},
};

/// The mesh's own root with its key.
pub struct Root(Authority);

/// What is kept of a root. The key is to be sealed before it touches a disk.
pub struct RootParts {
    pub certificate: CertificateDer<'static>,
    pub key_pkcs8: Zeroizing<Vec<u8>>,
}

impl Root {
    pub fn generate(
        trust_domain: &TrustDomain,
        now: Timestamp,
        lifetime: Duration,
        serial: [u8; 16],
    ) -> Result<Self, CaError> {
        let serial = usable_serial(serial)?;
        let validity = Validity {
            not_before: backdated(now)?,
            not_after: after(now, lifetime)?,
        };
        let key = PrivateKey::generate().map_err(CaError::Sign)?;
        let params = templates::root(trust_domain, validity, &serial)?;
        let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
        Ok(Self(Authority::new(
            trust_domain.clone(),
            certificate.into(),
            params,
            key,
            validity,
        )))
    }

    pub fn to_parts(&self) -> RootParts {
        RootParts {
            certificate: self.0.certificate.clone(),
            key_pkcs8: self.0.issuer.key().to_pkcs8(),
        }
    }

    pub fn from_parts(parts: &RootParts) -> Result<Self, CaError> {
        let key = PrivateKey::from_pkcs8(&parts.key_pkcs8).map_err(|_| CaError::KeyUnreadable)?;
        let certificate = verify::parse(&parts.certificate).map_err(CaError::Certificate)?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::KeyMismatch);
        }
        let trust_domain = issuer_trust_domain(&certificate)?;
        let validity = Validity {
            not_before: verify::instant(certificate.validity().not_before.timestamp())
                .map_err(CaError::Certificate)?,
            not_after: verify::instant(certificate.validity().not_after.timestamp())
                .map_err(CaError::Certificate)?,
        };
        let issuer = Issuer::from_ca_cert_der(&parts.certificate, key).map_err(CaError::Sign)?;
        Ok(Self(Authority {
            trust_domain,
            certificate: parts.certificate.clone(),
            issuer,
            validity,
        }))
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    pub fn not_after(&self) -> Timestamp {
        self.0.validity.not_after
    }

    /// A new intermediate with a new key, which has no way out of the value: it lives in memory only.
    pub fn issue_intermediate(
        &self,
        now: Timestamp,
        lifetime: Duration,
        serial: [u8; 16],
    ) -> Result<Intermediate, CaError> {
        let serial = usable_serial(serial)?;
        let validity = self.0.validity_within(now, lifetime)?;
        let key = PrivateKey::generate().map_err(CaError::Sign)?;
        let params = templates::intermediate(&self.0.trust_domain, validity, &serial)?;
        let certificate = params
            .signed_by(&key, &self.0.issuer)
            .map_err(CaError::Sign)?;
        Ok(Intermediate(Authority::new(
            self.0.trust_domain.clone(),
            certificate.into(),
            params,
            key,
            validity,
        )))
    }
}

/// Signs SVIDs; never leaves the process that made it.
pub struct Intermediate(Authority);

/// Everything that a leaf's contents depend on.
#[derive(Debug)]
pub struct SvidRequest<'a> {
    pub id: &'a SpiffeId,
    pub public_key: &'a PublicKey,
    pub ttl: Duration,
    pub serial: [u8; 16],
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedSvid {
    /// The SVID, then its intermediate. Never the root.
    pub chain: Vec<CertificateDer<'static>>,
    pub serial: Serial,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Intermediate {
    pub fn issue_svid(&self, request: &SvidRequest<'_>) -> Result<IssuedSvid, CaError> {
        if !request.id.is_in(&self.0.trust_domain) {
            return Err(CaError::TrustDomain {
                wanted: self.0.trust_domain.clone(),
            });
        }
        if request.id.path().is_empty() {
            return Err(CaError::EmptyPath);
        }
        let serial = usable_serial(request.serial)?;
        let validity = self.0.validity_within(request.now, request.ttl)?;
        let params = templates::svid(request.id, validity, &serial)?;
        let leaf = params
            .signed_by(&request.public_key.info, &self.0.issuer)
            .map_err(CaError::Sign)?;
        Ok(IssuedSvid {
            chain: vec![leaf.into(), self.0.certificate.clone()],
            serial,
            not_before: validity.not_before,
            not_after: validity.not_after,
        })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    pub fn not_after(&self) -> Timestamp {
        self.0.validity.not_after
    }
}

struct Authority {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, PrivateKey>,
    validity: Validity,
}

impl Authority {
    fn new(
        trust_domain: TrustDomain,
        certificate: CertificateDer<'static>,
        params: CertificateParams,
        key: PrivateKey,
        validity: Validity,
    ) -> Self {
        Self {
            trust_domain,
            certificate,
            issuer: Issuer::new(params, key),
            validity,
        }
    }

    /// `lifetime` from now, cut to what this issuer has left.
    fn validity_within(&self, now: Timestamp, lifetime: Duration) -> Result<Validity, CaError> {
        let now = whole_second(now)?;
        if now >= self.validity.not_after || now < self.validity.not_before {
            return Err(CaError::IssuerNotValid);
        }
        Ok(Validity {
            not_before: backdated(now)?.max(self.validity.not_before),
            not_after: after(now, lifetime)?.min(self.validity.not_after),
        })
    }
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({}, key redacted)", self.0.trust_domain)
    }
}

impl std::fmt::Debug for RootParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootParts(key redacted)")
    }
}

impl std::fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Intermediate({}, key redacted)", self.0.trust_domain)
    }
}

/// Our CA certificates name their trust domain in their one URI (X509-SVID §3.2).
fn issuer_trust_domain(
    certificate: &x509_parser::prelude::X509Certificate<'_>,
) -> Result<TrustDomain, CaError> {
    if !certificate.is_ca() {
        return Err(CaError::NotCa);
    }
    let uri = verify::only_uri(certificate).map_err(CaError::Certificate)?;
    let id: SpiffeId = uri
        .parse()
        .map_err(|error| CaError::Certificate(VerifyError::SpiffeId(error)))?;
    if id.path().is_empty() {
        Ok(id.trust_domain())
    } else {
        Err(CaError::NotCa)
    }
}

/// RFC 5280 §4.1.2.2 wants a positive number.
fn usable_serial(bytes: [u8; 16]) -> Result<Serial, CaError> {
    let serial = Serial::new(&bytes);
    if serial.as_bytes().is_empty() {
        Err(CaError::ZeroSerial)
    } else {
        Ok(serial)
    }
}

fn backdated(now: Timestamp) -> Result<Timestamp, CaError> {
    whole_second(now)?
        .checked_sub(BACKDATE)
        .map_err(|_| CaError::Time)
}

fn after(now: Timestamp, lifetime: Duration) -> Result<Timestamp, CaError> {
    let whole = Duration::from_secs(lifetime.as_secs());
    whole_second(now)?
        .checked_add(whole)
        .map_err(|_| CaError::Time)
}

/// Certificates count in whole seconds; what we report must be what they say.
fn whole_second(at: Timestamp) -> Result<Timestamp, CaError> {
    Timestamp::from_second(at.as_second()).map_err(|_| CaError::Time)
}

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("a certificate could not be made")]
    Sign(#[source] rcgen::Error),
    #[error("a certificate's time is out of range")]
    Time,
    #[error("a serial number must not be zero")]
    ZeroSerial,
    #[error("the issuer is not valid at this time")]
    IssuerNotValid,
    #[error("this issuer signs for trust domain {wanted} only")]
    TrustDomain { wanted: TrustDomain },
    #[error("an SVID's SPIFFE ID needs a path")]
    EmptyPath,
    #[error("the root's private key cannot be read")]
    KeyUnreadable,
    #[error("the root's private key belongs to another certificate")]
    KeyMismatch,
    #[error("the root is not a CA certificate of a trust domain")]
    NotCa,
    #[error("the root's certificate cannot be used")]
    Certificate(#[source] VerifyError),
}

/// Clocks of peers may be behind by this much.
const BACKDATE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
