use jiff::ToSpan;
use rcgen::KeyPair;
use x509_parser::prelude::{ParsedExtension, X509Certificate};

use super::*;
use crate::{JoinToken, Purpose, TrustBundle, fingerprint, new_key_and_csr, read_csr, verify_svid};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    "2026-11-24T12:00:00.75Z".parse().unwrap()
}

fn second() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn domain() -> TrustDomain {
    "weft.local".parse().unwrap()
}

fn root() -> Root {
    Root::generate(&domain(), now(), HOUR * 100, [0x11; 16]).unwrap()
}

fn issue(
    intermediate: &Intermediate,
    id: &str,
    ttl: Duration,
    at: Timestamp,
) -> Result<IssuedSvid, CaError> {
    let public_key = read_csr(&new_key_and_csr().unwrap().csr_der).unwrap();
    let id = id.parse().unwrap();
    intermediate.issue_svid(&SvidRequest {
        id: &id,
        public_key: &public_key,
        ttl,
        serial: [0x33; 16],
        now: at,
    })
}

/// Every field of a certificate except the key, the key identifiers' values and the signature.
fn describe(der: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> String {
    let certificate = verify::parse(der).unwrap();
    let issuer = verify::parse(issuer).unwrap();
    let mut lines = vec![
        format!("version: {}", certificate.version()),
        format!("serial: {}", Serial::new(certificate.raw_serial())),
        format!("signature: {}", certificate.signature_algorithm.algorithm),
        format!("issuer: {}", certificate.issuer()),
        format!("subject: {}", certificate.subject()),
        format!(
            "notBefore: {}",
            Timestamp::from_second(certificate.validity().not_before.timestamp()).unwrap()
        ),
        format!(
            "notAfter: {}",
            Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap()
        ),
        format!("key: {}", certificate.public_key().algorithm.algorithm),
    ];
    for extension in certificate.extensions() {
        let critical = if extension.critical {
            " (critical)"
        } else {
            ""
        };
        let content = match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => {
                format!("subjectKeyIdentifier: {} bytes", id.0.len())
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let same = id.key_identifier.as_ref().map(|id| id.0) == subject_key(&issuer);
                format!("authorityKeyIdentifier: the issuer's: {same}")
            }
            ParsedExtension::BasicConstraints(basic) => {
                format!(
                    "basicConstraints: ca {}, path length {:?}",
                    basic.ca, basic.path_len_constraint
                )
            }
            ParsedExtension::KeyUsage(usage) => format!("keyUsage: {usage}"),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let rest = usage.any
                    || usage.code_signing
                    || usage.email_protection
                    || usage.time_stamping
                    || usage.ocsp_signing
                    || !usage.other.is_empty();
                format!(
                    "extendedKeyUsage: server {}, client {}, more {rest}",
                    usage.server_auth, usage.client_auth
                )
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                let names: Vec<_> = names
                    .general_names
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                format!("subjectAltName: {}", names.join(", "))
            }
            other => format!("{other:?}"),
        };
        lines.push(format!("{content}{critical}"));
    }
    lines.join("\n") + "\n"
}

fn subject_key<'c>(certificate: &'c X509Certificate<'_>) -> Option<&'c [u8]> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

#[test]
fn certificates_hold_exactly_what_the_golden_file_says() {
    let root = root();
    let intermediate = root
        .issue_intermediate(now(), HOUR * 10, [0x22; 16])
        .unwrap();
    let svid = issue(
        &intermediate,
        "spiffe://weft.local/ns/shop/sa/web",
        HOUR,
        now(),
    )
    .unwrap();
    let found = format!(
        "# root\n{}\n# intermediate\n{}\n# SVID\n{}",
        describe(root.certificate(), root.certificate()),
        describe(intermediate.certificate(), root.certificate()),
        describe(&svid.chain[0], intermediate.certificate()),
    );
    assert_eq!(found, include_str!("golden.txt"), "found:\n{found}");
    assert_eq!(
        (svid.serial, svid.chain.len()),
        (Serial::new(&[0x33; 16]), 2)
    );
}

#[test]
fn nothing_outlives_its_issuer() {
    let root = root();
    let intermediate = root
        .issue_intermediate(now(), HOUR * 1000, [2; 16])
        .unwrap();
    assert_eq!(intermediate.not_after(), root.not_after());
    let svid = issue(&intermediate, "spiffe://weft.local/a", HOUR * 1000, now()).unwrap();
    assert_eq!(svid.not_after, root.not_after());
    assert_eq!(svid.not_before, second() - 60.seconds());
    for at in [root.not_after(), now() - 2.minutes()] {
        assert!(matches!(
            issue(&intermediate, "spiffe://weft.local/a", HOUR, at),
            Err(CaError::IssuerNotValid)
        ));
        assert!(matches!(
            root.issue_intermediate(at, HOUR, [2; 16]),
            Err(CaError::IssuerNotValid)
        ));
    }
}

