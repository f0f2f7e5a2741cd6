//! Row 6: a thief has another SVID issued in the place of the one that its owner was just given.

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tonic::Status;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_06_a_thief_who_supersedes_the_owners_fresh_svid_freezes_the_lineage_by_the_owners_first_handshake()
 {
    let plane = Running::start(tempfile::tempdir().unwrap()).await;
    let ada = plane.login().await;
    let stolen = plane.attest(&ada, "shop/api").await;
    let owner = renewed(&plane, &stolen).await.unwrap();
    let thief = renewed(&plane, &stolen).await.unwrap();
    // Going on is what a frozen lineage cannot do.
    let thief = renewed(&plane, &thief).await.unwrap();

    until_refused(&plane, &owner).await;
    let found = frozen(&plane, &ada).await;
    assert_eq!(found.subject, "spiffe://weft.local/ns/shop/sa/api");
    let refused = renewed(&plane, &thief).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_06_a_certificate_without_its_key_freezes_no_lineage() {
    let plane = Running::start(tempfile::tempdir().unwrap()).await;
    let ada = plane.login().await;
    let first = plane.attest(&ada, "shop/api").await;
    let superseded = renewed(&plane, &first).await.unwrap();
    let next = renewed(&plane, &first).await.unwrap();
    // Any peer has seen the certificate.
    let client = Arc::new(impostor(&superseded.chain));
    for _ in 0..20 {
        let name = ServerName::try_from("control-plane.weft").unwrap();
        let stream = TcpStream::connect(plane.api).await.unwrap();
        let connected = TlsConnector::from(Arc::clone(&client)).connect(name, stream);
        if let Ok(mut stream) = connected.await {
            stream.write_all(PREFACE).await.unwrap();
            assert!(stream.read_u8().await.is_err(), "it has no key");
        }
    }
    renewed(&plane, &next).await.unwrap();
    // With its key it does.
    until_refused(&plane, &superseded).await;
    frozen(&plane, &ada).await;
    plane.stop().await;
}

/// What its owner, or whoever has its key, gets for an SVID on a connection of its own.
async fn renewed(plane: &Running, svid: &Svid) -> Result<Svid, Status> {
    let key = new_key_and_csr().unwrap();
    let channel = dial(plane.api, Some(svid)).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let answer = IssuanceClient::new(channel).renew(renewal(&key)).await?;
    let chain = chain(&answer.into_inner().chain);
    Ok(Svid { chain, key })
}

/// Until the revocation of its serial has reached the handshakes, a connection may be made; then its calls are refused.
async fn until_refused(plane: &Running, svid: &Svid) {
    let begun = Instant::now();
    loop {
        let mut stream = tls_stream(plane.api, Some(svid)).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        if stream.read_u8().await.is_err() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it is accepted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The record of the freeze, found by an operator.
async fn frozen(plane: &Running, operator: &Svid) -> v1::AuditRecord {
    let begun = Instant::now();
    loop {
        let request = v1::ListAuditRequest {
            limit: 100,
            newest: true,
            ..Default::default()
        };
        let records = OperationsClient::new(plane.connect(operator).await)
            .list_audit(request)
            .await
            .unwrap()
            .into_inner()
            .records;
        let is_wanted = |record: &&v1::AuditRecord| {
            record.action == "call" && record.detail.contains("is frozen")
        };
        if let Some(found) = records.iter().find(is_wanted) {
            return found.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{records:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Shows this chain and signs with a key of its own.
fn impostor(chain: &[CertificateDer<'static>]) -> ClientConfig {
    let own = new_key_and_csr().unwrap();
    let key = PrivatePkcs8KeyDer::from(own.key_pkcs8.to_vec()).into();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut config = client(None);
    config.client_auth_cert_resolver =
        Arc::new(Borrowed(Arc::new(CertifiedKey::new(chain.to_vec(), key))));
    config
}

#[derive(Debug)]
struct Borrowed(Arc<CertifiedKey>);

impl ResolvesClientCert for Borrowed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
