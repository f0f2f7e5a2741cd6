//! Row 7: join tokens that are replayed, expired, used for another identity or that name another root, and who poses as the
//! control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;
use weft_tests::{Mesh, SidecarSpec, eventually};

use super::{attest, join, new_request};

#[tokio::test]
async fn row_07_a_used_token_serves_its_first_key_again_and_no_other() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/web").await;
    let (first, other) = (new_request(), new_request());
    let answer = attest(&mesh, &token, "shop/web", &first.csr_der)
        .await
        .expect("first use");
    let again = attest(&mesh, &token, "shop/web", &first.csr_der)
        .await
        .expect("the same key may retry");
    assert_eq!(answer.chain, again.chain, "a retry gets the same SVID");
    let replayed = attest(&mesh, &token, "shop/web", &other.csr_der).await;
    assert_eq!(
        replayed.expect_err("a replay").code(),
        Code::Unauthenticated
    );
    mesh.audited("attest", "refused", &["shop/web", "another key"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_of_all_who_use_a_token_at_once_one_gets_an_svid() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/web").await;
    let requests: Vec<_> = (0..16).map(|_| new_request()).collect();
    let ask = |request: &weft_identity::KeyAndCsr| {
        let (mesh, token, csr) = (&mesh, &token, request.csr_der.clone());
        async move { attest(mesh, token, "shop/web", &csr).await }
    };
    let answers = join_all(requests.iter().map(ask)).await;
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(served, 1, "{answers:?}");
    for (request, answer) in requests.iter().zip(&answers) {
        match (answer, ask(request).await) {
            (Ok(first), Ok(again)) => assert_eq!(first.chain, again.chain),
            (Err(first), Err(again)) => {
                let codes = [first.code(), again.code()];
                assert_eq!(codes, [Code::Unauthenticated; 2]);
            }
            (first, again) => panic!("first {first:?}, then {again:?}"),
        }
    }
    let shown = mesh
        .meshctl(["identity", "show", "shop/web", "-o", "json"])
        .await
        .ok()
        .json();
    let lineages = shown["lineages"].as_array().map(Vec::len);
    assert_eq!(lineages, Some(1), "{shown}");
}

/// The token names another root, as one of another mesh would: whoever answers must not learn it.
#[tokio::test]
async fn row_07_a_token_is_shown_to_nobody_without_the_root_that_it_names() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/web").await;
    let mut parts: Vec<&str> = token.splitn(4, '.').collect();
    let other_root = URL_SAFE_NO_PAD.encode([7; 32]);
    parts[2] = &other_root;
    let file = mesh.folder().join("other-root.token");
    std::fs::write(&file, parts.join(".")).expect("the token is written");
    let spec = SidecarSpec::of("shop/web").set("joinTokenFile", json!(file));
    let web = mesh.sidecar_process(spec).await;
    let missed = eventually("the sidecar judges who answers", || async {
        let log = web.log();
        let is_missed = log.contains("no usable root with the fingerprint of the join token");
        let is_told = is_missed || log.contains("the control plane's answer");
        is_told.then_some(is_missed).ok_or(log)
    })
    .await;
    assert!(missed, "the token was shown");
    assert!(!mesh.runtime().join("web/svid.json").exists());
    // Its secret is a good one. Nobody has seen it, so it is still anybody's.
    attest(&mesh, &token, "shop/web", &new_request().csr_der)
        .await
        .expect("it was not used");
}

#[tokio::test]
async fn row_07_an_expired_token_is_refused() {
    let mesh = Mesh::start().await;
    let made = mesh
        .meshctl(["token", "create", "shop/web", "--ttl", "1s", "-o", "json"])
        .await
        .ok()
        .json();
    let expires: jiff::Timestamp = made["expires"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a time");
    let left = expires.duration_since(jiff::Timestamp::now());
    let margin = Duration::from_millis(20);
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default() + margin).await;
    let token = made["token"].as_str().expect("a token");
    let refused = attest(&mesh, token, "shop/web", &new_request().csr_der).await;
    assert_eq!(refused.expect_err("expired").code(), Code::Unauthenticated);
    mesh.audited("attest", "refused", &["shop/web", "expired"])
        .await;
}

#[tokio::test]
async fn row_07_a_token_serves_its_own_identity_alone() {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/web").await;
    for other in ["shop/api", "weft/control-plane", "other/web", "", "shop"] {
        let refused = attest(&mesh, &token, other, &new_request().csr_der).await;
        let refused = refused.expect_err(other);
        assert_eq!(refused.code(), Code::Unauthenticated, "{other}");
        assert_eq!(
            refused.message(),
            "the evidence was not accepted",
            "an answer does not say which check failed"
        );
    }
    mesh.audited("attest", "refused", &["shop/api", "another identity"])
        .await;
    mesh.audited("attest", "refused", &["weft/control-plane", "reserved"])
        .await;
    // None of that used it up.
    attest(&mesh, &token, "shop/web", &new_request().csr_der)
        .await
        .expect("its own identity");
}

/// The impostor holds a genuine SVID of the mesh and shows the genuine root: only the name in its SVID gives it away.
#[tokio::test]
async fn row_07_a_workload_that_poses_as_the_control_plane_never_sees_a_token() {
    let mesh = Mesh::start().await;
    let mut impostor = join(&mesh, "shop/impostor").await;
    let bundle = std::fs::read(mesh.context().join("bundle.pem")).expect("a bundle");
    impostor
        .chain
        .push(CertificateDer::from_pem_slice(&bundle).expect("a root"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let tls = TlsAcceptor::from(impostor.server_config("h2"));
    let (tried, learnt) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (tries, bytes) = (Arc::clone(&tried), Arc::clone(&learnt));
    let posing = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tries.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut stream) = tls.accept(socket).await {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    bytes.fetch_add(read as u64, Ordering::SeqCst);
                }
            }
        }
    });
    let spec = SidecarSpec::of("shop/web").set(
        "controlPlane",
        json!({"api": address, "attestation": address}),
    );
    let web = mesh.sidecar_process(spec).await;
    eventually("the sidecar tells the impostor", || async {
        let log = web.log();
        if log.contains("impostor answers in the place of the control plane") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert!(tried.load(Ordering::SeqCst) > 0);
    assert_eq!(learnt.load(Ordering::SeqCst), 0, "it learnt the token");
    assert!(!mesh.runtime().join("web/svid.json").exists());
    posing.abort();
}
