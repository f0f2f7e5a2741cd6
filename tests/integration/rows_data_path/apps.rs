//! Programs behind a sidecar that do what one test needs, run in the test's own process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener that gives each connection to a function; stopped when dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicU64>,
    bytes: Arc<Mutex<Vec<u8>>>,
    serving: JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl App {
    pub(crate) async fn each<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let connections: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        });
        let bytes = Arc::default();
        Self {
            address,
            connections,
            bytes,
            serving,
        }
    }

    /// Sends these bytes whatever comes, and keeps what came.
    pub(crate) async fn says(answer: &'static [u8]) -> Self {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&bytes);
        let mut app = Self::each(move |mut stream| {
            let kept = Arc::clone(&kept);
            async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    kept.lock()
                        .expect("nobody panicked")
                        .extend_from_slice(&buffer[..read]);
                    let _ = stream.write_all(answer).await;
                }
            }
        })
        .await;
        app.bytes = bytes;
        app
    }

    /// HTTP/1.1 with upgrades, or h2c, whichever the client speaks.
    pub(crate) async fn http() -> Self {
        Self::each(|stream| async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let serving =
                builder.serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer));
            // A client that leaves early is the test's business.
            let _ = serving.await;
        })
        .await
    }

    /// Echoes until the client half-closes, then closes too.
    pub(crate) async fn echo() -> Self {
        Self::each(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// What came so far, of an app that keeps it.
    pub(crate) fn heard(&self) -> Vec<u8> {
        self.bytes.lock().expect("nobody panicked").clone()
    }
}

pub(crate) type Content = UnsyncBoxBody<Bytes, hyper::Error>;

/// `/stream…` never ends; `/large` is 64 MiB long; `/echo…` gives the request's content back as it comes; an upgrade or CONNECT becomes an echo;
/// everything else is `ok`.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Content>, Infallible> {
    let protocol = request.headers().get(header::UPGRADE).cloned();
    if protocol.is_some() || request.method() == http::Method::CONNECT {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        let mut response = Response::new(whole(""));
        if let Some(protocol) = protocol {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(header::UPGRADE, protocol);
            response
                .headers_mut()
                .insert(header::CONNECTION, "upgrade".parse().expect("a value"));
        }
        return Ok(response);
    }
    let path = request.uri().path();
    let content = if path.starts_with("/stream") {
        endless()
    } else if path.starts_with("/echo") {
        request.into_body().boxed_unsync()
    } else if path == "/large" {
        large()
    } else {
        whole("ok")
    };
    Ok(Response::new(content))
}

pub(crate) fn whole(text: &'static str) -> Content {
    Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A tick every few milliseconds, for ever.
fn endless() -> Content {
    let ticks = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Some((Ok(Frame::data(Bytes::from_static(b"tick\n"))), ()))
    });
    StreamBody::new(Box::pin(ticks)).boxed_unsync()
}

fn large() -> Content {
    let block = Bytes::from(vec![b'x'; 64 * 1024]);
    let blocks = stream::repeat_with(move || Ok(Frame::data(block.clone())));
    StreamBody::new(blocks.take(1024)).boxed_unsync()
}
