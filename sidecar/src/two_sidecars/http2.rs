//! HTTP/2 and gRPC, through both sidecars.

use super::*;

#[tokio::test]
async fn trailers_arrive_but_not_a_clients_certificate_in_them() {
    let mesh = Pair::start(Protocol::Grpc, RULE).await;
    let answer = ask_http2(&mesh, "/orders/1").await;
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert!(!trailers.contains_key("x_forwarded_client_cert"));
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    assert!(text.starts_with("POST /orders/1 host=api.shop\n"), "{text}");
    assert!(text.ends_with("body=hello\n"), "{text}");
}

#[tokio::test]
async fn a_refused_grpc_call_is_told_in_trailers_only() {
    let mesh = Pair::start(Protocol::Grpc, RULE).await;
    let answer = ask_http2(&mesh, "/admin").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers().get("grpc-status").unwrap(), "7");
    let decision = answer
        .headers()
        .get("x-weft-decision")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        answer
            .headers()
            .get("grpc-message")
            .unwrap()
            .to_str()
            .unwrap()
            .contains(&decision)
    );
    let details = answer.headers().get("grpc-status-details-bin").unwrap();
    let wanted = weft_wire::refusal_details(
        7,
        &format!("refused by the mesh, decision {decision}"),
        &decision,
    );
    assert_eq!(details.to_str().unwrap(), wanted);
}

#[tokio::test]
async fn many_streams_share_one_connection_between_the_sidecars() {
    let mesh = Pair::start(Protocol::Grpc, RULE).await;
    let asked = (0..50).map(|_| ask_http2(&mesh, "/orders/1"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status(), 200);
    }
    let label = crate::metrics::ListenerLabel {
        listener: "inbound",
    };
    assert_eq!(mesh.server.metrics.accepted.get_or_create(&label).get(), 1);
}

async fn ask_http2(mesh: &Pair, path: &str) -> Response<Incoming> {
    let stream = TcpStream::connect(mesh.upstream).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://api.shop{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::<Bytes>::from("hello"))
        .unwrap();
    tokio::time::timeout(LONG, sender.send_request(request))
        .await
        .expect("no answer")
        .unwrap()
}
