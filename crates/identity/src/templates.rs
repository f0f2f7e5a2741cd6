//! Every field of every certificate that this mesh makes, in one place.
//!
//! Invariant: no certificate is made from parameters that were not written here; a request contributes nothing but the names
//! and times that a template takes as arguments.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::{
    ca::CaError,
    spiffe::{SpiffeId, TrustDomain},
    verify::Serial,
};

/// Both ends are part of the validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: jiff::Timestamp,
    pub(crate) not_after: jiff::Timestamp,
}

/// Signs intermediates and nothing below them.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    validity: Validity,
    serial: &Serial,
) -> Result<CertificateParams, CaError> {
    authority(trust_domain, "root", 1, validity, serial)
}

/// Signs SVIDs and no further CA. It is not name-constrained: verifiers in use (webpki among them) refuse every chain with
/// a constraint on URIs, so the SPIFFE ID in each leaf is checked against the bundle's trust domain instead.
pub(crate) fn intermediate(
    trust_domain: &TrustDomain,
    validity: Validity,
    serial: &Serial,
) -> Result<CertificateParams, CaError> {
    let mut params = authority(trust_domain, "intermediate", 0, validity, serial)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// X509-SVID §4: the subject stays empty, so the SPIFFE ID is the only name, in a critical extension (RFC 5280 §4.2.1.6).
pub(crate) fn svid(
    id: &SpiffeId,
    validity: Validity,
    serial: &Serial,
) -> Result<CertificateParams, CaError> {
    let mut params = common(validity, serial)?;
    params.subject_alt_names = vec![uri(id.as_str())?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A request says nothing about its maker: the issuer reads only its key.
pub(crate) fn request() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

fn authority(
    trust_domain: &TrustDomain,
    role: &str,
    path_length: u8,
    validity: Validity,
    serial: &Serial,
) -> Result<CertificateParams, CaError> {
    let mut params = common(validity, serial)?;
    // The serial makes each issuer's name its own, so that chains stay readable while roots rotate.
    let short_serial: String = serial.to_string().chars().take(8).collect();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Weft");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{role} {short_serial}"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common(validity: Validity, serial: &Serial) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.key_identifier_method = KeyIdMethod::Sha256;
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into().map_err(CaError::Sign)?))
}

fn date(at: jiff::Timestamp) -> Result<OffsetDateTime, CaError> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| CaError::Time)
}
