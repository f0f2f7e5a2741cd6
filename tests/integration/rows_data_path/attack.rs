//! What attacks on the data path share: a small shop to attack, and clients that send exactly the bytes they are told.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_tests::backend::Backend;
use weft_tests::{Mesh, Recorder, Sidecar, SidecarSpec, Svid, eventually, get};

/// web calls api; admin is offered by api's workload too, orders by nobody.
pub(super) struct Shop {
    pub(super) mesh: Mesh,
    pub(super) api: Sidecar,
    pub(super) web: Sidecar,
    /// What web's sidecar holds, in the hands of a program that goes round it.
    pub(super) svid: Svid,
    /// Behind `api:http` and `admin:http`.
    pub(super) http: Recorder,
    /// Behind `api:h2`.
    pub(super) h2: Backend,
    /// Behind `api:raw`.
    pub(super) raw: Backend,
}

/// The API's ports: HTTP/1.1, HTTP/2, and bytes.
const SERVICES: &str =
    "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: api, namespace: shop}
spec:
  workloads: [shop/api]
  ports:
  - {name: http, port: 80, targetPort: 8080, protocol: http}
  - {name: h2, port: 81, targetPort: 8081, protocol: http2}
  - {name: raw, port: 82, targetPort: 8082, protocol: tcp}
---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: admin, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, targetPort: 8080, protocol: http}]}
---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: orders, namespace: shop}
spec: {workloads: [shop/orders], ports: [{name: http, port: 80, targetPort: 8080, protocol: http}]}
";

pub(super) const HTTP: &str = "http.api.shop.test.example";
pub(super) const H2: &str = "h2.api.shop.test.example";
pub(super) const RAW: &str = "raw.api.shop.test.example";

impl Shop {
    /// With these rules.
    pub(super) async fn open(rules: &str) -> Self {
        let mesh = Mesh::start().await;
        mesh.apply(&format!("{SERVICES}{rules}")).await;
        let (http, h2, raw) = (
            Recorder::start().await,
            Backend::http().await,
            Backend::tcp().await,
        );
        let api = SidecarSpec::of("shop/api")
            .app("shop/api:http", http.address)
            .app("shop/api:h2", h2.address)
            .app("shop/api:raw", raw.address)
            .app("shop/admin:http", http.address);
        let web = SidecarSpec::of("shop/web")
            .upstream("shop/api:http")
            .upstream("shop/api:h2")
            .upstream("shop/api:raw");
        let api = mesh.sidecar(api).await;
        let web = mesh.sidecar(web).await;
        wait_for_endpoints(&web).await;
        Self {
            svid: Svid::of_sidecar(&web.runtime),
            mesh,
            api,
            web,
            http,
            h2,
            raw,
        }
    }

    /// Sends bytes to the HTTP port of the API, through web's own sidecar or straight to the peer.
    pub(super) async fn send(&self, way: Way, bytes: &[u8]) -> Vec<u8> {
        match way {
            Way::OwnSidecar => {
                let upstream = TcpStream::connect(self.web.upstream("shop/api:http")).await;
                exchange(upstream.expect("a listener"), bytes).await
            }
            Way::Straight => straight(&self.svid, self.api.inbound, HTTP, bytes).await,
        }
    }

    /// An HTTP/2 connection to a port of the API.
    pub(super) async fn http2(&self, way: Way, port: &str) -> Http2 {
        match way {
            Way::OwnSidecar => {
                let upstream = self.web.upstream(&format!("shop/api:{port}"));
                http2(TcpStream::connect(upstream).await.expect("a listener")).await
            }
            Way::Straight => {
                let name = format!("{port}.api.shop.test.example");
                let stream = self.svid.connect(self.api.inbound, &name, "h2").await;
                http2(stream.expect("a good handshake")).await
            }
        }
    }
}

/// How a request gets to the peer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    OwnSidecar,
    /// Past it, with the workload's real SVID.
    Straight,
}

pub(super) const WAYS: [Way; 2] = [Way::OwnSidecar, Way::Straight];

/// Sends the bytes as HTTP/1.1 to an inbound listener, and gives what comes back until it ends.
pub(super) async fn straight(
    svid: &Svid,
    inbound: SocketAddr,
    server_name: &str,
    bytes: &[u8],
) -> Vec<u8> {
    let stream = svid.connect(inbound, server_name, "http/1.1").await;
    exchange(stream.expect("a good handshake"), bytes).await
}

/// Sends the bytes and reads until the peer ends the connection, which it must.
pub(super) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) -> Vec<u8> {
    let mut answer = Vec::new();
    let whole = async {
        // Whoever refuses may hang up in the middle.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    let ended = tokio::time::timeout(LIMIT, whole).await.is_ok();
    let text = String::from_utf8_lossy(&answer);
    assert!(ended, "no end after {text:?}");
    answer
}

/// The status of the first response; none when nothing came.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Requests of one HTTP/2 connection.
pub(super) type Http2 = SendRequest<BoxBody<Bytes, std::convert::Infallible>>;

pub(super) async fn http2(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Http2 {
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// The status of `GET` for this URI over HTTP/2.
pub(super) async fn get_http2(sender: &mut Http2, uri: &str, host: Option<&str>) -> u16 {
    let mut request = http::Request::get(uri);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    let request = request.body(Empty::new().boxed()).expect("a request");
    let answer = tokio::time::timeout(LIMIT, sender.send_request(request)).await;
    let answer = answer.expect("an answer in time").expect("an answer");
    answer.status().as_u16()
}

/// Until the sidecar knows where the API is.
async fn wait_for_endpoints(sidecar: &Sidecar) {
    let page = format!("http://{}/view", sidecar.admin);
    eventually("the endpoint is known", || async {
        let view = get(&page).await.map_err(|error| error.to_string())?.json();
        let services = view["outbound"].as_array().expect("a list of services");
        let is_known =
            |service: &Value| service["service"] == "shop/api" && service["endpoints"] != json!([]);
        if services.iter().any(is_known) {
            Ok(())
        } else {
            Err(view.to_string())
        }
    })
    .await;
}

const LIMIT: Duration = Duration::from_secs(20);
