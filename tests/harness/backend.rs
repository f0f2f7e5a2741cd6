//! Small programs to put behind a sidecar, run in the test's own process and stopped when dropped.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as a backend saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// A server that remembers what it saw; what it answers depends on its kind.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Backend {
    /// HTTP/1.1 or h2c, whichever the client speaks: 200 and the request's body.
    pub async fn http() -> Self {
        let (listener, address) = bind().await;
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let count: Arc<AtomicU64> = Arc::default();
        let (all, counted) = (Arc::clone(&seen), Arc::clone(&count));
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (all, counted) = (Arc::clone(&all), Arc::clone(&counted));
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        answer(request, Arc::clone(&all), Arc::clone(&counted))
                    });
                    // A client that leaves early is the test's business.
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            seen,
            count,
            serving,
        }
    }

    /// TCP: echoes until the client half-closes, then says how many bytes it had, and closes.
    pub async fn tcp() -> Self {
        let (listener, address) = bind().await;
        let count: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&count);
        let serving = tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else {
                    return;
                };
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let (mut buffer, mut total) = ([0u8; 4096], 0usize);
                    while let Ok(read) = stream.read(&mut buffer).await {
                        if read == 0 {
                            let _ = stream.write_all(format!("total {total}").as_bytes()).await;
                            let _ = stream.shutdown().await;
                            return;
                        }
                        total += read;
                        if stream.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen: Arc::default(),
            count,
            serving,
        }
    }

    /// Requests (or TCP connections) so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// What it saw so far; at most the newest thousand.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .expect("no test panicked while it wrote")
            .clone()
    }

    /// The hash of the client's certificate in the newest request, as the sidecar wrote it.
    pub fn last_certificate_hash(&self) -> Option<String> {
        let seen = self.seen.lock().expect("no test panicked while it wrote");
        let header = seen
            .last()?
            .headers
            .get("x-forwarded-client-cert")?
            .to_str()
            .ok()?;
        header
            .split(';')
            .find_map(|part| part.strip_prefix("Hash="))
            .map(str::to_owned)
    }

    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().last().cloned().expect("a request has come")
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    (listener, address)
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await;
    let (body, trailers) = match collected {
        Ok(body) => {
            let trailers = body.trailers().cloned();
            (body.to_bytes(), trailers)
        }
        Err(_) => (Bytes::new(), None),
    };
    count.fetch_add(1, Ordering::SeqCst);
    let mut all = seen.lock().expect("no test panicked while it wrote");
    if all.len() >= MAX_SEEN {
        all.remove(0);
    }
    all.push(Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: body.to_vec(),
        trailers,
    });
    Ok(Response::new(Full::new(body)))
}

const MAX_SEEN: usize = 1000;
