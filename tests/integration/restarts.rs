//! What an earlier or a second process of a workload leaves in its runtime folder does not stop the one that should run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use weft_tests::documents::service;
use weft_tests::{Mesh, Sidecar, SidecarSpec, Svid, eventually};

const OFTEN: &str =
    "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {renewEvery: 1s}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_runtime_folder_ends_at_once_and_names_it() {
    let mesh = Mesh::start().await;
    mesh.apply(&format!("{OFTEN}{}", service("shop/api:http", "http")))
        .await;
    let mut first = mesh.sidecar(SidecarSpec::of("shop/api")).await;
    let mut second = mesh.sidecar_process(SidecarSpec::of("shop/api")).await;
    let status = eventually("the second process ends", || {
        let ended = second.ended();
        async move { ended.ok_or(()) }
    })
    .await;
    assert_eq!(status.code(), Some(1));
    let said = format!(
        "another process uses the runtime folder {}",
        first.runtime.display()
    );
    assert!(second.log().contains(&said), "{}", second.log());

    // The first one was not disturbed: it renews on and on.
    renews(&first).await;
    renews(&first).await;
    assert!(first.process.ended().is_none());

    // Neither is one that comes after it was killed.
    first.restart().await;
    first.wait_until_ready().await;
    renews(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_keeping_a_renewed_svid_and_giving_up_its_request_stops_no_renewal() {
    let mesh = Mesh::start().await;
    mesh.apply(OFTEN).await;
    let mut sidecar = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    renews(&sidecar).await;
    sidecar.process.kill();
    leave_request_of_own_key(&sidecar);
    sidecar.restart().await;
    renews(&sidecar).await;
    renews(&sidecar).await;
}

/// Waits for the next SVID.
async fn renews(sidecar: &Sidecar) {
    let before = Svid::of_sidecar(&sidecar.runtime).serial();
    eventually("another SVID", || {
        let now = Svid::of_sidecar(&sidecar.runtime).serial();
        let is_other = now != before;
        async move { is_other.then_some(()).ok_or(now) }
    })
    .await;
}

/// As a process leaves it that was killed at that moment.
fn leave_request_of_own_key(sidecar: &Sidecar) {
    let own = Svid::of_sidecar(&sidecar.runtime).key_pkcs8;
    let key = PrivatePkcs8KeyDer::from(own.clone());
    let key =
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .expect("a CSR");
    let pending = json!({"key": STANDARD.encode(&own), "csr": STANDARD.encode(csr.der())});
    let path = sidecar.runtime.join("pending.json");
    std::fs::write(&path, pending.to_string()).expect("the request is written");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is closed");
}
