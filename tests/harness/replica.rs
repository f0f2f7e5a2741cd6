//! One of several like programs behind a service: it says who it is, and does badly when it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// An HTTP/1.1 server that answers with its name: `/healthz` with 500 while it is not well, `/slow` not before [`Replica::release`].
#[derive(Debug)]
pub struct Replica {
    pub address: SocketAddr,
    app: Arc<App>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct App {
    name: String,
    is_well: AtomicBool,
    count: AtomicU64,
    waiting: AtomicU64,
    released: watch::Sender<bool>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Replica {
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let app = Arc::new(App {
            name: name.to_owned(),
            is_well: AtomicBool::new(true),
            count: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            released: watch::Sender::new(false),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&app)));
        Self {
            address,
            app,
            serving,
        }
    }

    /// What `/healthz` says from now on.
    pub fn set_well(&self, is_well: bool) {
        self.app.is_well.store(is_well, Ordering::SeqCst);
    }

    /// Lets requests for `/slow` go, also those to come.
    pub fn release(&self) {
        self.app.released.send_replace(true);
    }

    /// Requests for `/slow` that wait now.
    pub fn waiting(&self) -> u64 {
        self.app.waiting.load(Ordering::SeqCst)
    }

    /// Requests so far, those for its health apart.
    pub fn count(&self) -> u64 {
        self.app.count.load(Ordering::SeqCst)
    }

    /// Ends it as a crash would: its listener and its connections are gone.
    pub async fn kill(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    /// Starts the killed one again where it was.
    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("its port is free");
        self.serving = tokio::spawn(serve(listener, Arc::clone(&self.app)));
    }
}

async fn serve(listener: TcpListener, app: Arc<App>) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let app = Arc::clone(&app);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&app)));
            // A client that leaves early is the test's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    app: Arc<App>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(app.name.clone()));
    match request.uri().path() {
        "/healthz" => {
            if !app.is_well.load(Ordering::SeqCst) {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            return Ok(response);
        }
        "/slow" => {
            app.waiting.fetch_add(1, Ordering::SeqCst);
            let _ = app
                .released
                .subscribe()
                .wait_for(|released| *released)
                .await;
            app.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        _ => {}
    }
    app.count.fetch_add(1, Ordering::SeqCst);
    Ok(response)
}
