//! The peers' certificates: one P-256 authority, and one leaf a side with its SPIFFE ID and a DNS name.
//!
//! Weft does not use them: its control plane issues its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Where the files lie.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub authority: PathBuf,
    pub a: Leaf,
    pub b: Leaf,
}

/// One side's certificate and key, PEM.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub both: PathBuf,
    pub spiffe_id: String,
    pub name: String,
}

/// Makes them in `folder`.
pub(crate) fn make(folder: &Path) -> anyhow::Result<Certificates> {
    let authority = authority().context("cannot make the authority")?;
    let path = folder.join("authority.pem");
    write(&path, &authority.pem())?;
    Ok(Certificates {
        authority: path,
        a: leaf(folder, "a", &authority)?,
        b: leaf(folder, "b", &authority)?,
    })
}

impl Leaf {
    /// Reads both back, for a client of our own.
    pub(crate) fn read(
        certificate: &Path,
        key: &Path,
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("cannot read {}", certificate.display()))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read {}", key.display()))?;
        Ok((chain, key))
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "bench authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn leaf(
    folder: &Path,
    side: &str,
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> anyhow::Result<Leaf> {
    let spiffe_id = format!("spiffe://bench.test/ns/bench/sa/{side}");
    let name = format!("{side}.bench.test");
    let (certificate, key) = issue(&spiffe_id, &name, authority)
        .with_context(|| format!("cannot make the certificate of {name}"))?;
    let leaf = Leaf {
        certificate: folder.join(format!("{side}.pem")),
        key: folder.join(format!("{side}.key")),
        both: folder.join(format!("{side}-both.pem")),
        spiffe_id,
        name,
    };
    write(&leaf.certificate, &certificate)?;
    write(&leaf.key, &key)?;
    write(&leaf.both, &format!("{certificate}{key}"))?;
    Ok(leaf)
}

fn issue(
    spiffe_id: &str,
    name: &str,
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![
        SanType::URI(spiffe_id.try_into()?),
        SanType::DnsName(name.try_into()?),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
