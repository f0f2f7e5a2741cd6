//! A whole control plane over real sockets: who gets in, who is cut off, and what stays up meanwhile.

use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use weft_identity::{KeyAndCsr, WrappingKey, new_key_and_csr};
use weft_wire::v1;
use weft_wire::v1::attestation_client::AttestationClient;
use weft_wire::v1::issuance_client::IssuanceClient;
use weft_wire::v1::operations_client::OperationsClient;
use weft_wire::v1::operator_login_client::OperatorLoginClient;
use weft_wire::v1::resources_client::ResourcesClient;

use super::*;

mod takeover;

/// What a client presents.
struct Svid {
    chain: Vec<CertificateDer<'static>>,
    key: KeyAndCsr,
}

struct Running {
    folder: tempfile::TempDir,
    api: SocketAddr,
    attestation: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), RunError>>,
}

fn config(folder: &Path) -> Config {
    Config {
        trust_domain: "weft.local".parse().unwrap(),
        state: folder.join("state"),
        runtime: folder.join("run"),
        wrapping_key: WrappingKey::new([9; 32]).unwrap(),
        api: "127.0.0.1:0".parse().unwrap(),
        attestation: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        operator_socket: folder.join("run/operator.sock"),
        lease_grace: Duration::from_secs(1),
        drain: Duration::from_secs(5),
        log_format: weft_daemon::logs::Format::Text,
        log_level: weft_daemon::logs::Level::default(),
    }
}

