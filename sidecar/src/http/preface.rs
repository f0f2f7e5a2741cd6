//! Ends an HTTP/2 connection that never begins: hyper waits for the client's preface for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A byte stream whose first bytes must come in time.
pub(super) struct Prefaced<S> {
    io: S,
    /// Bytes of the preface that have not come yet; none: the timer is gone.
    missing: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Prefaced<S> {
    pub(super) fn new(io: S, limit: Duration) -> Self {
        Self {
            io,
            missing: PREFACE_LENGTH,
            timer: Some(Box::pin(tokio::time::sleep(limit))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, out);
        let Some(timer) = &mut self.timer else {
            return read;
        };
        if read.is_pending() {
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.missing = self.missing.saturating_sub(out.filled().len() - before);
        if self.missing == 0 {
            self.timer = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// RFC 9113 §3.4.
const PREFACE_LENGTH: usize = 24;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn row_11_who_begins_no_http_2_is_hung_up_on_and_who_began_may_be_silent() {
        let (mut client, server) = duplex(64);
        let mut silent = Prefaced::new(server, LIMIT);
        client.write_all(b"PRI * HTTP").await.unwrap();
        let mut read = [0; 64];
        assert_eq!(silent.read(&mut read).await.unwrap(), 10);
        let error = silent.read(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = duplex(64);
        let mut begun = Prefaced::new(server, LIMIT);
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(begun.read(&mut read).await.unwrap(), PREFACE_LENGTH);
        let later = tokio::time::timeout(LIMIT * 10, begun.read(&mut read)).await;
        assert!(later.is_err(), "it was hung up on");
    }
}
