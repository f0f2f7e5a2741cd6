//! Row 9: a workload at the operators' API, nobody at all, another user at the operator's socket, and a planted context.

use std::error::Error as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use prost::Message as _;
use tonic::Code;
use weft_tests::{Mesh, Svid, binary, peer};

use super::join;

#[tokio::test]
async fn row_09_every_method_for_operators_refuses_a_workload() {
    let mesh = Mesh::start().await;
    let web = join(&mesh, "shop/web").await.channel(mesh.api);
    let operator = Svid::of_operator(&mesh.context()).channel(mesh.api);
    let mut refused = 0;
    for method in methods() {
        let answer = peer::call_raw(web.clone(), &method, "").await;
        let code = answer.err().map(|status| status.code());
        if FOR_WORKLOADS.contains(&method.as_str()) {
            assert_ne!(code, Some(Code::PermissionDenied), "{method}");
            continue;
        }
        assert_eq!(code, Some(Code::PermissionDenied), "{method}");
        refused += 1;
        // An empty request of an operator is understood, or refused for what it lacks.
        let answer = match method.as_str() {
            // It streams for ever.
            "/weft.v1.Resources/Watch" => continue,
            _ => peer::call_raw(operator.clone(), &method, "").await,
        };
        let code = answer.err().map(|status| status.code());
        let not_here =
            method.contains("/weft.v1.Attestation/") || method.contains("/weft.v1.OperatorLogin/");
        assert_eq!(
            code == Some(Code::PermissionDenied),
            not_here,
            "{method}: {code:?}"
        );
    }
    assert!(refused >= 15, "only {refused} methods");
    mesh.audited(
        "call",
        "refused",
        &["shop/sa/web", "/weft.v1.Operations/CreateToken"],
    )
    .await;
}

#[tokio::test]
async fn row_09_who_shows_no_svid_reaches_no_method() {
    let mesh = Mesh::start().await;
    for method in methods() {
        let channel = peer::anonymous_channel(mesh.api);
        let refused = peer::call_raw(channel, &method, "").await;
        let refused = refused.expect_err(&method);
        assert_ne!(
            refused.code(),
            Code::PermissionDenied,
            "no method is reached"
        );
        // First contact serves attestation and nothing else.
        let channel = peer::anonymous_channel(mesh.attestation);
        let answer = peer::call_raw(channel, &method, "").await;
        let code = answer.expect_err(&method).code();
        let expected = match method.as_str() {
            "/weft.v1.Attestation/Attest" => Code::Unauthenticated,
            _ => Code::Unimplemented,
        };
        assert_eq!(code, expected, "{method}");
    }
    mesh.audited("call", "refused", &["handshake from 127.0.0.1"])
        .await;
}

#[tokio::test]
async fn row_09_who_shows_no_svid_learns_neither_health_nor_the_api() {
    let mesh = Mesh::start().await;
    let web = join(&mesh, "shop/web").await;
    let methods = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    for method in methods {
        // An empty message asks for the whole server's health, and nothing of reflection.
        let asked = || tokio_stream::once(Bytes::new());
        let answer = async |channel| {
            let mut answers = peer::stream_raw(channel, method, asked()).await?;
            answers.message().await
        };
        let served = answer(web.channel(mesh.api)).await;
        let code = served.err().map(|status| status.code());
        assert!(
            matches!(code, None | Some(Code::InvalidArgument)),
            "{method}: {code:?}"
        );
        let refused = answer(peer::anonymous_channel(mesh.api)).await;
        let refused = refused.expect_err(method);
        // Its handshake fails: what a server answers has no cause on this side.
        assert!(refused.source().is_some(), "{method}: {refused:?}");
        let refused = answer(peer::anonymous_channel(mesh.attestation)).await;
        let code = refused.expect_err(method).code();
        assert_eq!(code, Code::Unimplemented, "{method}");
    }
}

/// The folder keeps others out, then the socket's mode, then the kernel's word on who has connected.
#[tokio::test]
async fn row_09_another_user_becomes_no_operator_by_the_socket() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can act as another user: run this test as root"
    );
    let mesh = Mesh::start().await;
    let other = OtherUser::new();
    let socket = mesh.operator_socket();
    let barred = |ran: &Output| String::from_utf8_lossy(&ran.stderr).contains("Permission denied");
    let ran = other.login(&socket);
    assert!(!ran.status.success() && barred(&ran), "folder: {ran:?}");
    for folder in [mesh.runtime(), &mesh.runtime().join("cp")] {
        mode(folder, 0o755);
    }
    let ran = other.login(&socket);
    assert!(!ran.status.success() && barred(&ran), "mode: {ran:?}");
    mode(&socket, 0o666);
    let ran = other.login(&socket);
    assert!(!ran.status.success() && !barred(&ran), "uid: {ran:?}");
    mesh.audited("login", "refused", &["uid:65534", "another user's process"])
        .await;
    assert!(!other.home.path().join("context").exists());
}

