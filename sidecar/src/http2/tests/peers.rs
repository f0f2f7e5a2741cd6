//! Both roles against the `h2` crate.

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::timers::start;
use super::*;
use crate::http1::head::RequestHead;
use crate::http2::{Http2, Http2Stream};

/// Long enough for every window to close many times.
const LONG: usize = 3 * 1024 * 1024;

/// Reads on until the text ends so.
async fn read_until(
    stream: &mut Http2Stream,
    text: &mut Vec<u8>,
    end: &[u8],
) -> std::io::Result<()> {
    let mut part = vec![0; 50_000];
    while memchr::memmem::find(text, end).is_none() {
        match stream.read(&mut part).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => text.extend_from_slice(&part[..count]),
        }
    }
    Ok(())
}

/// Answers requests as their paths say, in HTTP/1.1.
async fn serve(mut stream: Http2Stream) -> std::io::Result<()> {
    loop {
        let mut text = Vec::new();
        read_until(&mut stream, &mut text, b"\r\n\r\n").await?;
        let end = memchr::memmem::find(&text, b"\r\n\r\n").expect("an end") + 4;
        let mut head = RequestHead::default();
        head.read(&text[..end]).expect("a head");
        match head.path(&text[..end]) {
            "/echo" => {
                let mut content = text[end..].to_vec();
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n",
                    )
                    .await?;
                // Chunks go back as they come, the last one with trailers.
                while !content.ends_with(b"0\r\n\r\n") {
                    stream.write_all(&content).await?;
                    content.clear();
                    content.resize(50_000, 0);
                    let count = stream.read(&mut content).await?;
                    content.truncate(count);
                }
                content.truncate(content.len() - 2);
                stream.write_all(&content).await?;
                stream.write_all(b"sum: 7\r\n\r\n").await?;
            }
            "/early" => {
                stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno").await?;
                stream.shutdown().await?;
                return Ok(());
            }
            "/hints" => {
                stream
                    .write_all(
                        b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                    )
                    .await?;
            }
            "/cut" => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart")
                    .await?;
                return Ok(());
            }
            _ => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
                    .await?
            }
        }
    }
}

async fn client(window: u32) -> (h2::client::SendRequest<Bytes>, Http2) {
    let (http2, peer, _) = start(Role::Server);
    let accepting = http2.clone();
    tokio::spawn(async move {
        while let Some(stream) = accepting.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (sender, connection) = builder.handshake(peer).await.expect("a handshake");
    tokio::spawn(connection);
    (sender.ready().await.expect("ready"), http2)
}

fn asks(method: &str, path: &str) -> Request<()> {
    let builder = Request::builder()
        .method(method)
        .uri(format!("http://a{path}"));
    builder.body(()).expect("a request")
}

async fn collect(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut content = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        content.extend_from_slice(&part);
    }
    Ok((content, body.trailers().await?))
}

async fn send(mut stream: h2::SendStream<Bytes>, mut content: Bytes) {
    while !content.is_empty() {
        stream.reserve_capacity(content.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.expect("an open stream").expect("a window");
        let part = content.split_to(room.min(content.len()));
        stream
            .send_data(part, content.is_empty())
            .expect("it is sent");
    }
}

fn content(mark: u8) -> Bytes {
    (0..LONG)
        .map(|at| mark ^ u8::try_from(at % 251).unwrap_or(0))
        .collect()
}

#[tokio::test]
async fn long_messages_pass_both_ways_through_small_windows_with_trailers() {
    let (sender, http2) = client(1_000).await;
    let mut tasks = Vec::new();
    for mark in 0..4 {
        let mut sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            let (answer, stream) = sender
                .send_request(asks("POST", "/echo"), false)
                .expect("sent");
            tokio::spawn(send(stream, content(mark)));
            let mut answer = answer.await.expect("an answer").into_body();
            let (got, trailers) = collect(&mut answer).await.expect("all of it");
            assert!(got == content(mark), "{} bytes", got.len());
            assert_eq!(trailers.expect("trailers")["sum"], "7");
        }));
    }
    for task in tasks {
        task.await.expect("an exchange");
    }
    assert_eq!(http2.shared.state().open_streams(), 0);
}

