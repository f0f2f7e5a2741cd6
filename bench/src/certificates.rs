//! The peers' certificates, all P-256: a root, an intermediate, and one leaf a side with its SPIFFE ID and a DNS name.
//!
//! As long a chain as Weft's own, for each certificate in it is a signature to verify.
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
    let (root, intermediate) = authorities().context("cannot make the authorities")?;
    let path = folder.join("authority.pem");
    write(&path, &root.pem())?;
    Ok(Certificates {
        authority: path,
        a: leaf(folder, "a", &intermediate)?,
        b: leaf(folder, "b", &intermediate)?,
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

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authorities() -> Result<(Authority, Authority), rcgen::Error> {
    let root = CertifiedIssuer::self_signed(authority("bench root", 1), key()?)?;
    let below = CertifiedIssuer::signed_by(authority("bench intermediate", 0), key()?, &root)?;
    Ok((root, below))
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn leaf(folder: &Path, side: &str, authority: &Authority) -> anyhow::Result<Leaf> {
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
    authority: &Authority,
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
    let key = key()?;
    let certificate = params.signed_by(&key, authority)?;
    // The leaf first, then who issued it.
    let chain = certificate.pem() + &authority.pem();
    Ok((chain, key.serialize_pem()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
