//! A certificate authority that signs whatever a test asks of it: every wrong kind of certificate comes from here.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use weft_identity::{Root, RootParts, WrappingKey};

use crate::fake_control_plane::new_root;
use crate::{Mesh, Svid};

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

impl Mesh {
    /// Signs below this mesh's own root, as only whoever holds the state folder and its key could.
    pub fn forge(&self) -> Forge {
        let key = std::fs::read_to_string(self.key_file()).expect("the wrapping key");
        let key = WrappingKey::parse(key.trim()).expect("a wrapping key");
        let stored = stored_root(&self.state());
        let field = |name: &str| {
            let text = stored[name].as_str().expect("a string");
            STANDARD.decode(text).expect("base64")
        };
        let context = format!("weft root key of {}", self.trust_domain());
        let opened = weft_identity::open(&key, context.as_bytes(), &field("sealedKey"));
        let parts = RootParts {
            certificate: CertificateDer::from(field("certificate")),
            key_pkcs8: opened.expect("the key opens it"),
        };
        Forge::of(&Root::from_parts(&parts).expect("a root"))
    }
}

/// The record of the root, cut out of the store's file: the process that runs has that file locked.
fn stored_root(state: &Path) -> Value {
    let files = std::fs::read_dir(state).expect("a state folder");
    let found = files
        .filter_map(|file| std::fs::read(file.ok()?.path()).ok())
        .find_map(|bytes| {
            let sealed = memmem::find(&bytes, b"\"sealedKey\"")?;
            let from = memmem::rfind(&bytes[..sealed], b"{")?;
            let length = memmem::find(&bytes[from..], b"}")? + 1;
            serde_json::from_slice(&bytes[from..from + length]).ok()
        });
    found.expect("a root in the store")
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