#[tokio::test]
async fn heads_alone_hints_early_answers_and_parts() {
    let (mut sender, http2) = client(65_535).await;
    for _ in 0..1_000 {
        let (answer, _) = sender.send_request(asks("HEAD", "/"), true).expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.headers()["content-length"], "5");
        assert_eq!(collect(&mut answer.into_body()).await.expect("none").0, b"");
        let (answer, _) = sender
            .send_request(asks("GET", "/hints"), true)
            .expect("sent");
        assert_eq!(answer.await.expect("an answer").status(), 204);
        // The answer of an upload that goes on stands.
        let (answer, upload) = sender
            .send_request(asks("POST", "/early"), false)
            .expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 413);
        assert_eq!(
            collect(&mut answer.into_body()).await.expect("whole").0,
            b"no"
        );
        drop(upload);
    }
    let (answer, _) = sender
        .send_request(asks("GET", "/cut"), true)
        .expect("sent");
    let error = collect(&mut answer.await.expect("an answer").into_body()).await;
    assert_eq!(
        error.expect_err("a part").reason(),
        Some(Reason::INTERNAL_ERROR)
    );
    drop(sender);
    assert!(http2.held() < 5);
}

#[tokio::test]
async fn clients_that_cancel_hold_nothing() {
    let (sender, http2) = client(65_535).await;
    for _ in 0..300 {
        let mut sender = sender.clone().ready().await.expect("ready");
        let (answer, mut upload) = sender
            .send_request(asks("POST", "/echo"), false)
            .expect("sent");
        upload
            .send_data(Bytes::from_static(b"part"), false)
            .expect("sent");
        answer.await.expect("an answer");
        upload.send_reset(Reason::CANCEL);
    }
    for _ in 0..1_000 {
        if http2.held() == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!((http2.held(), http2.shared.state().open_streams()), (0, 0));
}

/// A server of the `h2` crate that gives content back.
async fn h2_server(peer: crate::cost::Memory, window: u32) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(window);
    let mut connection = builder
        .handshake::<_, Bytes>(peer)
        .await
        .expect("a handshake");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let answer = Response::builder()
                .header("trailer", "sum")
                .body(())
                .expect("an answer");
            let mut stream = respond.send_response(answer, false).expect("sent");
            if path == "/reset" {
                stream
                    .send_data(Bytes::from_static(b"part"), false)
                    .expect("sent");
                tokio::task::yield_now().await;
                return stream.send_reset(Reason::INTERNAL_ERROR);
            }
            let mut body = request.into_body();
            while let Some(Ok(part)) = body.data().await {
                let _ = body.flow_control().release_capacity(part.len());
                stream.reserve_capacity(part.len());
                stream.send_data(part, false).expect("sent");
            }
            let trailers = HeaderMap::from_iter([(
                "sum".parse().expect("a name"),
                "7".parse().expect("a value"),
            )]);
            stream.send_trailers(trailers).expect("sent");
        });
    }
}

#[tokio::test]
async fn a_client_sends_and_gets_long_messages_one_after_the_other() {
    let (http2, peer, _) = start(Role::Client);
    tokio::spawn(h2_server(peer, 1_000));
    let mut stream = http2.open().expect("a slot");
    for mark in 0..3 {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent = content(mark);
        let sending = async {
            let head = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {LONG}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.expect("a head");
            writer.write_all(&sent).await.expect("content");
        };
        let reading = async {
            let mut text = Vec::new();
            let mut part = vec![0; 100_000];
            while !text.ends_with(b"\r\n0\r\nsum: 7\r\n\r\n") {
                let count = reader.read(&mut part).await.expect("more");
                assert!(count > 0);
                text.extend_from_slice(&part[..count]);
            }
            text
        };
        let ((), text) = tokio::join!(sending, reading);
        assert!(unchunked(&text) == sent);
        stream = reader.unsplit(writer);
        assert!(stream.is_quiet());
    }
}

#[tokio::test]
async fn a_client_takes_a_reset_for_an_error() {
    let (http2, peer, _) = start(Role::Client);
    tokio::spawn(h2_server(peer, 1_000));
    let mut stream = http2.open().expect("a slot");
    stream
        .write_all(b"GET /reset HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("sent");
    let mut text = Vec::new();
    let error = stream.read_to_end(&mut text).await.expect_err("no end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

fn unchunked(text: &[u8]) -> Vec<u8> {
    let mut rest = &text[memchr::memmem::find(text, b"\r\n\r\n").expect("a head") + 4..];
    let mut content = Vec::new();
    loop {
        let end = memchr::memchr(b'\n', rest).expect("a line");
        let size = std::str::from_utf8(&rest[..end - 1]).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a number");
        if size == 0 {
            return content;
        }
        content.extend_from_slice(&rest[end + 1..end + 1 + size]);
        rest = &rest[end + 3 + size..];
    }
}
