//! gRPC: every kind of call, with its status, its cancellation by either side, and its deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use weft_tests::eventually;
use weft_tests::peer::AsIs;

use crate::rows_data_path::apps::App;
use crate::rows_data_path::shop::{LIMIT, Shop, rule, target};

#[tokio::test(flavor = "multi_thread")]
async fn all_four_kinds_of_calls_pass() {
    let stage = Stage::start().await;
    let answer = stage
        .grpc()
        .await
        .unary(Request::new(word("a")), path("echo"), AsIs)
        .await;
    assert_eq!(answer.expect("an answer").into_inner(), "a");

    let words = || stream::iter(["a", "b", "c"].map(word));
    let answer = stage
        .grpc()
        .await
        .client_streaming(Request::new(words()), path("join"), AsIs)
        .await;
    assert_eq!(answer.expect("an answer").into_inner(), "abc");

    let answer = stage
        .grpc()
        .await
        .server_streaming(Request::new(word("a")), path("thrice"), AsIs)
        .await;
    assert_eq!(
        rest(answer.expect("an answer").into_inner()).await,
        ["a", "a", "a"]
    );

    // Each word is answered before the next is sent: nothing waits for the end.
    let (words, sent) = tokio::sync::mpsc::channel(1);
    let answer = stage
        .grpc()
        .await
        .streaming(Request::new(ReceiverStream::new(sent)), path("echo"), AsIs)
        .await;
    let mut answers = answer.expect("an answer").into_inner();
    for number in 0..100 {
        let said = Bytes::from(format!("word {number}"));
        words.send(said.clone()).await.expect("it is taken");
        let heard = answers.message().await.expect("no error");
        assert_eq!(heard, Some(said));
    }
    drop(words);
    assert_eq!(answers.message().await.expect("no error"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_its_message_and_its_metadata_pass_with_messages_before_it_or_without() {
    let stage = Stage::start().await;
    for (method, before) in [("fails", 0), ("fails-late", 2)] {
        let answer = stage
            .grpc()
            .await
            .server_streaming(Request::new(word("a")), path(method), AsIs)
            .await;
        let mut heard = 0;
        let status = match answer {
            Err(status) => status,
            Ok(answer) => {
                let mut answers = answer.into_inner();
                loop {
                    match answers.message().await {
                        Ok(Some(_)) => heard += 1,
                        Ok(None) => panic!("{method}: no status"),
                        Err(status) => break status,
                    }
                }
            }
        };
        assert_eq!(
            (heard, status.code()),
            (before, Code::FailedPrecondition),
            "{method}"
        );
        assert_eq!(status.message(), "not so: \u{e4} % and more", "{method}");
        assert_eq!(status.details(), b"\0\x01details", "{method}");
        assert_eq!(status.metadata().get("x-hint").expect("metadata"), "why");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cancels_ends_the_call_at_the_server_and_so_does_its_deadline() {
    let stage = Stage::start().await;
    let mut answers = stage
        .endless(Request::new(word("a")))
        .await
        .expect("a call");
    answers.message().await.expect("no error");
    assert_eq!(stage.open(), 1);
    drop(answers);
    stage.until_ended("cancelled").await;

    let mut request = Request::new(word("a"));
    request.set_timeout(Duration::from_millis(500));
    let mut answers = stage.endless(request).await.expect("a call");
    // The server's own clock: it was told of the deadline, and keeps it.
    let status = tokio::time::timeout(LIMIT, async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no status"),
                Err(status) => break status,
            }
        }
    });
    let status = status.await.expect("the deadline is kept");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    stage.until_ended("past its deadline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_is_told_to_the_client_as_an_error_and_not_as_an_end() {
    let stage = Stage::start().await;
    let answer = stage
        .grpc()
        .await
        .server_streaming(Request::new(word("a")), path("breaks"), AsIs)
        .await;
    let mut answers = answer.expect("a call").into_inner();
    let first = answers.message().await.expect("no error");
    assert_eq!(first, Some(word("a")));
    let broken = answers.message().await;
    assert!(broken.is_err(), "{broken:?}");
    // The connection carries on.
    let answer = stage
        .grpc()
        .await
        .unary(Request::new(word("b")), path("echo"), AsIs)
        .await;
    assert_eq!(answer.expect("an answer").into_inner(), "b");
}

struct Stage {
    channel: Channel,
    open: Arc<AtomicU64>,
    _shop: Shop,
    _app: App,
}

impl Stage {
    async fn start() -> Self {
        let open: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&open);
        let app = App::each(move |stream| {
            let counted = Arc::clone(&counted);
            let service = service_fn(move |request| serve(request, Arc::clone(&counted)));
            async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await;
        let ports = [("rpc", "grpc", app.address)];
        let shop = Shop::start(&ports, &rule("rpc", "rpc", "{paths: [\"/test.Words/*\"]}")).await;
        let address = shop.web.upstream(&target("rpc"));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        Self {
            channel: endpoint.connect_lazy(),
            open,
            _shop: shop,
            _app: app,
        }
    }

    async fn grpc(&self) -> tonic::client::Grpc<Channel> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.expect("a connection");
        grpc
    }

    async fn endless(&self, request: Request<Bytes>) -> Result<Streaming<Bytes>, Status> {
        let mut grpc = self.grpc().await;
        let answer = grpc
            .server_streaming(request, path("endless"), AsIs)
            .await?;
        Ok(answer.into_inner())
    }

    /// Endless calls that the server serves now.
    fn open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    async fn until_ended(&self, why: &str) {
        eventually(why, || async {
            match self.open() {
                0 => Ok(()),
                open => Err(open),
            }
        })
        .await;
    }
}

type Words = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// `echo`, `join`, `thrice`, `fails`, `fails-late`, `endless` and `breaks` of `test.Words`.
async fn serve(
    request: http::Request<hyper::body::Incoming>,
    open: Arc<AtomicU64>,
) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let timeout = request.headers().get("grpc-timeout").cloned();
    let method = path.rsplit('/').next().unwrap_or_default().to_owned();
    let breaks = method == "breaks";
    let service = tower::service_fn(move |request: Request<Streaming<Bytes>>| {
        let (method, open, timeout) = (method.clone(), Arc::clone(&open), timeout.clone());
        async move {
            let words = request.into_inner();
            Ok::<_, Status>(Response::new(answer(
                &method,
                words,
                open,
                timeout.is_some(),
            )))
        }
    });
    let response = tonic::server::Grpc::new(AsIs)
        .streaming(service, request)
        .await;
    if breaks {
        let (head, _) = response.into_parts();
        let first = hyper::body::Frame::data(Bytes::from_static(b"\0\0\0\0\x01a"));
        // A reset overtakes what was not sent yet.
        let broken = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Err(Status::internal("it broke"))
        };
        let frames = stream::iter([Ok(first)]).chain(stream::once(broken));
        let body = http_body_util::StreamBody::new(Box::pin(frames));
        return Ok(http::Response::from_parts(
            head,
            tonic::body::Body::new(body),
        ));
    }
    Ok(response)
}

fn answer(method: &str, words: Streaming<Bytes>, open: Arc<AtomicU64>, hurries: bool) -> Words {
    match method {
        "echo" => words.boxed(),
        "join" => {
            let all = async move { Ok(Bytes::from(rest(words).await.concat())) };
            stream::once(all).boxed()
        }
        "thrice" => words
            .flat_map(|word| stream::iter([word.clone(), word.clone(), word]))
            .boxed(),
        "fails" => stream::once(async { Err(failure()) }).boxed(),
        "fails-late" => stream::iter([Ok(word("a")), Ok(word("b")), Err(failure())]).boxed(),
        "endless" => endless(Open::new(open), hurries),
        _ => stream::empty().boxed(),
    }
}

/// One word now and then, until nobody wants it; where there is a deadline it is half a second.
fn endless(open: Open, hurries: bool) -> Words {
    let started = tokio::time::Instant::now();
    let words = stream::unfold(open, move |open| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let is_late = hurries && started.elapsed() > Duration::from_millis(500);
        let word = if is_late {
            Err(Status::deadline_exceeded("told by the server"))
        } else {
            Ok(word("again"))
        };
        Some((word, open))
    });
    words.boxed()
}

/// Counts while it lives.
struct Open(Arc<AtomicU64>);

impl Open {
    fn new(count: Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn failure() -> Status {
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("x-hint", "why".parse().expect("a value"));
    let details = Bytes::from_static(b"\0\x01details");
    let message = "not so: \u{e4} % and more";
    Status::with_details_and_metadata(Code::FailedPrecondition, message, details, metadata)
}

async fn rest(mut words: Streaming<Bytes>) -> Vec<Bytes> {
    let mut all = Vec::new();
    while let Ok(Some(word)) = words.message().await {
        all.push(word);
    }
    all
}

fn word(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/test.Words/{method}").parse().expect("a path")
}
