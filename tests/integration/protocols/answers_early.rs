//! Applications that answer before they have read the content (RFC 9113 §8.1), thousands of times over few connections.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use weft_tests::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};

use crate::rows_data_path::apps::{App, Content};
use crate::rows_data_path::open::http2;
use crate::rows_data_path::shop::{LIMIT, Shop, rule};

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_answers_and_resets_fails_no_request_of_thousands_in_sequence() {
    Early::Resets.answers((1, 1), SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_answers_and_resets_fails_no_request_of_64_at_a_time() {
    Early::Resets.answers((4, 16), SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_answers_and_never_reads_fails_no_request_of_thousands_in_sequence() {
    Early::NeverReads.answers((1, 1), SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_answers_and_never_reads_fails_no_request_of_64_at_a_time() {
    Early::NeverReads.answers((4, 16), SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_an_application_gives_no_window_fails_no_request_of_64_at_a_time() {
    Early::NeverReads.answers((4, 16), LARGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_an_application_resets_half_sent_fails_no_request_of_64_at_a_time() {
    Early::Resets.answers((4, 16), LARGE).await;
}

/// What an application does about content when it has answered.
#[derive(Debug, Clone, Copy)]
enum Early {
    /// Resets the stream with NO_ERROR.
    Resets,
    /// Nothing; what comes is thrown away.
    NeverReads,
}

impl Early {
    /// That many streams at a time on each of some connections, until all requests are done.
    async fn answers(self, (connections, streams): (usize, usize), content: &'static [u8]) {
        let app = App::each(move |stream| async move {
            // A sidecar that leaves is the test's business.
            let _ = self.serve(stream).await;
        })
        .await;
        let ports = [("rpc", "http2", app.address)];
        let quiet =
            serde_json::json!({"log": {"format": "text", "level": "info", "access": false}});
        let rules = rule("rpc", "rpc", "{paths: [/*]}");
        let mut shop = Shop::start_with(&ports, &rules, quiet).await;
        let mut loops = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let sender = http2(shop.through("rpc").await).await.expect("HTTP/2");
            for _ in 0..streams {
                let sender = sender.clone();
                loops.spawn(post_again_and_again(
                    sender,
                    REQUESTS / (connections * streams),
                    content,
                ));
            }
        }
        let (answered, failures): (Vec<_>, Vec<_>) = loops.join_all().await.into_iter().unzip();
        let answered: usize = answered.iter().sum();
        let failures: Vec<String> = failures.into_iter().flatten().collect();
        assert!(
            failures.is_empty(),
            "after {answered} answers: {failures:?}"
        );
        assert_eq!(answered, REQUESTS);
        assert!(app.connections() < 64, "{} connections", app.connections());
        shop.assert_well().await;
    }

    /// HTTP/2 by hand, because a library has limits of its own for such streams.
    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.read_exact(&mut [0; 24]).await?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        let mut payload = Vec::new();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, number @ ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]);
            let number = u32::from_be_bytes(number);
            payload.resize(length as usize, 0);
            stream.read_exact(&mut payload).await?;
            let answer = match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload),
                HEADERS => self.answer(number, flags & END_STREAM != 0),
                // The connection's window alone: no stream gets any more.
                DATA if length > 0 => frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes()),
                _ => continue,
            };
            stream.write_all(&answer).await?;
        }
    }

    fn answer(self, stream: u32, has_ended: bool) -> Vec<u8> {
        let mut answer = frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200);
        match self {
            Self::Resets if !has_ended => answer.extend(frame(RST_STREAM, 0, stream, NO_ERROR)),
            Self::Resets | Self::NeverReads => {}
        }
        answer
    }
}

/// One after the other, until one fails: how many were answered, and why no more.
async fn post_again_and_again(
    mut sender: SendRequest<Content>,
    count: usize,
    content: &'static [u8],
) -> (usize, Option<String>) {
    for number in 0..count {
        let posted = tokio::time::timeout(LIMIT, post(&mut sender, content)).await;
        let posted = posted.unwrap_or_else(|_| Err("no answer in time".into()));
        if let Err(failure) = posted {
            return (number, Some(failure));
        }
    }
    (count, None)
}

/// Content whose end comes after the answer: nobody can have read all of it before.
async fn post(sender: &mut SendRequest<Content>, first: &'static [u8]) -> Result<(), String> {
    let (answered, told) = oneshot::channel::<()>();
    let piece = |bytes| Ok(Frame::data(Bytes::from_static(bytes)));
    let rest = stream::once(async move {
        // Dropped or told, the rest is sent.
        let _ = told.await;
        piece(SMALL)
    });
    let content = StreamBody::new(stream::once(async move { piece(first) }).chain(rest));
    let request = Request::post("http://api.shop/early");
    let request = request.body(content.boxed_unsync()).expect("a request");
    sender
        .ready()
        .await
        .map_err(|error| format!("not ready: {error:?}"))?;
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| format!("no answer: {error:?}"))?;
    if response.status() != StatusCode::OK {
        return Err(response.status().to_string());
    }
    let content = response.collect().await;
    let content = content.map_err(|error| format!("no whole answer: {error:?}"))?;
    drop(answered);
    if !content.to_bytes().is_empty() {
        return Err("content that nobody sent".into());
    }
    Ok(())
}

const REQUESTS: usize = 6400;
const SMALL: &[u8] = &[b'x'; 1000];
/// More than a stream's first window (RFC 9113 §6.9.2).
const LARGE: &[u8] = &[b'x'; 100_000];
/// RFC 7541 Appendix A.
const STATUS_200: &[u8] = &[0x88];
/// RFC 9113 §7.
const NO_ERROR: &[u8] = &[0; 4];
/// RFC 9113 §6.5, §6.7.
const ACK: u8 = 1;
