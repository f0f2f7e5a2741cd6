//! Services outside of the mesh: a name server, an HTTP server, a TLS server and an echo that a web may call through its sidecar.

mod addresses;
mod asked;
mod connect;
mod hosts;
mod names;
mod tunnels;

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_tests::{Dns, Mesh, Ran, Response, Sidecar, SidecarSpec, request};

use crate::rows_data_path::apps::App;
use crate::rows_data_path::shop::{LIMIT, read_head};

/// The host that the service names exactly.
const HOST: &str = "api.outside.test";
/// One below its wildcard.
const WILD: &str = "bucket.wild.outside.test";
/// One of its own domain that it does not name.
const OTHER: &str = "other.outside.test";

struct World {
    http: App,
    echo: App,
    tls: App,
    certificate: CertificateDer<'static>,
    dns: Dns,
    web: Sidecar,
    /// Dropped last: the logs lie in its folder.
    mesh: Mesh,
}

impl World {
    /// With the service `shop/outside` and no rule for it.
    async fn start() -> Self {
        let mesh = Mesh::start().await;
        let (http, echo) = (App::http().await, App::echo().await);
        let (tls, certificate) = tls_echo().await;
        let dns = Dns::start().await;
        for name in [HOST, WILD, OTHER, "single.outside.test"] {
            dns.set(name, &["127.0.0.1"], 60);
        }
        let web = SidecarSpec::of("shop/web")
            .set("dns", json!({"servers": [dns.address.to_string()]}))
            .upstream("shop/outside:http")
            .upstream("shop/outside:tls")
            .upstream("shop/outside:raw")
            .upstream("shop/single:raw");
        let web = mesh.sidecar(web).await;
        let world = Self {
            http,
            echo,
            tls,
            certificate,
            dns,
            web,
            mesh,
        };
        world
            .apply(&world.service(&format!("{HOST}, '*.wild.outside.test'")))
            .await;
        world
    }

    /// With a rule that opens all of it.
    async fn open() -> Self {
        let world = Self::start().await;
        world.apply(&rule("")).await;
        world
    }

    /// The service with these hosts.
    fn service(&self, hosts: &str) -> String {
        self.service_at(hosts, "127.0.0.1/32")
    }

    fn service_at(&self, hosts: &str, ranges: &str) -> String {
        let [http, tls, raw] = [&self.http, &self.tls, &self.echo].map(|app| app.address.port());
        format!(
            "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: outside, namespace: shop}}\n\
             spec:\n  type: External\n  hosts: [{hosts}]\n  allowAddresses: [{ranges}]\n  ports:\n  \
             - {{name: http, port: {http}, protocol: http}}\n  - {{name: tls, port: {tls}, protocol: tls}}\n  \
             - {{name: raw, port: {raw}, protocol: tcp}}\n"
        )
    }

    async fn apply(&self, documents: &str) -> Ran {
        self.mesh.apply(documents).await
    }

    fn at(&self, host: &str, app: &App) -> String {
        format!("{host}:{}", app.address.port())
    }

    /// `GET` by the HTTP proxy.
    async fn get(&self, authority: &str, path: &str) -> Response {
        let target = format!("http://{authority}{path}");
        let answer = request(self.web.proxy, "GET", &target, &[("Host", authority)], b"").await;
        answer.expect("an answer")
    }

    /// `GET` by the upstream listener.
    async fn get_at_listener(&self, host: &str) -> Response {
        let listener = self.web.upstream("shop/outside:http");
        let answer = request(listener, "GET", "/", &[("Host", host)], b"").await;
        answer.expect("an answer")
    }

    /// CONNECT, and the head of its answer.
    async fn connect(&self, authority: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.web.proxy)
            .await
            .expect("it accepts");
        let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream
            .write_all(connect.as_bytes())
            .await
            .expect("it is read");
        let head = read_head(&mut stream).await.expect("an answer");
        (stream, head)
    }

    /// TLS for this name over a stream.
    async fn handshake(
        &self,
        stream: TcpStream,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("its versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        tokio::time::timeout(LIMIT, connecting)
            .await
            .expect("in time")
    }

    /// The newest refusal of this reason as the operator sees it.
    async fn decision(&self, reason: &str) -> String {
        let page = weft_tests::get(&format!("http://{}/metrics", self.web.admin)).await;
        let page = page.expect("its admin answers").text();
        assert!(page.contains("weft_"), "{page}");
        let log = self.web.process.log();
        let line = log.lines().rev().find(|line| {
            line.contains("refused") && line.contains(&format!("reason=\"{reason}\""))
        });
        let line = line.unwrap_or_else(|| panic!("no refusal for {reason} in\n{log}"));
        let id = line
            .split("decision=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        id.expect("an id").to_owned()
    }

    /// Until the control plane knows of it.
    async fn why(&self, id: &str) -> String {
        weft_tests::eventually("the decision is known", || async {
            let ran = self.mesh.meshctl(["why", id]).await;
            if ran.code == 0 {
                Ok(ran.stdout)
            } else {
                Err(ran)
            }
        })
        .await
    }
}

/// A rule for web at the service; further lines of its spec.
fn rule(more: &str) -> String {
    rule_at("outside", more)
}

fn rule_at(service: &str, more: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: web-{service}, namespace: shop}}\n\
         spec:\n  to: {{service: {service}}}\n  from: [shop/web]\n{more}"
    )
}

/// Whether what was sent comes back.
async fn echoes<S>(stream: &mut S) -> bool
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let echoed = tokio::time::timeout(LIMIT, async {
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await?;
        std::io::Result::Ok(back)
    });
    matches!(echoed.await, Ok(Ok(back)) if back == *b"ping")
}

/// Whether the other side ends the stream, or has.
async fn ends(stream: &mut TcpStream) -> bool {
    let reading = tokio::time::timeout(LIMIT, async {
        let mut rest = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut rest).await {}
    });
    reading.await.is_ok()
}

/// Whether a listener ends a connection of bytes at once; its reset may come before the client has noticed that it was accepted.
async fn is_closed(listener: SocketAddr) -> bool {
    match TcpStream::connect(listener).await {
        Ok(mut stream) => ends(&mut stream).await,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// An echo in TLS, and its certificate for the names that are outside.
async fn tls_echo() -> (App, CertificateDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let names = [HOST, WILD, OTHER].map(str::to_owned);
    let params = CertificateParams::new(names).expect("names");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("its versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let app = App::each(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        }
    })
    .await;
    (app, certificate.der().clone())
}

/// A free address of this host.
async fn free() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    listener
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
