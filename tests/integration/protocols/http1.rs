//! HTTP/1.1, byte for byte on both ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_tests::KeepAlive;

use crate::rows_data_path::apps::App;
use crate::rows_data_path::open::Kind;
use crate::rows_data_path::shop::{Shop, exchange, metric, read_head, read_rest, read_until, rule};

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order_over_one_kept_connection() {
    let app = Scripted::answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let shop = shop(&app.app).await;
    let mut pipeline = Vec::new();
    for number in 0..20 {
        let length = number * 100;
        let head =
            format!("POST /{number} HTTP/1.1\r\nHost: api.shop\r\nContent-Length: {length}\r\n");
        pipeline.extend(head.into_bytes());
        let is_last = number == 19;
        let end = if is_last {
            "Connection: close\r\n\r\n"
        } else {
            "\r\n"
        };
        pipeline.extend(end.as_bytes());
        pipeline.extend(vec![b'x'; length]);
    }
    let answer = exchange(shop.through("http").await, &pipeline).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 20, "{answer}");
    let heard = app.heard();
    let order: Vec<usize> = (0..20)
        .map(|number| heard.find(&format!("POST /{number} ")).expect("it came"))
        .collect();
    assert!(order.is_sorted(), "{order:?}");

    let mut kept = KeepAlive::new(shop.through("http").await);
    for _ in 0..10 {
        let answer = kept.request("GET", "/", &[("Host", "api.shop")]).await;
        assert_eq!(answer.expect("an answer").text(), "ok");
    }
    let accepted = metric(
        &shop.api,
        "weft_sidecar_accepted_total{listener=\"inbound\"}",
    )
    .await;
    assert_eq!(
        accepted, 1,
        "connections between the sidecars are used again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_messages_and_announced_trailers_pass_both_ways() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
        3\r\nwor\r\n2;ext=1\r\nld\r\n0\r\nx-sum: 7\r\n\r\n";
    let app = Scripted::answers(ANSWER).await;
    let shop = shop(&app.app).await;
    let request = b"POST /a HTTP/1.1\r\nHost: api.shop\r\nTransfer-Encoding: chunked\r\n\
        TE: trailers\r\nTrailer: x-sum\r\nConnection: close\r\n\r\n\
        2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 9\r\nX-Forwarded-Client-Cert: URI=evil\r\n\r\n";
    let answer = exchange(shop.through("http").await, request).await;
    let (head, body) = split(&answer);
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let (content, trailers) = unchunked(&body);
    assert_eq!(
        (content.as_str(), trailers.as_str()),
        ("world", "x-sum: 7\r\n")
    );
    let heard = app.heard();
    let (head, body) = split(heard.as_bytes());
    assert!(
        head.to_lowercase().contains("transfer-encoding: chunked"),
        "{head}"
    );
    let (content, trailers) = unchunked(&body);
    assert_eq!(
        (content.as_str(), trailers.as_str()),
        ("hello", "x-sum: 9\r\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_that_nothing_announced_pass_too() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\nx-sum: 7\r\n\r\n";
    let app = Scripted::answers(ANSWER).await;
    let shop = shop(&app.app).await;
    let request = b"POST /a HTTP/1.1\r\nHost: api.shop\r\nTransfer-Encoding: chunked\r\n\
        TE: trailers\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n";
    let answer = exchange(shop.through("http").await, request).await;
    let (_, body) = split(&answer);
    assert_eq!(
        unchunked(&body),
        ("world".to_owned(), "x-sum: 7\r\n".to_owned())
    );
    let (_, body) = split(app.heard().as_bytes());
    assert_eq!(
        unchunked(&body),
        ("hello".to_owned(), "x-sum: 9\r\n".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_waits_for_100_continue_and_a_refusal_before_it_is_the_only_answer() {
    let app = App::each(|mut stream| async move {
        while let Ok(head) = read_head(&mut stream).await {
            if head.contains("/refused") {
                let status = head.split("/refused/").nth(1).unwrap_or_default();
                let status = status.get(..3).unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            let mut content = [0; 5];
            let _ = stream.read_exact(&mut content).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
                .await;
            let _ = stream.write_all(&content).await;
        }
    })
    .await;
    let shop = shop(&app).await;
    let ask = async |path: &str| -> (TcpStream, String) {
        let mut stream = shop.through("http").await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: api.shop\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("it is read");
        let first = read_head(&mut stream).await.expect("an answer");
        (stream, first)
    };
    let (mut stream, first) = ask("/taken").await;
    assert!(first.starts_with("HTTP/1.1 100 "), "{first}");
    stream.write_all(b"hello").await.expect("it is read");
    let answer = read_until(&mut stream, b"hello").await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    for status in ["417", "413", "401"] {
        let (mut stream, first) = ask(&format!("/refused/{status}")).await;
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{first}");
        // Whoever was refused may not send: the connection ends, or waits for the content; nothing else is said.
        let mut rest = Vec::new();
        let quiet = Duration::from_millis(300);
        let _ = tokio::time::timeout(quiet, read_rest(&mut stream, &mut rest)).await;
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_content_end_with_their_head_and_keep_what_it_says() {
    let app = App::each(|mut stream| async move {
        while let Ok(head) = read_head(&mut stream).await {
            let answer = match head.split(' ').nth(1) {
                Some("/204") => "204 No Content\r\nX-A: 1",
                // A length here is that of another answer, and may be left out (RFC 9110 §15.4.5): it is.
                Some("/304") => "304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1234",
                Some("/head") => "200 OK\r\nContent-Length: 1234\r\nETag: \"a\"",
                Some("/head/chunked") => "200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"a\"",
                _ => "200 OK\r\nContent-Length: 0",
            };
            let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let shop = shop(&app).await;
    let cases = [
        ("GET", "/204", "204", "x-a: 1"),
        ("GET", "/304", "304", "etag: \"a\""),
        ("HEAD", "/head", "200", "content-length: 1234"),
        ("HEAD", "/head/chunked", "200", "etag: \"a\""),
        ("GET", "/empty", "200", "content-length: 0"),
    ];
    // On one connection: had anything followed a head, the next answer would not begin with its own.
    let mut stream = shop.through("http").await;
    for (method, path, status, holds) in cases {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: api.shop\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it is read");
        let head = read_head(&mut stream).await.expect(path).to_lowercase();
        assert!(
            head.starts_with(&format!("http/1.1 {status} ")),
            "{path}: {head}"
        );
        assert!(head.contains(holds), "{path}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_content_was_read_arrives() {
    let app = App::each(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap_or_default();
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        let _ = stream.write_all(answer).await;
        if head.contains("/reads") {
            read_rest(&mut stream, &mut Vec::new()).await;
        } else {
            // Its unread bytes must not take the answer with them.
            let _ = stream.shutdown().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    let shop = shop(&app).await;
    for path in ["/reads", "/closes"] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: api.shop\r\nContent-Length: 4194304\r\n\r\n");
        let (mut read, mut write) = shop.through("http").await.into_split();
        let sending = async {
            let _ = write.write_all(head.as_bytes()).await;
            for _ in 0..64 {
                if write.write_all(&[b'x'; 65_536]).await.is_err() {
                    return;
                }
            }
        };
        let asked = tokio::time::timeout(Duration::from_secs(10), async {
            let (head, ()) = tokio::join!(read_head(&mut read), sending);
            head
        });
        let head = asked.await.expect(path).expect(path);
        assert!(head.starts_with("HTTP/1.1 413 "), "{path}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_bytes_both_ways_after_101() {
    let app = App::http().await;
    let ports = [("http", "http", app.address)];
    let named = "{paths: [/socket], upgrades: [websocket]}";
    let shop = Shop::start(&ports, &rule("socket", "http", named)).await;
    let open = Kind::WebSocket.open(shop.through("http").await).await;
    assert!(!open.expect("an echo behind 101").has_ended());
}

async fn shop(app: &App) -> Shop {
    Shop::start(&[("http", "http", app.address)], &rule("http", "http", "")).await
}

/// Keeps what came and answers each whole request with the same bytes.
struct Scripted {
    app: App,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    async fn answers(answer: &'static [u8]) -> Self {
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&heard);
        let app = App::each(move |mut stream| {
            let kept = Arc::clone(&kept);
            async move {
                while let Ok(request) = read_request(&mut stream).await {
                    kept.lock().expect("nobody panicked").extend(request);
                    let _ = stream.write_all(answer).await;
                }
            }
        })
        .await;
        Self { app, heard }
    }

    fn heard(&self) -> String {
        let heard = self.heard.lock().expect("nobody panicked");
        String::from_utf8_lossy(&heard).into_owned()
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let head = read_head(stream).await?;
    let lowered = head.to_lowercase();
    let mut request = head.into_bytes();
    if lowered.contains("transfer-encoding: chunked") {
        // No chunk of these tests holds what ends them all.
        request.extend(read_head(stream).await?.into_bytes());
    } else if let Some((_, rest)) = lowered.split_once("content-length: ") {
        let length = rest.split('\r').next().and_then(|text| text.parse().ok());
        let mut content = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut content).await?;
        request.extend(content);
    }
    Ok(request)
}

/// Head and what follows it.
fn split(message: &[u8]) -> (String, Vec<u8>) {
    let end = memchr::memmem::find(message, b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&message[..end]).into_owned();
    (head, message[end..].to_vec())
}

/// Content and trailers.
fn unchunked(body: &[u8]) -> (String, String) {
    let mut rest = std::str::from_utf8(body).expect("text");
    let mut content = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk's size");
        let size = size.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).expect("hex");
        if size == 0 {
            let trailers = after.strip_suffix("\r\n").expect("an end");
            return (content, trailers.to_owned());
        }
        content.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
}
