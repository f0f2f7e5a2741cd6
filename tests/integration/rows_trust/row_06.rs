//! Row 6: a CSR that asks for more than a key, an SVID that has expired, and a stolen one that renews in parallel.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_identity::{Purpose, TrustBundle, verify_svid};
use weft_tests::{Mesh, SidecarSpec, Svid, eventually};
use weft_wire::v1;

use super::{attest, join, new_request, renew};

#[tokio::test]
async fn row_06_a_csr_contributes_its_public_key_and_nothing_else() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/web").await;
    let (first, second) = (greedy_csr(), greedy_csr());
    let attested = attest(&mesh, &token, "shop/web", &first.1)
        .await
        .expect("its key is all that counts");
    assert_modest(&attested);
    let svid = Svid::issued(&attested, &first.0);
    let renewed = renew(&mesh, &svid, &second.1)
        .await
        .expect("its key is all that counts");
    assert_modest(&renewed);
    assert_ne!(attested.chain[0], renewed.chain[0]);
}

#[tokio::test]
async fn row_06_a_stolen_svid_that_renews_in_parallel_freezes_the_lineage() {
    let mesh = Mesh::start().await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    let stolen = Svid::of_sidecar(&web.runtime);
    let request = new_request();
    let answer = renew(&mesh, &stolen, &request.csr_der)
        .await
        .expect("nobody can tell a thief from the owner yet");
    let thief = Svid::issued(&answer, &request.key_pkcs8);
    // The thief uses what it got; from now on the two lines are apart.
    let next = new_request();
    renew(&mesh, &thief, &next.csr_der)
        .await
        .expect("still one line");

    // The owner's turn to renew.
    mesh.apply(
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {renewEvery: 1s}\n",
    )
    .await;
    mesh.audited("renew", "refused", &["shop/sa/web", "frozen", "in use"])
        .await;
    let shown = mesh
        .meshctl(["identity", "show", "shop/web", "-o", "json"])
        .await
        .ok()
        .json();
    assert_eq!(shown["lineages"][0]["state"], "frozen", "{shown}");
    for one in [&stolen, &thief] {
        let refused = renew(&mesh, one, &new_request().csr_der).await;
        assert_eq!(
            refused.expect_err("it is frozen").code(),
            tonic::Code::PermissionDenied
        );
    }
    // A new token begins a new lineage: the owner is back, the thief is not.
    join(&mesh, "shop/web").await;
    eventually("the new lineage is shown", || async {
        let shown = mesh
            .meshctl(["identity", "show", "shop/web", "-o", "json"])
            .await
            .json();
        let mut states: Vec<_> = shown["lineages"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|lineage| lineage["state"].as_str().unwrap_or_default().to_owned())
            .collect();
        states.sort();
        (states == ["active", "frozen"]).then_some(()).ok_or(shown)
    })
    .await;
}

/// Nobody waits for an SVID to expire: the root signs ones with the serial of a living lineage, which differ in their time alone.
#[tokio::test]
async fn row_06_an_expired_svid_renews_nothing_and_ends_its_connection() {
    let mesh = Mesh::start().await;
    let serial = number(&join(&mesh, "shop/web").await.serial());
    let forge = mesh.forge();
    let until = |left: time::Duration| {
        forge.sign("spiffe://test.example/ns/shop/sa/web", |params| {
            params.serial_number = Some(serial.clone());
            params.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
            params.not_after = time::OffsetDateTime::now_utc() + left;
        })
    };
    renew(&mesh, &until(time::Duration::HOUR), &new_request().csr_der)
        .await
        .expect("it has not expired");
    let expired = until(-time::Duration::SECOND);
    renew(&mesh, &expired, &new_request().csr_der)
        .await
        .expect_err("it has expired");
    mesh.audited(
        "call",
        "refused",
        &["handshake from 127.0.0.1", "CertExpired"],
    )
    .await;

    let began = Instant::now();
    let mut stream = until(2 * time::Duration::SECOND)
        .connect(mesh.api, "control-plane.test", "h2")
        .await
        .expect("it has not expired yet");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.expect("it is served");
    let limit = Duration::from_secs(5);
    let cut = tokio::time::timeout(limit, stream.read_to_end(&mut Vec::new())).await;
    assert!(cut.is_ok(), "it lives on after {:?}", began.elapsed());
    // Certificates count in whole seconds.
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "cut too early"
    );
}

/// A serial number as a certificate is told it.
fn number(hex: &str) -> SerialNumber {
    let digits = format!("{hex:0>32}");
    let bytes: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
        .collect();
    SerialNumber::from_slice(&bytes)
}

/// The key and a CSR that asks for an operator's name, to be a CA, to sign, and for a century.
fn greedy_csr() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "operator");
    params.subject_alt_names = [
        "spiffe://test.example/operator/ada",
        "spiffe://test.example/ns/weft/sa/control-plane",
    ]
    .map(|uri| SanType::URI(uri.try_into().expect("ASCII")))
    .to_vec();
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    params.custom_extensions = vec![
        // basicConstraints: CA.
        CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]),
        // privateKeyUsagePeriod: until 2126.
        CustomExtension::from_oid_content(
            &[2, 5, 29, 16],
            [&[0x30, 17, 0x81, 15][..], b"21260101000000Z"].concat(),
        ),
    ];
    let csr = params.serialize_request(&key).expect("a CSR");
    (key.serialize_der(), csr.der().to_vec())
}

#[track_caller]
fn assert_modest(answer: &v1::IssuedSvid) {
    let svid = Svid::issued(answer, &[]);
    let bundle =
        TrustBundle::try_from(answer.bundle.as_ref().expect("a bundle")).expect("readable");
    let now = Timestamp::now();
    // Both purposes, one URI, no CA, no signing: all of that is part of being an SVID.
    let verified = verify_svid(&svid.chain, &bundle, Purpose::ClientAuth, now).expect("an SVID");
    assert_eq!(verified.id.as_str(), "spiffe://test.example/ns/shop/sa/web");
    let day = SignedDuration::from_hours(24);
    assert!(
        verified.not_after.duration_since(now) <= day,
        "{verified:?}"
    );
    let text = String::from_utf8_lossy(&svid.chain[0]).into_owned();
    assert!(!text.contains("operator"));
}
