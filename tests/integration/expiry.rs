//! A client that goes on using connections although its SVID expires: no request of it begins afterwards.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use weft_tests::backend::Backend;
use weft_tests::{FakeControlPlane, KeepAlive, Mesh, Sidecar, inbound};
use weft_wire::type_url;

const TARGET: &str = "http.api.shop.test.example";
const HOST: [(&str, &str); 1] = [("Host", "api.shop")];
const TTL: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn row_01_no_request_begins_on_a_connection_whose_svid_has_expired() {
    let mesh = Mesh::start().await;
    let fake = FakeControlPlane::start(mesh.trust_domain()).await;
    let backend = Backend::http().await;
    let spec = fake.joining(&mesh, "shop/api");
    let sidecar = mesh
        .sidecar(spec.app("shop/api:http", backend.address))
        .await;
    let api = inbound("shop/api", "shop/client", 1);
    fake.say(type_url::INBOUND, vec![api]);
    assert_eq!(fake.answer().await.error_detail, None);

    let expires = Timestamp::now() + TTL;
    let client = fake.svid_for("shop/client", TTL);
    let connect = |alpn| client.connect(sidecar.inbound, TARGET, alpn);
    let kept = connect("http/1.1").await.expect("its SVID holds yet");
    let mut kept = KeepAlive::new(kept);
    for _ in 0..2 {
        let answer = kept.request("GET", "/", &HOST).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let rude = connect("h2").await.expect("its SVID holds yet");
    let mut rude = RudeHttp2::begin(rude).await;
    assert!(rude.is_answered_with_200(1).await.expect("an answer"));
    assert_eq!(on_expired_connections(&sidecar).await, 0);

    // Who minds what HTTP says is told in time that nothing more is taken.
    kept.until_closed().await.expect("it ends in order");
    assert!(Timestamp::now() < expires, "it was kept for too long");

    // Who does not is refused.
    let past = expires + Duration::from_secs(1);
    let left = past.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().expect("it is still to come")).await;
    assert!(!rude.is_answered_with_200(3).await.expect("an answer"));
    assert_eq!(on_expired_connections(&sidecar).await, 1);

    // And no connection is made any more; with TLS 1.3 the client learns that when it reads.
    if let Ok(stream) = connect("http/1.1").await {
        let answer = KeepAlive::new(stream).request("GET", "/", &HOST).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(backend.count(), 3);
}

async fn on_expired_connections(sidecar: &Sidecar) -> u64 {
    let metrics = weft_tests::get(&format!("http://{}/metrics", sidecar.admin))
        .await
        .expect("metrics")
        .text();
    metrics
        .lines()
        .find_map(|line| line.strip_prefix("weft_requests_on_expired_connection_total "))
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("no such metric in {metrics}"))
}

/// An HTTP/2 client that hears neither GOAWAY nor the PING after it, so that a server which shuts down in order waits for it.
struct RudeHttp2<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RudeHttp2<S> {
    async fn begin(mut stream: S) -> Self {
        // The preface and empty SETTINGS (RFC 9113 §3.4).
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(preface).await.expect("it is sent");
        Self { stream }
    }

    /// Asks on this stream.
    async fn is_answered_with_200(&mut self, stream: u8) -> io::Result<bool> {
        // GET, http and `/` have entries of their own in the static table (RFC 7541 appendix A), the authority's name has one.
        let block = [&[0x82, 0x86, 0x84, 0x01, 8][..], b"api.shop"].concat();
        let length = u8::try_from(block.len()).expect("short");
        // END_STREAM and END_HEADERS.
        let head = [0, 0, length, HEADERS, 0x05, 0, 0, 0, stream];
        self.stream.write_all(&[&head[..], &block].concat()).await?;
        self.stream.flush().await?;
        let answered = tokio::time::timeout(Duration::from_secs(20), self.answer(stream)).await;
        answered.map_err(|_| io::Error::other("no answer in time"))?
    }

    async fn answer(&mut self, stream: u8) -> io::Result<bool> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            self.stream.read_exact(&mut payload).await?;
            if head[3] == HEADERS && head[8] == stream {
                return Ok(payload.first() == Some(&STATUS_200));
            }
        }
    }
}

const HEADERS: u8 = 1;
/// As the static table has it.
const STATUS_200: u8 = 0x88;
