//! Just enough HTTP/1.1 for the samples: one function that serves, one that calls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::SaysNo;

/// What a sample answers: a status and a JSON text.
pub(super) struct Answer(pub StatusCode, pub serde_json::Value);

/// Serves until the process ends; each request is given to `handle`.
pub(super) async fn serve<H, F>(listen: SocketAddr, handle: H) -> anyhow::Result<()>
where
    H: Fn(Method, String) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| SaysNo(format!("cannot listen on {listen}")))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let handle = handle.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = handle(request.method().clone(), request.uri().path().to_owned());
                async move { Ok::<_, Infallible>(respond(answer.await)) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                println!("a connection ended early: {error}");
            }
        });
    }
}

fn respond(Answer(status, body): Answer) -> Response<Full<Bytes>> {
    let mut text = body.to_string();
    text.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// `GET url`, through the HTTP proxy at `proxy` if there is one.
pub(super) async fn get(url: &str, proxy: Option<&str>) -> anyhow::Result<(StatusCode, String)> {
    tokio::time::timeout(CALL_TIMEOUT, exchange(url, proxy))
        .await
        .with_context(|| format!("GET {url}: no answer within {CALL_TIMEOUT:?}"))?
        .with_context(|| format!("GET {url}"))
}

async fn exchange(url: &str, proxy: Option<&str>) -> anyhow::Result<(StatusCode, String)> {
    let uri: Uri = url.parse()?;
    let Some(authority) = uri.authority() else {
        bail!("the address names no host");
    };
    let stream = TcpStream::connect(proxy.unwrap_or(authority.as_str())).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    // A proxy is given the whole address, a server only the path.
    let target = match (proxy, uri.path_and_query()) {
        (None, Some(path)) => path.as_str(),
        _ => url,
    };
    let request = Request::get(target)
        .header(HOST, authority.as_str())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = match Limited::new(response.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => bail!("the body could not be read: {error}"),
    };
    drop(sender);
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).trim_end().to_owned()))
}

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 1 << 20;
