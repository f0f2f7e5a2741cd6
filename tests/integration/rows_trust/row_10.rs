//! Row 10: the control plane's disk is stolen.

use std::process::Command;

use weft_tests::{Mesh, Process, SidecarSpec, Svid, binary, eventually};

use crate::secrets;

#[tokio::test]
async fn row_10_a_stolen_disk_gives_no_key_and_no_token() {
    let mut mesh = Mesh::start().await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    let unused = mesh.token("shop/api").await;
    let used = mesh.token("shop/batch").await;
    let request = super::new_request();
    super::attest(&mesh, &used, "shop/batch", &request.csr_der)
        .await
        .expect("a fresh token");
    let mut secrets = secrets::of_mesh(&mesh);
    secrets.add_key("web's key", &Svid::of_sidecar(&web.runtime).key_pkcs8);
    secrets.add_token("a token", &unused);
    secrets.add_token("a used token", &used);
    mesh.control_plane.kill();
    let found = secrets.found_below(&mesh.state(), &[]);
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn row_10_a_stolen_disk_starts_no_control_plane_without_its_key() {
    let mut mesh = Mesh::start().await;
    mesh.control_plane.kill();
    let runtime = mesh.folder().join("thief");
    let other_key = mesh.folder().join("other.key");
    std::fs::write(&other_key, "ab".repeat(32)).expect("a key");
    std::fs::set_permissions(
        &other_key,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("an own file");
    for arguments in [
        vec!["--key-file", other_key.to_str().expect("UTF-8")],
        vec![],
    ] {
        let mut command = Command::new(binary("weft-control-plane"));
        command
            .args(["--trust-domain", mesh.trust_domain(), "--state"])
            .arg(mesh.state())
            .arg("--runtime")
            .arg(&runtime)
            .args([
                "--api",
                "127.0.0.1:0",
                "--attestation",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
            .args(&arguments)
            .env_remove("WEFT_STATE_KEY");
        let log = mesh.folder().join(format!("thief-{}.log", arguments.len()));
        let mut thief = Process::start("thief", &mut command, &log);
        let ended = eventually("it does not start", || {
            let ended = thief.ended();
            async move { ended.ok_or(()) }
        })
        .await;
        let told = thief.log();
        assert!(!ended.success(), "{told}");
        assert!(told.contains("--key-file"), "it says what to do: {told}");
    }
    // Nothing was harmed by trying.
    mesh.restart_control_plane().await;
    mesh.meshctl(["sidecars"]).await.ok();
}
