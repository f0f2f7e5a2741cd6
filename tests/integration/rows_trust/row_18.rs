//! Row 18: a snapshot that was edited, is too old, was copied from another runtime folder, or that others may open, read by a
//! restarted sidecar while no control plane answers.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, Process, Sidecar, SidecarSpec, binary, eventually};

use super::{status, until_status};

const TARGET: &str = "shop/api:http";
const HOST: &str = "api.shop";
const OTHER_UID: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn row_18_a_restarted_sidecar_refuses_an_edited_and_a_copied_snapshot_and_uses_its_own() {
    let mut mesh = Mesh::start().await;
    mesh.apply(&(service(TARGET, "http") + &allow("all", TARGET, "shop/*")))
        .await;
    let backend = Backend::http().await;
    let _api = mesh
        .sidecar(SidecarSpec::of("shop/api").app(TARGET, backend.address))
        .await;
    let mut own = client(&mesh, "shop/own").await;
    let mut edited = client(&mesh, "shop/edited").await;
    let mut copied = client(&mesh, "shop/copied").await;
    for sidecar in [&own, &edited, &copied] {
        until_status(sidecar.upstream(TARGET), HOST, 200).await;
        snapshot_of_the_service(sidecar).await;
    }
    mesh.control_plane.kill();

    own.restart().await;
    own.wait_until_ready().await;
    until_status(own.upstream(TARGET), HOST, 200).await;

    // One byte of the revision: still a whole snapshot, only not what was written.
    edited.process.kill();
    let path = edited.runtime.join("snapshot");
    let mut content = std::fs::read(&path).expect("a snapshot");
    let at = memchr::memmem::find(&content, b"\"revision\":").expect("a revision") + 11;
    content[at] = if content[at] == b'9' { b'8' } else { b'9' };
    std::fs::write(&path, content).expect("the snapshot is written");
    assert_denies(&mut edited).await;

    copied.process.kill();
    std::fs::copy(
        own.runtime.join("snapshot"),
        copied.runtime.join("snapshot"),
    )
    .expect("a copy");
    assert_denies(&mut copied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_a_snapshot_older_than_max_stale_is_refused() {
    let mut mesh = Mesh::start().await;
    let settings =
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {maxStale: 2s}\n";
    mesh.apply(settings).await;
    mesh.apply(&(service(TARGET, "http") + &allow("all", TARGET, "shop/*")))
        .await;
    let backend = Backend::http().await;
    let _api = mesh
        .sidecar(SidecarSpec::of("shop/api").app(TARGET, backend.address))
        .await;
    let mut web = client(&mesh, "shop/web").await;
    until_status(web.upstream(TARGET), HOST, 200).await;
    snapshot_of_the_service(&web).await;
    mesh.control_plane.kill();
    web.process.kill();
    // What is tested is that time passed.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_denies(&mut web).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_a_snapshot_or_a_runtime_folder_of_others_is_refused() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can give files away: run this test as root"
    );
    let mut mesh = Mesh::start().await;
    mesh.apply(&(service(TARGET, "http") + &allow("all", TARGET, "shop/*")))
        .await;
    let backend = Backend::http().await;
    let _api = mesh
        .sidecar(SidecarSpec::of("shop/api").app(TARGET, backend.address))
        .await;
    let mut open = client(&mesh, "shop/open").await;
    let mut given = client(&mesh, "shop/given").await;
    for sidecar in [&open, &given] {
        until_status(sidecar.upstream(TARGET), HOST, 200).await;
        snapshot_of_the_service(sidecar).await;
    }
    mesh.control_plane.kill();

    open.process.kill();
    mode(&open.runtime.join("snapshot"), 0o644);
    assert_denies(&mut open).await;

    given.process.kill();
    chown(given.runtime.join("snapshot"), Some(OTHER_UID), None).expect("root may");
    assert_denies(&mut given).await;

    // What a folder holds that others can write is not even looked at.
    open.process.kill();
    mode(&open.runtime, 0o777);
    assert_refuses_its_folder(&open, "others may enter").await;

    given.process.kill();
    chown(&given.runtime, Some(OTHER_UID), None).expect("root may");
    assert_refuses_its_folder(&given, "is owned by user 65534").await;
}

async fn assert_refuses_its_folder(sidecar: &Sidecar, reason: &str) {
    let mut command = Command::new(binary("weft-sidecar"));
    command
        .arg("--config")
        .arg(sidecar.runtime.join("config.yaml"));
    let log = sidecar.runtime.join("restarted.log");
    let mut process = Process::start("restarted", &mut command, &log);
    let ended = eventually("it does not start", || {
        let (ended, log) = (process.ended(), process.log());
        async move { ended.ok_or(log) }
    })
    .await;
    let told = process.log();
    assert!(!ended.success() && told.contains(reason), "{told}");
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("an own file");
}

async fn client(mesh: &Mesh, workload: &str) -> Sidecar {
    mesh.sidecar(SidecarSpec::of(workload).upstream(TARGET))
        .await
}

/// Waits until the snapshot knows an endpoint.
async fn snapshot_of_the_service(sidecar: &Sidecar) {
    use base64::Engine as _;
    let path = sidecar.runtime.join("snapshot");
    eventually("the snapshot holds the endpoint", || {
        let content = std::fs::read(&path).unwrap_or_default();
        let resources = content
            .get(32..)
            .and_then(|body| serde_json::from_slice::<serde_json::Value>(body).ok())
            .map(|body| body["resources"].clone())
            .unwrap_or_default();
        let knows = resources.as_array().into_iter().flatten().any(|resource| {
            let value = resource["value"].as_str().unwrap_or_default();
            let value = base64::engine::general_purpose::STANDARD
                .decode(value)
                .unwrap_or_default();
            resource["type_url"] == weft_wire::type_url::OUTBOUND
                && memchr::memmem::find(&value, b"127.0.0.1:").is_some()
        });
        async move { knows.then_some(()).ok_or(resources) }
    })
    .await;
}

/// It comes up with its SVID, says why it does not use the snapshot, and serves nobody.
async fn assert_denies(sidecar: &mut Sidecar) {
    sidecar.restart().await;
    let is_used = eventually("it tells about the snapshot", || {
        let log = sidecar.process.log();
        async move {
            let is_used = log.contains("serving from the snapshot");
            let is_told = is_used || log.contains("the snapshot is refused");
            is_told.then_some(is_used).ok_or(log)
        }
    })
    .await;
    assert!(!is_used, "the snapshot is used");
    let answer = status(sidecar.upstream(TARGET), HOST).await;
    assert!(!matches!(answer, Some(200..400)), "{answer:?}");
    let ready = weft_tests::get(&format!("http://{}/ready", sidecar.admin)).await;
    assert_ne!(ready.expect("its admin answers").status, 200);
}
