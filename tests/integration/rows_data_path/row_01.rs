//! Row 1: certificates of every wrong kind, shown by a client to a sidecar, and by a server to a sidecar that dials.
//!
//! Each test lets a good SVID of the same authority through at both ends, so that what is refused is refused for its own fault.

mod impostor;
mod view;

use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};
use rustls::AlertDescription;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use weft_tests::backend::Backend;
use weft_tests::forge::uri;
use weft_tests::{FakeControlPlane, Forge, Mesh, Recorder, Svid, eventually, peer, request};
use weft_wire::type_url;

use super::attack::{HTTP, exchange, status, straight};
use crate::rows_trust::join;
use impostor::Impostor;
use view::{inbound, outbound};

const WEB: &str = "spiffe://test.example/ns/shop/sa/web";
const API: &str = "spiffe://test.example/ns/shop/sa/api";
const CONTROL_PLANE: &str = "spiffe://test.example/ns/weft/sa/control-plane";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn row_01_no_wrong_client_certificate_gets_through_the_handshake_of_a_sidecar() {
    let mesh = Mesh::start().await;
    let fake = FakeControlPlane::start(mesh.trust_domain()).await;
    let (http, raw) = (Recorder::start().await, Backend::tcp().await);
    let spec = fake
        .joining(&mesh, "shop/api")
        .app("shop/api:http", http.address)
        .app("shop/api:raw", raw.address);
    let api = mesh.sidecar(spec).await;
    fake.say(type_url::INBOUND, vec![inbound()]);
    assert_eq!(fake.answer().await.error_detail, None);

    for (kind, svid) in wrong(fake.forge(), WEB) {
        for (port, alpn) in [("http", "http/1.1"), ("http", "h2"), ("raw", "weft-tcp")] {
            let name = format!("{port}.api.shop.test.example");
            let refusal = refusal_of(&svid, api.inbound, &name, alpn).await;
            assert!(
                is_about_the_certificate(refusal),
                "{kind}, {alpn}: {refusal:?}"
            );
            // Whoever does not wait for the end of the handshake gets no further.
            if let Ok(stream) = svid.connect(api.inbound, &name, alpn).await {
                let answer = exchange(stream, REQUEST).await;
                assert_eq!(answer, b"", "{kind}, {alpn}");
            }
        }
        assert_eq!(http.text(), "", "{kind}: a byte reached the application");
        assert_eq!(raw.count(), 0, "{kind}: the application was dialled");
        assert!(
            answers(&fake.forge().sign(WEB, |_| {}), api.inbound).await,
            "a good one after {kind}"
        );
        http.clear();
    }
    // No certificate at all.
    let bare = peer::connect(api.inbound, None, HTTP, "http/1.1").await;
    if let Ok(stream) = bare {
        assert_eq!(
            exchange(stream, REQUEST).await,
            b"",
            "without a certificate"
        );
    }
    assert_eq!(http.text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_a_sidecar_that_dials_says_nothing_to_a_server_with_a_wrong_certificate() {
    let mesh = Mesh::start().await;
    let fake = FakeControlPlane::start(mesh.trust_domain()).await;
    let spec = fake
        .joining(&mesh, "shop/web")
        .upstream("shop/api:http")
        .upstream("shop/api:raw");
    let web = mesh.sidecar(spec).await;
    let mut cases = wrong(fake.forge(), API);
    // A good SVID, but not that of whom the endpoint belongs to.
    cases.push(("somebody else's", fake.forge().sign(WEB, |_| {})));
    for (kind, svid) in cases {
        // Each poses at an address of its own: an endpoint that failed is passed over for a while.
        for (port, alpn) in [("http", "http/1.1"), ("raw", "weft-tcp")] {
            let impostor = Impostor::start(&svid, alpn).await;
            fake.say(type_url::OUTBOUND, vec![outbound(impostor.address)]);
            assert_eq!(fake.answer().await.error_detail, None);
            let upstream = web.upstream(&format!("shop/api:{port}"));
            // Bytes that lead nowhere are reset, perhaps before the connection is noticed.
            let answer = match TcpStream::connect(upstream).await {
                Ok(stream) => exchange(stream, REQUEST).await,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    Vec::new()
                }
            };
            let wanted = (port == "http").then_some(503);
            assert_eq!(status(&answer), wanted, "{kind}, {alpn}");
            impostor.assert_learnt_nothing(kind).await;
        }
        let honest = Impostor::start(&fake.forge().sign(API, |_| {}), "http/1.1").await;
        fake.say(type_url::OUTBOUND, vec![outbound(honest.address)]);
        assert_eq!(fake.answer().await.error_detail, None);
        let answer = request(
            web.upstream("shop/api:http"),
            "GET",
            "/",
            &[("Host", "api.shop")],
            b"",
        )
        .await;
        assert_eq!(
            answer.expect("an answer").status,
            200,
            "a good one after {kind}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_whoever_poses_as_the_control_plane_with_a_wrong_certificate_learns_nothing() {
    let mesh = Mesh::start().await;
    let fake = FakeControlPlane::start(mesh.trust_domain()).await;
    let mut cases = wrong(fake.forge(), CONTROL_PLANE);
    cases.push(("a workload's", fake.forge().sign(API, |_| {})));
    for (kind, mut svid) in cases {
        // The join token pins the root: whoever poses shows it along.
        svid.chain.push(fake.forge().root.clone());
        pose_as_control_plane(&mesh, &fake, kind, &svid).await;
    }
    let mut good = fake.forge().sign(CONTROL_PLANE, |_| {});
    good.chain.push(fake.forge().root.clone());
    let impostor = Impostor::start(&good, "h2").await;
    let spec = fake.joining(&mesh, "shop/web").set(
        "controlPlane",
        json!({"api": fake.address.to_string(), "attestation": impostor.address.to_string()}),
    );
    let _web = mesh.sidecar_process(spec).await;
    eventually("the good one is spoken with", || async {
        impostor.heard_something().then_some(()).ok_or(())
    })
    .await;
}

/// At first contact, and in the place of the API after a good first contact.
async fn pose_as_control_plane(mesh: &Mesh, fake: &FakeControlPlane, kind: &str, svid: &Svid) {
    let honest = fake.address.to_string();
    for is_first_contact in [true, false] {
        let impostor = Impostor::start(svid, "h2").await;
        let posing = impostor.address.to_string();
        let addresses = match is_first_contact {
            true => json!({"api": honest, "attestation": posing}),
            false => json!({"api": posing, "attestation": honest}),
        };
        let instance = format!("web-{}", impostor.address.port());
        let spec = fake
            .joining(mesh, "shop/web")
            .instance(&instance)
            .set("controlPlane", addresses);
        let _web = mesh.sidecar_process(spec).await;
        impostor.assert_learnt_nothing(kind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_the_control_planes_api_takes_no_wrong_certificate() {
    let mesh = Mesh::start().await;
    let forge = mesh.forge();
    for (kind, svid) in wrong(&forge, WEB) {
        let refusal = refusal_of(&svid, mesh.api, "control-plane.test", "h2").await;
        assert!(is_about_the_certificate(refusal), "{kind}: {refusal:?}");
    }
    for good in [forge.sign(WEB, |_| {}), join(&mesh, "shop/web").await] {
        let refusal = refusal_of(&good, mesh.api, "control-plane.test", "h2").await;
        assert_eq!(refusal, None);
    }
}

type Change = fn(&mut CertificateParams);

/// Certificates that nobody may believe to be this SPIFFE ID's, although whoever shows one holds its key.
fn wrong(forge: &Forge, id: &str) -> Vec<(&'static str, Svid)> {
    let (namesake, other) = (Forge::new("test.example"), Forge::new("other.example"));
    let foreign = id.replace("test.example", "other.example");
    let mut brought_along = namesake.sign(id, |_| {});
    brought_along.chain.push(namesake.root.clone());
    let mut all = vec![
        ("another root's", namesake.sign(id, |_| {})),
        ("another root's, shown along", brought_along),
        (
            "another domain's root's, of its own domain",
            other.sign(&foreign, |_| {}),
        ),
        (
            "another domain's root's, of our domain",
            other.sign(id, |_| {}),
        ),
        (
            "our root's, of another domain",
            forge.sign(&foreign, |_| {}),
        ),
        ("self-signed", Forge::self_signed(id)),
        (
            "signed with a workload's SVID",
            forge.sign_with_leaf(WEB, id),
        ),
    ];
    all.extend(
        FAULTS
            .iter()
            .map(|(kind, change)| (*kind, forge.sign(id, *change))),
    );
    all
}

/// What a certificate of the mesh's own authority must not be.
const FAULTS: &[(&str, Change)] = &[
    ("expired", |p| {
        p.not_after = time::OffsetDateTime::now_utc() - time::Duration::seconds(2)
    }),
    ("not yet valid", |p| {
        p.not_before = time::OffsetDateTime::now_utc() + time::Duration::minutes(10)
    }),
    ("CA-flagged", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
    }),
    ("with keyCertSign", |p| {
        p.key_usages.push(KeyUsagePurpose::KeyCertSign)
    }),
    ("with cRLSign", |p| {
        p.key_usages.push(KeyUsagePurpose::CrlSign)
    }),
    ("without digitalSignature", |p| {
        p.key_usages = vec![KeyUsagePurpose::KeyAgreement]
    }),
    ("for servers only", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    }),
    ("for clients only", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    }),
    ("for neither purpose", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]
    }),
    ("for any purpose", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]
    }),
    ("without a purpose", |p| p.extended_key_usages.clear()),
    ("without a name", |p| p.subject_alt_names.clear()),
    ("with a DNS name only", |p| {
        p.subject_alt_names = vec![SanType::DnsName("api.shop".try_into().expect("ASCII"))];
    }),
    ("with two URIs", |p| {
        p.subject_alt_names
            .push(uri("spiffe://test.example/ns/shop/sa/other"))
    }),
    ("with one URI twice", |p| {
        p.subject_alt_names.push(p.subject_alt_names[0].clone())
    }),
    ("with a URI of the web beside", |p| {
        p.subject_alt_names.push(uri("https://test.example/"))
    }),
    ("with an empty path", |p| {
        p.subject_alt_names = vec![uri("spiffe://test.example")]
    }),
    ("with a path of one slash", |p| {
        p.subject_alt_names = vec![uri("spiffe://test.example/")]
    }),
];

/// The alert with which a listener ends the handshake; none if it goes on.
async fn refusal_of(
    svid: &Svid,
    address: SocketAddr,
    name: &str,
    alpn: &str,
) -> Option<AlertDescription> {
    let shaken = async {
        let mut stream = svid.connect(address, name, alpn).await?;
        // In TLS 1.3 a client is done before its certificate is judged.
        stream.read_u8().await
    };
    let error = match tokio::time::timeout(PATIENCE, shaken).await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => return None,
    };
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => panic!("ended without an alert: {error}"),
    }
}

fn is_about_the_certificate(alert: Option<AlertDescription>) -> bool {
    matches!(
        alert,
        Some(
            AlertDescription::CertificateUnknown
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate
        )
    )
}

async fn answers(svid: &Svid, inbound: SocketAddr) -> bool {
    let answer = straight(svid, inbound, HTTP, REQUEST).await;
    status(&answer) == Some(200)
}

/// A listener that has said nothing for so long does not refuse.
const PATIENCE: Duration = Duration::from_secs(10);
