//! HTTP/2 with prior knowledge, from the application to its sidecar and from the other sidecar to the application.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::rows_data_path::apps::{App, Content};
use crate::rows_data_path::open::http2;
use crate::rows_data_path::shop::{Shop, metric, rule};

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_with_content_and_trailers_pass_over_one_connection() {
    let app = App::each(|stream| async move {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder
            .serve_connection(TokioIo::new(stream), service_fn(echo))
            .await;
    })
    .await;
    let ports = [("rpc", "http2", app.address)];
    let shop = Shop::start(&ports, &rule("rpc", "rpc", "{paths: [/*]}")).await;
    let sender = http2(shop.through("rpc").await).await.expect("HTTP/2");
    let asked = (0..50_usize).map(|number| {
        let mut sender = sender.clone();
        async move {
            let content = vec![u8::try_from(number).expect("it is small"); number * 4000];
            let trailers = HeaderMap::from_iter([(
                "x-sum".parse().expect("a name"),
                HeaderValue::from(number),
            )]);
            let body = Full::new(Bytes::from(content.clone()))
                .with_trailers(std::future::ready(Some(Ok(trailers))))
                .map_err(|never| match never {});
            let request = Request::post(format!("http://api.shop/{number}?q=%41"));
            let request = request.header("trailer", "x-sum");
            let request = request.body(body.boxed_unsync()).expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.headers()["x-path"], format!("/{number}?q=%41"));
            assert_eq!(answer.headers()["x-authority"], "api.shop");
            let answer = answer.collect().await.expect("its content");
            let trailers = answer.trailers().expect("trailers").clone();
            assert_eq!(trailers["x-sum"], HeaderValue::from(number));
            assert_eq!(answer.to_bytes(), content, "{number}");
        }
    });
    join_all(asked).await;
    let accepted = metric(
        &shop.api,
        "weft_sidecar_accepted_total{listener=\"inbound\"}",
    )
    .await;
    assert_eq!(accepted, 1, "the sidecars share one connection");
}

/// Content and trailers as they came, and in the head what was asked for.
async fn echo(request: Request<Incoming>) -> Result<Response<Content>, hyper::Error> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    let target = head.uri.path_and_query().map(ToString::to_string);
    let authority = head.uri.authority().map(ToString::to_string);
    for (name, value) in [("x-path", target), ("x-authority", authority)] {
        let value = value.unwrap_or_default().parse().expect("a value");
        headers.insert(name, value);
    }
    Ok(response)
}
