//! What must happen to attacks on identity and on the control plane: rows of the threat table, each with its number in the names.

mod row_06;
mod row_07;
mod row_08;
mod row_09;
mod row_10;
mod row_14;
pub(crate) mod row_16;
mod row_18;

use std::net::SocketAddr;

use tonic::Status;
use weft_identity::{KeyAndCsr, new_key_and_csr};
use weft_tests::{Mesh, Svid, eventually, peer, request};
use weft_wire::v1;
use weft_wire::v1::attestation_client::AttestationClient;
use weft_wire::v1::issuance_client::IssuanceClient;

/// First contact without a sidecar.
pub(crate) async fn attest(
    mesh: &Mesh,
    token: &str,
    workload: &str,
    csr: &[u8],
) -> Result<v1::IssuedSvid, Status> {
    let mut client = AttestationClient::new(peer::anonymous_channel(mesh.attestation));
    let request = v1::AttestRequest {
        csr: csr.to_vec().into(),
        evidence: Some(v1::attest_request::Evidence::JoinToken(token.to_owned())),
        expected_workload: workload.to_owned(),
    };
    client
        .attest(request)
        .await
        .map(tonic::Response::into_inner)
}

/// Renewal without a sidecar, on a connection of its own.
pub(crate) async fn renew(mesh: &Mesh, svid: &Svid, csr: &[u8]) -> Result<v1::IssuedSvid, Status> {
    let mut client = IssuanceClient::new(svid.channel(mesh.api));
    let request = v1::RenewRequest {
        csr: csr.to_vec().into(),
    };
    client.renew(request).await.map(tonic::Response::into_inner)
}

/// A workload that joined with a token of its own and has no sidecar.
pub(crate) async fn join(mesh: &Mesh, workload: &str) -> Svid {
    let token = mesh.token(workload).await;
    let request = new_request();
    let answer = attest(mesh, &token, workload, &request.csr_der)
        .await
        .expect("a fresh token is accepted");
    Svid::issued(&answer, &request.key_pkcs8)
}

pub(crate) fn new_request() -> KeyAndCsr {
    new_key_and_csr().expect("a key can be made")
}

/// The status of `GET /` at a local listener; `None` when it cannot be had.
pub(crate) async fn status(address: SocketAddr, host: &str) -> Option<u16> {
    let answer = request(address, "GET", "/", &[("Host", host)], b"").await;
    answer.ok().map(|response| response.status)
}

/// Waits until a local listener answers with this status.
pub(crate) async fn until_status(address: SocketAddr, host: &str, wanted: u16) {
    eventually(&format!("status {wanted}"), || async {
        match status(address, host).await {
            Some(status) if status == wanted => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
