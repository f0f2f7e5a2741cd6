//! A small HTTP server for those who run the process: health, readiness, metrics and pages of its own.
//!
//! It answers GET and HEAD of exact paths, serves few connections at a time, and reads no bodies.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::{Readiness, Tasks};

/// The answer to one request.
#[derive(Debug)]
pub struct Page {
    /// The status code.
    pub status: StatusCode,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Page {
    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// JSON that the caller has already written.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            body: body.into(),
        }
    }
}

type Handler = Box<dyn Fn() -> Page + Send + Sync>;

/// What is served, by exact path.
#[derive(Default)]
pub struct Routes {
    pages: BTreeMap<&'static str, Handler>,
}

impl Routes {
    /// `/live` (always 200), `/ready` (200 or 503) and `/metrics`.
    pub fn standard(readiness: Readiness, metrics: Registry) -> Self {
        // Encoding walks shared atomics; the lock only makes the registry shareable, whatever its collectors are.
        let metrics = Mutex::new(metrics);
        Self::default()
            .page("/live", || Page::text(StatusCode::OK, "live\n"))
            .page("/ready", move || {
                if readiness.is_ready() {
                    Page::text(StatusCode::OK, "ready\n")
                } else {
                    Page::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                }
            })
            .page("/metrics", move || {
                let metrics = metrics
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                metrics_page(&metrics)
            })
    }

    /// Adds a page.
    #[must_use]
    pub fn page(
        mut self,
        path: &'static str,
        handler: impl Fn() -> Page + Send + Sync + 'static,
    ) -> Self {
        self.pages.insert(path, Box::new(handler));
        self
    }

    fn answer(&self, method: &Method, path: &str) -> Page {
        if method != Method::GET && method != Method::HEAD {
            return Page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match self.pages.get(path) {
            Some(handler) => handler(),
            None => Page::text(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }
}

/// Serves the routes until the process drains, and while it drains too: readiness must be seen to go.
pub async fn serve(listener: TcpListener, routes: Routes, tasks: Tasks) -> Result<(), Infallible> {
    let routes = Arc::new(routes);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Only a closed semaphore fails, and nobody closes it.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return Ok(());
        };
        let (socket, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let routes = Arc::clone(&routes);
        tasks.observer("admin connection", async move {
            let service = hyper::service::service_fn(move |request| {
                let response = respond(&routes, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(socket), service);
            let _ = tokio::time::timeout(CONNECTION_LIFETIME, connection).await;
            drop(slot);
        });
    }
}

fn respond(routes: &Routes, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let page = routes.answer(request.method(), request.uri().path());
    let mut response = Response::new(Full::new(page.body));
    *response.status_mut() = page.status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(page.content_type),
    );
    response
}

fn metrics_page(metrics: &Registry) -> Page {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, metrics) {
        Ok(()) => Page {
            status: StatusCode::OK,
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body: text.into(),
        },
        Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

const MAX_CONNECTIONS: usize = 32;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_and_metrics_are_served_and_unknown_pages_are_not() {
        let readiness = Readiness::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new();
        let routes = Routes::standard(readiness.clone(), Registry::default());
        tasks.vital("admin", serve(listener, routes, tasks.clone()));
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 503"));
        readiness.set(true);
        assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        assert!(get(address, "/else").await.starts_with("HTTP/1.1 404"));
        tasks.drain(Duration::ZERO).await;
    }
}
