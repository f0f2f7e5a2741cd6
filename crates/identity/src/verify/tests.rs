use std::error::Error as _;

use jiff::ToSpan;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::*;
use crate::{Intermediate, Root, SvidRequest, new_key_and_csr, read_csr, revocation::Revocations};

const WEB: &str = "spiffe://weft.local/ns/shop/sa/web";
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn domain(text: &str) -> TrustDomain {
    text.parse().unwrap()
}

fn root(trust_domain: &str) -> Root {
    Root::generate(&domain(trust_domain), now(), HOUR * 1000, [1; 16]).unwrap()
}

fn bundle_of(root: &Root) -> TrustBundle {
    TrustBundle::new(
        root.trust_domain().clone(),
        vec![root.certificate().clone()],
        7,
    )
    .unwrap()
}

fn svid(intermediate: &Intermediate, id: &str) -> Vec<CertificateDer<'static>> {
    let public_key = read_csr(&new_key_and_csr().unwrap().csr_der).unwrap();
    let id = id.parse().unwrap();
    let request = SvidRequest {
        id: &id,
        public_key: &public_key,
        ttl: HOUR,
        serial: [3; 16],
        now: now(),
    };
    intermediate.issue_svid(&request).unwrap().chain
}

/// A mesh whose issuer signs whatever a test asks for.
struct Forge {
    bundle: TrustBundle,
    issuer: Issuer<'static, KeyPair>,
    intermediate: CertificateDer<'static>,
}

impl Forge {
    fn new() -> Self {
        Self::with_intermediate(|_| {})
    }

    fn with_intermediate(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority("root", 1);
        let certificate = params.self_signed(&key).unwrap();
        let bundle = TrustBundle::new(domain("weft.local"), vec![certificate.into()], 7).unwrap();
        let root = Issuer::new(params, key);

        params = authority("intermediate", 0);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let intermediate = params.signed_by(&key, &root).unwrap().into();
        Self {
            bundle,
            issuer: Issuer::new(params, key),
            intermediate,
        }
    }

    fn chain(&self, change: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
        let mut params = leaf();
        change(&mut params);
        let certificate = params
            .signed_by(&KeyPair::generate().unwrap(), &self.issuer)
            .unwrap();
        vec![certificate.into(), self.intermediate.clone()]
    }