#[test]
fn identities_of_no_path_or_another_domain_are_never_issued() {
    let intermediate = root().issue_intermediate(now(), HOUR, [2; 16]).unwrap();
    assert!(matches!(
        issue(&intermediate, "spiffe://other.local/a", HOUR, now()),
        Err(CaError::TrustDomain { .. })
    ));
    assert!(matches!(
        issue(&intermediate, "spiffe://weft.local", HOUR, now()),
        Err(CaError::EmptyPath)
    ));
    assert!(matches!(
        Root::generate(&domain(), now(), HOUR, [0; 16]),
        Err(CaError::ZeroSerial)
    ));
}

#[test]
fn row_06_a_request_for_more_gets_only_its_key_certified() {
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::default();
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.subject_alt_names = vec![rcgen::SanType::URI(
        "spiffe://weft.local/ns/weft/sa/control-plane"
            .try_into()
            .unwrap(),
    )];
    greedy.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    greedy.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 4, 1, 99999, 1],
        vec![5, 0],
    )];
    let csr = greedy.serialize_request(&key).unwrap();
    let public_key = read_csr(csr.der()).unwrap();

    let root = root();
    let intermediate = root.issue_intermediate(now(), HOUR * 10, [2; 16]).unwrap();
    let id = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
    let request = SvidRequest {
        id: &id,
        public_key: &public_key,
        ttl: HOUR,
        serial: [3; 16],
        now: now(),
    };
    let issued = intermediate.issue_svid(&request).unwrap();
    let bundle = TrustBundle::new(domain(), vec![root.certificate().clone()], 1).unwrap();
    let verified = verify_svid(&issued.chain, &bundle, Purpose::ClientAuth, now()).unwrap();
    assert_eq!((verified.id, verified.not_after), (id, second() + 1.hour()));
    assert_eq!(
        verify::parse(&issued.chain[0]).unwrap().public_key().raw,
        key.subject_public_key_info()
    );
}

#[test]
fn a_root_comes_back_from_its_parts_and_only_with_its_own_key() {
    let root = root();
    let parts = root.to_parts();
    let again = Root::from_parts(&parts).unwrap();
    assert_eq!(
        (again.trust_domain(), again.not_after()),
        (root.trust_domain(), root.not_after())
    );
    let intermediate = again.issue_intermediate(now(), HOUR, [2; 16]).unwrap();
    let svid = issue(&intermediate, "spiffe://weft.local/a", HOUR, now()).unwrap();
    let bundle = TrustBundle::new(domain(), vec![parts.certificate.clone()], 1).unwrap();
    assert!(verify_svid(&svid.chain, &bundle, Purpose::ServerAuth, now()).is_ok());

    let other = self::root().to_parts();
    let mixed = RootParts {
        certificate: parts.certificate.clone(),
        key_pkcs8: other.key_pkcs8,
    };
    assert!(matches!(
        Root::from_parts(&mixed),
        Err(CaError::KeyMismatch)
    ));
    let broken = RootParts {
        certificate: parts.certificate,
        key_pkcs8: Zeroizing::new(vec![1]),
    };
    assert!(matches!(
        Root::from_parts(&broken),
        Err(CaError::KeyUnreadable)
    ));
}

#[test]
fn debug_output_shows_no_key() {
    let root = root();
    let intermediate = root.issue_intermediate(now(), HOUR, [2; 16]).unwrap();
    let shown = format!("{root:?} {:?} {intermediate:?}", root.to_parts());
    assert_eq!(
        shown,
        "Root(weft.local, key redacted) RootParts(key redacted) Intermediate(weft.local, key redacted)"
    );
}

#[test]
fn row_07_at_first_contact_only_the_pinned_root_is_believed() {
    let ours = root();
    let token = JoinToken::new([1; 32], fingerprint(ours.certificate()), domain());
    let intermediate = ours.issue_intermediate(now(), HOUR, [2; 16]).unwrap();
    let mut chain = issue(
        &intermediate,
        "spiffe://weft.local/ns/weft/sa/control-plane",
        HOUR,
        now(),
    )
    .unwrap()
    .chain;
    assert!(token.pinned_bundle(&chain).is_err());
    chain.push(ours.certificate().clone());
    let bundle = token.pinned_bundle(&chain).unwrap();
    assert!(
        verify_svid(&chain, &bundle, Purpose::ServerAuth, now())
            .unwrap()
            .id
            .is_control_plane()
    );
    assert!(
        token
            .pinned_bundle(&[root().certificate().clone()])
            .is_err()
    );
    let leaf_pin = JoinToken::new([1; 32], fingerprint(&chain[0]), domain());
    assert!(leaf_pin.pinned_bundle(&chain).is_err());
}
