//! A certificate authority that signs whatever a test asks of it: every wrong kind of certificate comes from here.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use weft_identity::Root;

use crate::Svid;
use crate::fake_control_plane::new_root;

/// A root with an intermediate whose key is at hand.
pub struct Forge {
    pub root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Forge {
    /// With a root of its own that claims to be this trust domain's.
    pub fn new(trust_domain: &str) -> Self {
        Self::of(&new_root(&trust_domain.parse().expect("a trust domain")))
    }

    /// Below somebody's root.
    pub(crate) fn of(root: &Root) -> Self {
        let parts = root.to_parts();
        let key = KeyPair::try_from(parts.key_pkcs8.as_slice()).expect("the root's key");
        let root = Issuer::from_ca_cert_der(&parts.certificate, key).expect("a root");
        let mut params = unnamed();
        params
            .distinguished_name
            .push(DnType::CommonName, "intermediate of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = new_key();
        let intermediate = params.signed_by(&key, &root).expect("signed").into();
        Self {
            root: parts.certificate,
            intermediate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A good SVID of this SPIFFE ID but for one change.
    pub fn sign(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Svid {
        let (params, key) = (leaf(id, change), new_key());
        let leaf = params.signed_by(&key, &self.issuer).expect("signed");
        Svid {
            chain: vec![leaf.into(), self.intermediate.clone()],
            key_pkcs8: key.serialize_der(),
        }
    }

    /// What the holder of a good SVID can sign with it.
    pub fn sign_with_leaf(&self, holder: &str, id: &str) -> Svid {
        let (params, key) = (leaf(holder, |_| {}), new_key());
        let issuing = params.signed_by(&key, &self.issuer).expect("signed");
        let issuer = Issuer::new(params, key);
        let key = new_key();
        let signed = leaf(id, |_| {}).signed_by(&key, &issuer).expect("signed");
        Svid {
            chain: vec![signed.into(), issuing.into(), self.intermediate.clone()],
            key_pkcs8: key.serialize_der(),
        }
    }

    /// Nobody's but its own.
    pub fn self_signed(id: &str) -> Svid {
        let (params, key) = (leaf(id, |_| {}), new_key());
        Svid {
            chain: vec![params.self_signed(&key).expect("signed").into()],
            key_pkcs8: key.serialize_der(),
        }
    }
}

impl std::fmt::Debug for Forge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forge")
    }
}

/// The name that a test puts into a certificate.
pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn leaf(id: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = unnamed();
    params.subject_alt_names = vec![uri(id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    params
}

fn unnamed() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(1);
    params.not_after = now + Duration::hours(1);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}
