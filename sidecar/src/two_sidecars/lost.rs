//! Connections that an application closes instead of answering, and how often it is asked then.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What the application does with a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answer,
    Close,
    /// Begins a response and closes.
    AnswerInPart,
}

/// A mesh before an application that does these things, one a request, and counts the requests.
struct Scripted {
    mesh: Pair,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    async fn start(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        let asked: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(stream, script, Arc::clone(&counted)));
            }
        });
        let mesh = Pair::before(app, Protocol::Http, RULE).await;
        Self { mesh, asked }
    }

    async fn ask(&self, method: &str) -> String {
        let request = format!(
            "{method} /orders/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        self.mesh.ask(&request).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn play(mut stream: TcpStream, script: &[Does], asked: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    loop {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) if !head.ends_with(b"\r\n\r\n") => continue,
            Ok(_) => head.clear(),
        }
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        let answer: &[u8] = match script.get(turn) {
            Some(Does::Answer) | None => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Some(Does::Close) => return,
            Some(Does::AnswerInPart) => b"HTTP/1.1 200 OK\r\ncontent-",
        };
        stream.write_all(answer).await.unwrap();
        if !answer.ends_with(b"ok") {
            return;
        }
    }
}

#[tokio::test]
async fn an_application_that_loses_a_fresh_connection_is_asked_once() {
    for method in ["GET", "POST"] {
        let mesh = Scripted::start(&[Does::Close]).await;
        let answer = mesh.ask(method).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{method}: {answer}");
        assert_eq!(mesh.asked(), 1, "{method}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_is_lost_without_a_byte_is_asked_again_for_what_is_safe_to_repeat() {
    let mesh = Scripted::start(&[Does::Answer, Does::Close]).await;
    assert!(mesh.ask("GET").await.starts_with("HTTP/1.1 200"));
    let answer = mesh.ask("GET").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(mesh.asked(), 3);

    let mesh = Scripted::start(&[Does::Answer, Does::Close]).await;
    assert!(mesh.ask("GET").await.starts_with("HTTP/1.1 200"));
    let answer = mesh.ask("POST").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(mesh.asked(), 2);
}

#[tokio::test]
async fn a_response_that_had_begun_is_not_asked_for_again() {
    let mesh = Scripted::start(&[Does::Answer, Does::AnswerInPart]).await;
    assert!(mesh.ask("GET").await.starts_with("HTTP/1.1 200"));
    let answer = mesh.ask("GET").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(mesh.asked(), 2);
}