    fn verify(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<Verified, VerifyError> {
        verify(&self.chain(change), &self.bundle)
    }
}

fn authority(name: &str, path_length: u8) -> CertificateParams {
    let mut params = leaf();
    params.subject_alt_names = vec![];
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![];
    params
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date(-60);
    params.not_after = date(3600);
    params.subject_alt_names = vec![uri(WEB)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

fn date(from_now: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(now().as_second() + from_now).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn verify(chain: &[CertificateDer<'_>], bundle: &TrustBundle) -> Result<Verified, VerifyError> {
    let client = verify_svid(chain, bundle, Purpose::ClientAuth, now());
    assert_eq!(
        client,
        verify_svid(chain, bundle, Purpose::ServerAuth, now())
    );
    client
}

#[test]
fn an_svid_of_the_mesh_is_verified_with_all_that_limits_it() {
    let root = root("weft.local");
    let intermediate = root.issue_intermediate(now(), HOUR * 10, [2; 16]).unwrap();
    let verified = verify(&svid(&intermediate, WEB), &bundle_of(&root)).unwrap();
    assert_eq!(verified.id.as_str(), WEB);
    assert_eq!(verified.serial, Serial::new(&[3; 16]));
    assert_eq!(verified.not_before, now() - 60.seconds());
    assert_eq!(verified.not_after, now() + 1.hour());
    assert_eq!(verified.bundle_revision, 7);
    assert!(
        Forge::new().verify(|_| {}).is_ok(),
        "the forge's unchanged leaf must be good, or its tests prove nothing"
    );
}

type Change = fn(&mut CertificateParams);
type Expected = fn(&VerifyError) -> bool;

#[test]
fn row_01_a_leaf_that_breaks_a_rule_is_refused() {
    use VerifyError as E;
    let cases: &[(&str, Change, Expected)] = &[
        (
            "expired",
            |p| p.not_after = date(-1),
            |e| matches!(e, E::Chain(webpki::Error::CertExpired { .. })),
        ),
        (
            "not yet valid",
            |p| p.not_before = date(60),
            |e| matches!(e, E::Chain(webpki::Error::CertNotValidYet { .. })),
        ),
        (
            "CA-flagged",
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            |e| matches!(e, E::LeafIsCa),
        ),
        (
            "keyCertSign",
            |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign),
            |e| matches!(e, E::LeafMaySign),
        ),
        (
            "cRLSign",
            |p| p.key_usages.push(KeyUsagePurpose::CrlSign),
            |e| matches!(e, E::LeafMaySign),
        ),
        (
            "no digitalSignature",
            |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            |e| matches!(e, E::NoDigitalSignature),
        ),
        (
            "no key usage",
            |p| p.key_usages.clear(),
            |e| matches!(e, E::NoDigitalSignature),
        ),
        (
            "server only",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            |e| matches!(e, E::ExtendedKeyUsage),
        ),
        (
            "client only",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            |e| matches!(e, E::ExtendedKeyUsage),
        ),
        (
            "any purpose",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
            |e| matches!(e, E::ExtendedKeyUsage),
        ),
        (
            "no purpose",
            |p| p.extended_key_usages.clear(),
            |e| matches!(e, E::ExtendedKeyUsage),
        ),
        (
            "no name",
            |p| p.subject_alt_names.clear(),
            |e| matches!(e, E::UriCount { found: 0 }),
        ),
        (
            "a DNS name only",
            |p| p.subject_alt_names = vec![SanType::DnsName("web".try_into().unwrap())],
            |e| matches!(e, E::UriCount { found: 0 }),
        ),
        (
            "two URIs",
            |p| {
                p.subject_alt_names
                    .push(uri("spiffe://weft.local/ns/shop/sa/api"))
            },
            |e| matches!(e, E::UriCount { found: 2 }),
        ),
        (
            "one URI twice",
            |p| p.subject_alt_names.push(uri(WEB)),
            |e| matches!(e, E::UriCount { found: 2 }),
        ),
        (
            "another URI beside",
            |p| p.subject_alt_names.push(uri("https://weft.local")),
            |e| matches!(e, E::UriCount { found: 2 }),
        ),
        (
            "not a SPIFFE ID",
            |p| p.subject_alt_names = vec![uri("https://weft.local/a")],
            |e| matches!(e, E::SpiffeId(_)),
        ),
        (
            "a dot segment",
            |p| p.subject_alt_names = vec![uri("spiffe://weft.local/ns/shop/../sa/web")],
            |e| matches!(e, E::SpiffeId(_)),
        ),
        (
            "empty path",
            |p| p.subject_alt_names = vec![uri("spiffe://weft.local")],
            |e| matches!(e, E::EmptyPath),
        ),
        (
            "another trust domain",
            |p| p.subject_alt_names = vec![uri("spiffe://other.local/ns/shop/sa/web")],
            |e| matches!(e, E::TrustDomain { .. }),
        ),
        (
            "an unknown critical extension",
            |p| {
                let mut extension =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                extension.set_criticality(true);
                p.custom_extensions = vec![extension];
            },
            |e| matches!(e, E::Chain(webpki::Error::UnsupportedCriticalExtension)),
        ),
    ];
    let forge = Forge::new();
    for (name, change, expected) in cases {
        let error = forge.verify(change).expect_err(name);
        assert!(expected(&error), "{name}: {error:?} {:?}", error.source());
    }
}

#[test]
fn row_01_chains_to_any_other_root_are_refused() {
    let ours = root("weft.local");
    let others = root("other.local");
    let namesake = root("weft.local");
    let bundle = bundle_of(&ours);
    for (name, issuer) in [
        ("another root", &namesake),
        ("another domain's root", &others),
    ] {
        let intermediate = issuer
            .issue_intermediate(now(), HOUR * 10, [2; 16])
            .unwrap();
        let id = format!("spiffe://{}/ns/shop/sa/web", issuer.trust_domain());
        assert!(
            verify(&svid(&intermediate, &id), &bundle).is_err(),
            "{name}"
        );
    }

    // A foreign root that mints one of our names: it verifies against no bundle at all.
    let forge = Forge::new();
    let chain = forge.chain(|_| {});
    let foreign = TrustBundle {
        trust_domain: domain("other.local"),
        ..forge.bundle.clone()
    };
    assert!(matches!(
        verify(&chain, &foreign),
        Err(VerifyError::TrustDomain { .. })
    ));
    assert!(matches!(
        verify(&chain, &bundle),
        Err(VerifyError::Chain(webpki::Error::UnknownIssuer))
    ));

    let self_signed = leaf().self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert!(matches!(
        verify(&[self_signed.into()], &bundle),
        Err(VerifyError::Chain(_))
    ));
    assert!(verify(&[ours.certificate().clone()], &bundle).is_err());
    let without_intermediate = &chain[..1];
    assert!(matches!(
        verify(without_intermediate, &forge.bundle),
        Err(VerifyError::Chain(_))
    ));
}

#[test]
fn row_01_an_intermediate_without_leave_to_sign_is_refused() {
    let cases: &[(&str, Change)] = &[
        ("not a CA", |p| p.is_ca = IsCa::ExplicitNoCa),
        ("no keyCertSign", |p| {
            p.key_usages = vec![KeyUsagePurpose::CrlSign]
        }),
        ("no key usage", |p| p.key_usages.clear()),
        ("expired", |p| p.not_after = date(-1)),
        ("not yet valid", |p| p.not_before = date(60)),
        ("another domain's name", |p| {
            p.subject_alt_names = vec![uri("spiffe://other.local")]
        }),
        ("a workload's name", |p| {
            p.subject_alt_names = vec![uri(WEB)]
        }),
    ];
    for (name, change) in cases {
        assert!(
            Forge::with_intermediate(change).verify(|_| {}).is_err(),
            "{name}"
        );
    }
}

#[test]
fn row_01_a_ca_below_the_intermediate_breaks_the_path_length() {
    let forge = Forge::new();
    let key = KeyPair::generate().unwrap();
    let below = authority("below", 0);
    let certificate = below.signed_by(&key, &forge.issuer).unwrap();
    let leaf = leaf()
        .signed_by(&KeyPair::generate().unwrap(), &Issuer::new(below, key))
        .unwrap();
    let chain = [leaf.into(), certificate.into(), forge.intermediate.clone()];
    assert!(matches!(
        verify(&chain, &forge.bundle),
        Err(VerifyError::Chain(webpki::Error::PathLenConstraintViolated))
    ));
}

#[test]
fn row_01_only_a_federated_mesh_may_leave_out_the_purposes() {
    let forge = Forge::new();
    let federated = forge.bundle.clone().federated();
    assert!(verify(&forge.chain(|p| p.extended_key_usages.clear()), &federated).is_ok());
    let server_only =
        forge.chain(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for purpose in [Purpose::ClientAuth, Purpose::ServerAuth] {
        assert_eq!(
            verify_svid(&server_only, &federated, purpose, now()),
            Err(VerifyError::ExtendedKeyUsage)
        );
    }
}

#[test]
fn the_chain_ends_with_its_earliest_certificate() {
    let forge = Forge::with_intermediate(|p| p.not_after = date(100));
    let verified = forge.verify(|_| {}).unwrap();
    assert_eq!(verified.not_after, now() + 100.seconds());
    assert!(!verified.is_expired(now() + 100.seconds()));
    assert!(verified.is_expired(now() + 101.seconds()));
}

#[test]
fn a_chain_may_also_name_dns_and_carry_its_root() {
    let forge = Forge::new();
    let mut chain = forge.chain(|p| {
        p.subject_alt_names
            .push(SanType::DnsName("web.shop".try_into().unwrap()))
    });
    chain.extend(forge.bundle.roots.clone());
    assert!(verify(&chain, &forge.bundle).is_ok());
}

#[test]
fn row_16_damaged_and_overlong_chains_are_refused_without_a_panic() {
    let forge = Forge::new();
    let chain = forge.chain(|_| {});
    assert_eq!(verify(&[], &forge.bundle), Err(VerifyError::NoCertificate));
    let long = vec![chain[0].clone(); CHAIN_LIMIT + 1];
    assert_eq!(
        verify(&long, &forge.bundle),
        Err(VerifyError::ChainTooLong { limit: CHAIN_LIMIT })
    );
    for cut in 0..chain[0].len() {
        let leaf = CertificateDer::from(chain[0][..cut].to_vec());
        assert!(
            verify_svid(
                &[leaf, chain[1].clone()],
                &forge.bundle,
                Purpose::ClientAuth,
                now()
            )
            .is_err()
        );
    }
    for position in 0..chain[0].len() {
        let mut der = chain[0].to_vec();
        der[position] ^= 0x41;
        let changed = [CertificateDer::from(der), chain[1].clone()];
        assert!(
            verify_svid(&changed, &forge.bundle, Purpose::ClientAuth, now()).is_err(),
            "byte {position}"
        );
    }
    let before_1970 = Timestamp::from_second(-1).unwrap();
    assert_eq!(
        verify_svid(&chain, &forge.bundle, Purpose::ClientAuth, before_1970),
        Err(VerifyError::Time)
    );
}

#[test]
fn bundles_hold_readable_ca_certificates_and_at_least_one() {
    use crate::BundleError;
    let forge = Forge::new();
    let leaf = forge.chain(|_| {})[0].clone();
    let root = forge.bundle.roots[0].clone();
    for (roots, error) in [
        (vec![], BundleError::Empty),
        (vec![root.clone(), leaf], BundleError::NotCa { index: 1 }),
        (
            vec![CertificateDer::from(vec![1, 2, 3])],
            BundleError::Unreadable { index: 0 },
        ),
        (vec![root; 17], BundleError::TooMany { limit: 16 }),
    ] {
        assert_eq!(
            TrustBundle::new(domain("weft.local"), roots, 1).unwrap_err(),
            error
        );
    }
}

#[test]
fn row_14_revocation_takes_an_identity_or_a_serial() {
    let verified = Forge::new().verify(|_| {}).unwrap();
    let mut revocations = Revocations::default();
    assert!(!revocations.is_revoked(&verified) && !revocations.is_quarantined(&verified.id));
    revocations.quarantined.insert(verified.id.clone());
    assert!(!revocations.is_revoked(&verified) && revocations.is_quarantined(&verified.id));
    revocations.serials.insert(verified.serial.clone());
    assert!(revocations.is_revoked(&verified));
    let by_identity = Revocations {
        identities: [verified.id.clone()].into(),
        ..Revocations::default()
    };
    assert!(by_identity.is_revoked(&verified));
}

#[test]
fn serials_print_and_read_as_hexadecimal() {
    assert_eq!(Serial::new(&[0, 0, 1, 0xab]).to_string(), "01ab");
    assert_eq!("1ab".parse(), Ok(Serial::new(&[1, 0xab])));
    assert_eq!("00:01:AB".parse(), Ok(Serial::new(&[1, 0xab])));
    assert_eq!(Serial::new(&[0, 0]).to_string(), "00");
    for text in ["", ":", "xyz", "1 2", &"a".repeat(41)] {
        assert!(text.parse::<Serial>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn serials_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
        let serial = Serial::new(&bytes);
        prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
    }

    #[test]
    fn noise_is_never_verified(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let chain = [CertificateDer::from(noise)];
        prop_assert!(parse(&chain[0]).is_err());
    }
}
