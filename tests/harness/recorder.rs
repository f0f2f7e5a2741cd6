//! An HTTP/1.1 backend that keeps every byte as it arrived and answers each whole request with an empty 200.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Debug)]
pub struct Recorder {
    pub address: SocketAddr,
    heard: Heard,
    serving: JoinHandle<()>,
}

/// The bytes of each connection that carried any, in the order in which they began to.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

impl Drop for Recorder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let heard = Heard::default();
        let all = Arc::clone(&heard);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, Arc::clone(&all)));
            }
        });
        Self {
            address,
            heard,
            serving,
        }
    }

    /// Everything so far, connection after connection.
    pub fn text(&self) -> String {
        let all = self.heard.lock().expect("nobody panicked").concat();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// How many requests came whole.
    pub fn requests(&self) -> usize {
        let all = self.heard.lock().expect("nobody panicked");
        all.iter().map(|bytes| whole_requests(bytes)).sum()
    }

    /// Forgets what it heard, for the next case; later bytes of connections that are open now count again.
    pub fn clear(&self) {
        for bytes in self.heard.lock().expect("nobody panicked").iter_mut() {
            bytes.clear();
        }
    }
}

async fn record(mut stream: TcpStream, all: Heard) {
    let mut buffer = [0; 4096];
    let (mut place, mut unanswered) = (None, Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        {
            let mut all = all.lock().expect("nobody panicked");
            let at = *place.get_or_insert_with(|| {
                all.push(Vec::new());
                all.len() - 1
            });
            all[at].extend_from_slice(&buffer[..read]);
        }
        unanswered.extend_from_slice(&buffer[..read]);
        while let Some(length) = first_request(&unanswered) {
            unanswered.drain(..length);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

fn whole_requests(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(length) = first_request(bytes) {
        bytes = &bytes[length..];
        count += 1;
    }
    count
}

/// The length of the first request, once it is there to its end. It reads as leniently as a backend might.
fn first_request(bytes: &[u8]) -> Option<usize> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding:") {
        let end = match &bytes[head..] {
            last if last.starts_with(b"0\r\n") => 0,
            chunks => memmem::find(chunks, b"\r\n0\r\n")? + 2,
        };
        let trailers = head + end + b"0".len();
        return Some(trailers + memmem::find(&bytes[trailers..], b"\r\n\r\n")? + 4);
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse().unwrap_or(0));
    (bytes.len() >= head + length).then_some(head + length)
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