impl Running {
    async fn start(folder: tempfile::TempDir) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(run(config(folder.path()), stopped));
        let announced = folder.path().join("run").join(ANNOUNCEMENT);
        let text = eventually(|| std::fs::read_to_string(&announced).ok()).await;
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        Self {
            api: address("api"),
            attestation: address("attestation"),
            folder,
            stop,
            ended,
        }
    }

    async fn login(&self) -> Svid {
        let socket = self.folder.path().join("run/operator.sock");
        let channel = Endpoint::from_static("http://operator")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .unwrap();
        let key = new_key_and_csr().unwrap();
        let request = v1::OperatorLoginRequest {
            csr: key.csr_der.clone().into(),
            name: "ada".into(),
        };
        let answer = OperatorLoginClient::new(channel)
            .login(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.api_address, self.api.to_string());
        Svid {
            chain: chain(&answer.chain),
            key,
        }
    }

    /// The first SVID of a workload, by a token that this operator makes.
    async fn attest(&self, operator: &Svid, workload: &str) -> Svid {
        let request = v1::CreateTokenRequest {
            workload: workload.into(),
            ttl: None,
        };
        let made = OperationsClient::new(self.connect(operator).await)
            .create_token(request)
            .await;
        let key = new_key_and_csr().unwrap();
        let request = v1::AttestRequest {
            csr: key.csr_der.clone().into(),
            evidence: Some(v1::attest_request::Evidence::JoinToken(
                made.unwrap().into_inner().token,
            )),
            expected_workload: workload.into(),
        };
        let channel = dial(self.attestation, None).await.unwrap();
        let answer = AttestationClient::new(channel)
            .attest(request)
            .await
            .unwrap()
            .into_inner();
        Svid {
            chain: chain(&answer.chain),
            key,
        }
    }

    async fn connect(&self, svid: &Svid) -> Channel {
        dial(self.api, Some(svid)).await.unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
        self.folder
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_09_operators_and_workloads_get_in_by_their_svid_and_nobody_else_does() {
    let plane = Running::start(tempfile::tempdir().unwrap()).await;
    let ada = plane.login().await;
    let api = plane.attest(&ada, "shop/api").await;

    let mut operations = OperationsClient::new(plane.connect(&ada).await);
    let status = operations
        .status(v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let roles: Vec<_> = status
        .certificates
        .iter()
        .map(|c| (c.role.as_str(), c.renews_at.is_some()))
        .collect();
    assert_eq!(
        roles,
        [
            ("root", false),
            ("intermediate", true),
            ("control-plane", true)
        ]
    );

    let workload = plane.connect(&api).await;
    let refused = OperationsClient::new(workload.clone())
        .status(v1::StatusRequest {})
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = ResourcesClient::new(workload)
        .list(v1::ListRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    let anonymous = match dial(plane.api, None).await {
        Ok(channel) => OperationsClient::new(channel)
            .status(v1::StatusRequest {})
            .await
            .is_err(),
        Err(_) => true,
    };
    assert!(anonymous);
    let request = v1::ListAuditRequest {
        limit: 50,
        newest: true,
        ..Default::default()
    };
    let records = operations
        .list_audit(request)
        .await
        .unwrap()
        .into_inner()
        .records;
    for wanted in [
        "/weft.v1.Operations/Status",
        "/weft.v1.Resources/List",
        "handshake from 127.0.0.1",
    ] {
        let is_wanted =
            |record: &v1::AuditRecord| record.subject == wanted && record.outcome == "refused";
        assert!(
            records.iter().any(is_wanted),
            "{wanted} is not in {records:?}"
        );
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_14_a_revoked_identity_is_cut_at_once_and_stays_out() {
    let plane = Running::start(tempfile::tempdir().unwrap()).await;
    let ada = plane.login().await;
    let api = plane.attest(&ada, "shop/api").await;
    // A raw connection, so that its end is seen.
    let mut live = tls_stream(plane.api, Some(&api)).await.unwrap();
    live.write_all(PREFACE).await.unwrap();
    live.read_u8().await.unwrap();

    let mut operations = OperationsClient::new(plane.connect(&ada).await);
    let target = v1::revoke_request::Target::SpiffeId("spiffe://weft.local/ns/shop/sa/api".into());
    let request = v1::RevokeRequest {
        target: Some(target),
        reason: "stolen".into(),
        undo: false,
    };
    let revoked_at = Instant::now();
    let answer = operations
        .revoke(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(answer.changed);
    let mut rest = Vec::new();
    let _ = live.read_to_end(&mut rest).await;
    assert!(
        revoked_at.elapsed() < Duration::from_secs(1),
        "{:?}",
        revoked_at.elapsed()
    );

    let refused = match dial(plane.api, Some(&api)).await {
        Ok(channel) => IssuanceClient::new(channel)
            .renew(renewal(&new_key_and_csr().unwrap()))
            .await
            .is_err(),
        Err(_) => true,
    };
    assert!(refused);
    assert!(
        !operations
            .revoke(request.clone())
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    operations
        .revoke(v1::RevokeRequest {
            undo: true,
            ..request
        })
        .await
        .unwrap();
    let key = new_key_and_csr().unwrap();
    let renew = || async {
        let channel = dial(plane.api, Some(&api)).await.ok()?;
        IssuanceClient::new(channel).renew(renewal(&key)).await.ok()
    };
    let mut renewed = renew().await;
    while renewed.is_none() && revoked_at.elapsed() < Duration::from_secs(10) {
        renewed = renew().await;
    }
    assert!(renewed.is_some());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_16_garbage_ends_its_own_connection_and_no_other() {
    let plane = Running::start(tempfile::tempdir().unwrap()).await;
    let ada = plane.login().await;
    let mut operations = OperationsClient::new(plane.connect(&ada).await);
    for address in [plane.api, plane.attestation] {
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _ = plain.read_to_end(&mut Vec::new()).await;
        let svid = (address == plane.api).then_some(&ada);
        for garbage in [
            &b"not http2 at all\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let mut stream = tls_stream(address, svid).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        operations.status(v1::StatusRequest {}).await.unwrap();
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_with_the_same_root_and_leaves_nothing_behind() {
    let plane = Running::start(tempfile::tempdir().unwrap()).await;
    let ada = plane.login().await;
    let begun = Instant::now();
    let folder = plane.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("run"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let plane = Running::start(folder).await;
    // Signed by the intermediate of the process before, under the same root.
    let mut operations = OperationsClient::new(plane.connect(&ada).await);
    operations.status(v1::StatusRequest {}).await.unwrap();
    plane.stop().await;
}

fn renewal(key: &KeyAndCsr) -> v1::RenewRequest {
    v1::RenewRequest {
        csr: key.csr_der.clone().into(),
    }
}

fn chain(der: &[bytes::Bytes]) -> Vec<CertificateDer<'static>> {
    der.iter().map(|der| der.to_vec().into()).collect()
}

async fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn dial(
    address: SocketAddr,
    svid: Option<&Svid>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = TlsConnector::from(Arc::new(client(svid)));
    let connector = tower::service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("control-plane.weft").unwrap();
            Ok::<_, io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://control-plane.weft")
        .connect_with_connector(connector)
        .await
}

async fn tls_stream(
    address: SocketAddr,
    svid: Option<&Svid>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tls = TlsConnector::from(Arc::new(client(svid)));
    let name = ServerName::try_from("control-plane.weft").unwrap();
    tls.connect(name, TcpStream::connect(address).await?).await
}

fn client(svid: Option<&Svid>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let mut config = match svid {
        None => builder.with_no_client_auth(),
        Some(svid) => {
            let key = PrivatePkcs8KeyDer::from(svid.key.key_pkcs8.to_vec());
            builder
                .with_client_auth_cert(svid.chain.clone(), key.into())
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// These tests are about what the server asks of its clients.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// The client's HTTP/2 preface with empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
