//! Who poses as a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use weft_tests::{Svid, eventually};

/// A TLS server that shows what it is told to, and answers whatever it hears.
pub(super) struct Impostor {
    pub(super) address: SocketAddr,
    refused: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    posing: JoinHandle<()>,
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.posing.abort();
    }
}

impl Impostor {
    pub(super) async fn start(svid: &Svid, alpn: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let tls = TlsAcceptor::from(svid.server_config(alpn));
        let (refused, bytes): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let (refusals, heard) = (Arc::clone(&refused), Arc::clone(&bytes));
        let posing = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(socket).await else {
                    refusals.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    heard.fetch_add(read as u64, Ordering::SeqCst);
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await;
                }
            }
        });
        Self {
            address,
            refused,
            bytes,
            posing,
        }
    }

    /// Whether anybody believed it and spoke.
    pub(super) fn heard_something(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) > 0
    }

    /// It was dialled, its handshake refused, and it heard nothing.
    pub(super) async fn assert_learnt_nothing(&self, kind: &str) {
        eventually(&format!("{kind}: the handshake is refused"), || async {
            let heard = self.bytes.load(Ordering::SeqCst);
            assert_eq!(heard, 0, "{kind}: it heard something");
            (self.refused.load(Ordering::SeqCst) > 0)
                .then_some(())
                .ok_or(())
        })
        .await;
    }
}