/// `meshctl` is started below a folder with a genuine context that somebody else could have written.
#[tokio::test]
async fn row_09_a_planted_context_is_ignored() {
    let mesh = Mesh::start().await;
    let home = tempfile::tempdir().expect("a folder");
    let planted = home.path().join(".weft");
    let below = home.path().join("project/src");
    std::fs::create_dir_all(&below).expect("a folder");

    copy_context(&mesh.context(), &planted);
    let own = whoami(&below, home.path());
    assert!(own.status.success(), "an own context is used: {own:?}");

    let mut plants: Vec<(&str, Plant<'_>)> = vec![
        (
            "a folder that all can write",
            Box::new(|| mode(&planted, 0o777)),
        ),
        (
            "a folder that the group can write",
            Box::new(|| mode(&planted, 0o770)),
        ),
        (
            "a file that all can write",
            Box::new(|| mode(&planted.join("context.yaml"), 0o666)),
        ),
        (
            "a readable key",
            Box::new(|| mode(&planted.join("operator.key"), 0o644)),
        ),
    ];
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        plants.push((
            "another user's folder",
            Box::new(|| chown(&planted, Some(OTHER_UID), None).expect("root may")),
        ));
    }
    for (what, plant) in plants {
        let _ = std::fs::remove_dir_all(&planted);
        copy_context(&mesh.context(), &planted);
        plant();
        let ran = whoami(&below, home.path());
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success(), "{what} was used: {ran:?}");
        assert!(told.contains(".weft"), "{what}: {told}");
    }
}

/// A user who is neither root nor ours, with a copy of `meshctl` that it may run.
struct OtherUser {
    home: tempfile::TempDir,
}

impl OtherUser {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let program = home.path().join("meshctl");
        std::fs::copy(binary("meshctl"), program).expect("a copy");
        chown(home.path(), Some(OTHER_UID), Some(OTHER_UID)).expect("root may");
        Self { home }
    }

    fn login(&self, socket: &Path) -> Output {
        Command::new(self.home.path().join("meshctl"))
            .args(["login", "--socket"])
            .arg(socket)
            .current_dir(self.home.path())
            .env("WEFT_CONTEXT", self.home.path().join("context"))
            .env("HOME", self.home.path())
            .uid(OTHER_UID)
            .gid(OTHER_UID)
            .output()
            .expect("it runs and ends")
    }
}

fn whoami(folder: &Path, home: &Path) -> Output {
    Command::new(binary("meshctl"))
        .args(["sidecars", "-o", "json"])
        .current_dir(folder)
        .env_remove("WEFT_CONTEXT")
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .output()
        .expect("meshctl runs")
}

fn copy_context(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    mode(to, 0o700);
    for entry in std::fs::read_dir(from).expect("a context") {
        let entry: PathBuf = entry.expect("a file").path();
        // A copy keeps the mode.
        std::fs::copy(&entry, to.join(entry.file_name().expect("a name"))).expect("a copy");
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("an own file");
}

/// Every method of the public API, as its description lists them.
pub(super) fn methods() -> Vec<String> {
    let files =
        prost_types::FileDescriptorSet::decode(weft_wire::FILE_DESCRIPTORS).expect("descriptors");
    let mut methods = vec![DISCOVERY.to_owned()];
    for file in files.file.iter().filter(|file| file.package() == "weft.v1") {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!("/weft.v1.{}/{}", service.name(), method.name()));
            }
        }
    }
    methods
}

pub(super) const DISCOVERY: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const FOR_WORKLOADS: &[&str] = &[
    DISCOVERY,
    "/weft.v1.Issuance/Renew",
    "/weft.v1.Registration/Register",
    "/weft.v1.Decisions/Report",
    "/weft.v1.Flows/Report",
];

const OTHER_UID: u32 = 65_534;

/// Makes a context one that must not be believed.
type Plant<'a> = Box<dyn Fn() + 'a>;
