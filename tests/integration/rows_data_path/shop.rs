//! An api with several ports behind its sidecar, and a web with a sidecar and an SVID that may call it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use weft_tests::{Mesh, Sidecar, SidecarSpec, Svid, eventually, get};

/// A port of shop/api: its name, its protocol, and where the program behind it listens.
pub(crate) type Port<'p> = (&'p str, &'p str, SocketAddr);

pub(crate) struct Shop {
    pub(crate) api: Sidecar,
    pub(crate) web: Sidecar,
    /// Dropped last: the logs lie in its folder.
    pub(crate) mesh: Mesh,
}

impl Shop {
    pub(crate) async fn start(ports: &[Port<'_>], rules: &str) -> Self {
        Self::start_with(ports, rules, json!({})).await
    }

    /// With further keys of both sidecars' configuration.
    pub(crate) async fn start_with(ports: &[Port<'_>], rules: &str, keys: Value) -> Self {
        let mesh = Mesh::start().await;
        mesh.apply(&(service(ports) + rules)).await;
        let mut api = SidecarSpec::of("shop/api");
        let mut web = SidecarSpec::of("shop/web");
        for (port, _, app) in ports {
            let target = target(port);
            api = api.app(&target, *app);
            web = web.upstream(&target);
        }
        for (key, value) in keys.as_object().into_iter().flatten() {
            api = api.set(key, value.clone());
            web = web.set(key, value.clone());
        }
        let (api, web) = tokio::join!(mesh.sidecar(api), mesh.sidecar(web));
        let shop = Self { api, web, mesh };
        shop.wait_for_endpoints(1).await;
        shop
    }

    /// Until web knows so many endpoints of everything that it may call.
    pub(crate) async fn wait_for_endpoints(&self, count: usize) {
        let page = format!("http://{}/view", self.web.admin);
        eventually("the endpoints are known", || async {
            let view = get(&page).await.map_err(|error| error.to_string())?.json();
            let services = view["outbound"].as_array().expect("a list of services");
            let knows = |service: &Value| service["endpoints"].as_array().map(Vec::len);
            if services.iter().all(|service| knows(service) == Some(count)) {
                Ok(())
            } else {
                Err(view.to_string())
            }
        })
        .await;
    }

    /// What web holds, and what a thief of it would.
    pub(crate) fn svid(&self) -> Svid {
        Svid::of_sidecar(&self.web.runtime)
    }

    /// Past web's own sidecar, straight to the api's: only the server's side is asked.
    pub(crate) async fn straight(&self, port: &str, alpn: &str) -> TlsStream<TcpStream> {
        self.svid()
            .connect(self.api.inbound, &server_name(port), alpn)
            .await
            .expect("a good handshake")
    }

    /// Through both sidecars.
    pub(crate) async fn through(&self, port: &str) -> TcpStream {
        let stream = TcpStream::connect(self.web.upstream(&target(port)))
            .await
            .expect("the listener accepts");
        stream.set_nodelay(true).expect("a socket's option");
        stream
    }

    /// Both processes live, did not panic, and are ready.
    pub(crate) async fn assert_well(&mut self) {
        for sidecar in [&mut self.api, &mut self.web] {
            assert_eq!(sidecar.process.ended(), None, "it ended");
            let log = sidecar.process.log();
            assert!(!log.contains("panicked"), "{log}");
            let ready = get(&format!("http://{}/ready", sidecar.admin)).await;
            assert_eq!(ready.expect("its admin answers").status, 200);
        }
    }
}

pub(crate) fn target(port: &str) -> String {
    format!("shop/api:{port}")
}

pub(crate) fn server_name(port: &str) -> String {
    format!("{port}.api.shop.test.example")
}

/// A rule for web at one port of the api; `http` in YAML's flow form, or empty for none.
pub(crate) fn rule(name: &str, port: &str, http: &str) -> String {
    let conditions = if http.is_empty() {
        String::new()
    } else {
        format!("  http: [{http}]\n")
    };
    format!(
        "---\napiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  to: {{service: api, ports: [{port}]}}\n  from: [shop/web]\n{conditions}"
    )
}

fn service(ports: &[Port<'_>]) -> String {
    let ports: Vec<String> = (ports.iter().enumerate())
        .map(|(at, (name, protocol, _))| {
            let (port, behind) = (80 + at, 8080 + at);
            format!("{{name: {name}, port: {port}, targetPort: {behind}, protocol: {protocol}}}")
        })
        .collect();
    format!(
        "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: api, namespace: shop}}\n\
         spec:\n  workloads: [shop/api]\n  ports: [{}]\n",
        ports.join(", ")
    )
}

/// The sum of the metric's lines that begin like this; 0 when there is none.
pub(crate) async fn metric(sidecar: &Sidecar, begins: &str) -> u64 {
    let page = get(&format!("http://{}/metrics", sidecar.admin)).await;
    let page = page.expect("its admin answers").text();
    let values = page.lines().filter(|line| line.starts_with(begins));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Bytes of memory that the process occupies now.
#[track_caller]
pub(crate) fn resident(sidecar: &Sidecar) -> u64 {
    let path = format!("/proc/{}/status", sidecar.process.pid());
    let status = std::fs::read_to_string(path).expect("the process lives");
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next())
        .and_then(|number| number.parse::<u64>().ok());
    kibibytes.expect("a number of kB") * 1024
}

/// Sends, and reads until the other side ends the connection, which it must. What had come before a reset counts.
pub(crate) async fn exchange<S>(mut stream: S, bytes: &[u8]) -> Vec<u8>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut answer = Vec::new();
    let exchanged = tokio::time::timeout(LIMIT, async {
        // It may hang up in the middle.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        read_rest(&mut stream, &mut answer).await;
    });
    let ended = exchanged.await.is_ok();
    assert!(ended, "not ended after {}", bytes.escape_ascii());
    answer
}

/// Reads until the end or an error.
pub(crate) async fn read_rest<S: AsyncRead + Unpin>(stream: &mut S, into: &mut Vec<u8>) {
    while let Ok(1..) = stream.read_buf(into).await {}
}

/// Reads until what came ends so.
pub(crate) async fn read_until<S>(stream: &mut S, end: &[u8]) -> io::Result<Vec<u8>>
where
    S: AsyncRead + Unpin,
{
    let mut all = Vec::new();
    let read = tokio::time::timeout(LIMIT, async {
        while !all.ends_with(end) {
            if stream.read_buf(&mut all).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    });
    let outcome: io::Result<()> = read.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    match outcome {
        Ok(()) => Ok(all),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{error} after {:?}", String::from_utf8_lossy(&all)),
        )),
    }
}

/// Reads the head of a response and nothing after it.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    let read = tokio::time::timeout(LIMIT, async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        io::Result::Ok(())
    });
    read.await.map_err(io::Error::other)??;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Longer than any of this takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);
