//! Row 14, what concerns trust: an identity, a lineage or a serial is revoked while connected, and given back.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use weft_tests::backend::Backend;
use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, Sidecar, SidecarSpec, Svid, eventually};

use super::{attest, new_request, renew};

const TARGET: &str = "shop/api:echo";

#[tokio::test(flavor = "multi_thread")]
async fn row_14_each_kind_of_revocation_cuts_within_a_second_and_blocks_until_undone() {
    let mesh = Mesh::start().await;
    mesh.apply(&(service(TARGET, "tcp") + &allow("web", TARGET, "shop/web")))
        .await;
    let backend = Backend::tcp().await;
    let _api = mesh
        .sidecar(SidecarSpec::of("shop/api").app(TARGET, backend.address))
        .await;
    let web = mesh
        .sidecar(SidecarSpec::of("shop/web").upstream(TARGET))
        .await;
    let svid = Svid::of_sidecar(&web.runtime);
    let shown = mesh
        .meshctl(["identity", "show", "shop/web", "-o", "json"])
        .await
        .ok()
        .json();
    let lineage = shown["lineages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let serial = svid.serial();
    assert_eq!(shown["lineages"][0]["currentSerial"], *serial, "{shown}");

    for target in [
        &["shop/web"][..],
        &["--lineage", &lineage],
        &["--serial", &serial],
    ] {
        let mut stream = connected(&web).await;
        let revoke = [&["identity", "revoke"], target].concat();
        mesh.meshctl_with(&revoke, "").await.ok();
        let revoked = Instant::now();
        let cut = tokio::time::timeout(Duration::from_secs(1), closed(&mut stream)).await;
        assert!(cut.is_ok(), "{target:?}: not cut within a second");
        println!("{target:?}: cut {:?} after the command", revoked.elapsed());

        assert!(echo(&web).await.is_err(), "{target:?}: a new connection");
        let renewed = renew(&mesh, &svid, &new_request().csr_der).await;
        renewed.expect_err("renewal is blocked");

        let undo = [&revoke[..], &["--undo"]].concat();
        mesh.meshctl_with(&undo, "").await.ok();
        eventually("it is served again", || echo(&web)).await;
    }
    for target in ["shop/sa/web", &lineage, &serial] {
        mesh.audited("revoke", "ok", &[target]).await;
    }
}

#[tokio::test]
async fn row_14_a_revoked_identity_cannot_attest_anew_and_a_revoked_lineage_cannot_be_asked_for_again()
 {
    let mesh = Mesh::start().await;
    let token = mesh.token("shop/batch").await;
    let request = new_request();
    let first = attest(&mesh, &token, "shop/batch", &request.csr_der)
        .await
        .expect("a fresh token");
    mesh.meshctl(["identity", "revoke", "--lineage", &first.lineage])
        .await
        .ok();
    let retried = attest(&mesh, &token, "shop/batch", &request.csr_der).await;
    assert_eq!(
        retried.expect_err("its lineage").code(),
        Code::PermissionDenied
    );

    let fresh = mesh.token("shop/batch").await;
    mesh.meshctl(["identity", "revoke", "shop/batch"])
        .await
        .ok();
    let request = new_request();
    let refused = attest(&mesh, &fresh, "shop/batch", &request.csr_der).await;
    assert_eq!(refused.expect_err("revoked").code(), Code::PermissionDenied);
    mesh.audited("attest", "refused", &["shop/batch", "revoked"])
        .await;
    mesh.meshctl(["identity", "revoke", "shop/batch", "--undo"])
        .await
        .ok();
    attest(&mesh, &fresh, "shop/batch", &request.csr_der)
        .await
        .expect("given back");
}

/// A connection through both sidecars that has carried bytes.
async fn connected(web: &Sidecar) -> TcpStream {
    eventually("a connection through both sidecars", || echo(web)).await
}

async fn echo(web: &Sidecar) -> Result<TcpStream, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(web.upstream(TARGET)).await?;
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(stream)
    };
    tokio::time::timeout(Duration::from_secs(2), exchange)
        .await
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())
}

/// Resolves when the other side ends the connection.
async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}
