//! What bytes of an exchange come from and go to: a socket, mutual TLS over one, or a stream of a shared connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};
use tokio_util::io::poll_read_buf;

use crate::buffers;
use crate::decisions::DecisionId;
use crate::http2::Http2Stream;
use crate::mux::MuxStream;
use crate::read_ahead::ReadAhead;
use crate::tcp::Reset;

/// One enum instead of a type parameter: the code of the request path exists once.
pub enum Stream {
    Tcp(TcpStream),
    TlsClient(Box<client::TlsStream<ReadAhead>>),
    TlsServer(Box<server::TlsStream<ReadAhead>>),
    Mux(MuxStream),
    /// Looks like a connection that speaks HTTP/1.1.
    Http2(Http2Stream),
    #[cfg(test)]
    Memory(crate::cost::Memory),
}

impl Stream {
    /// Reads what waits into `into`, which takes a buffer only when there is something for it. `Ok(false)`: the peer sends no more.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<bool>> {
        if let Self::Mux(stream) = self {
            return stream.poll_take(cx, into, most);
        }
        if let Self::Http2(stream) = self {
            return stream.poll_take(cx, into, most);
        }
        if let Self::Tcp(stream) = self {
            ready!(stream.poll_read_ready(cx))?;
        }
        #[cfg(test)]
        if let Self::Memory(stream) = self {
            ready!(stream.poll_read_ready(cx))?;
        }
        if into.capacity() == 0 {
            *into = buffers::take();
        }
        if into.len() == into.capacity() {
            into.reserve(LEAST_READ);
        }
        let before = into.len();
        let read = self.poll_read_into(cx, into, most);
        if into.is_empty() {
            buffers::give_back(std::mem::take(into));
        }
        ready!(read)?;
        let count = into.len() - before;
        if count == 0 {
            return Poll::Ready(Ok(false));
        }
        if into.len() == into.capacity() && count < most && into.capacity() < LARGE_READ {
            // There is more: with room for it, the pool's buffers grow to what this traffic needs.
            into.reserve(LARGE_READ - into.len());
            let _ = self.poll_read_into(cx, into, most - count)?;
        }
        Poll::Ready(Ok(true))
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let room = (into.capacity() - into.len()).min(most);
        poll_read_buf(self.as_read(), cx, &mut into.limit(room))
    }

    /// Whether nothing came on a connection that waits for its next use, nor its end. Asks no one but the runtime.
    pub fn is_quiet(&mut self) -> bool {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).is_pending(),
            Self::TlsClient(stream) => stream.get_ref().0.socket().poll_read_ready(cx).is_pending(),
            Self::TlsServer(stream) => stream.get_ref().0.socket().poll_read_ready(cx).is_pending(),
            // Its connection keeps what waits.
            Self::Mux(_) => true,
            Self::Http2(stream) => stream.is_quiet(),
            #[cfg(test)]
            Self::Memory(stream) => stream.poll_read_ready(cx).is_pending(),
        }
    }

    fn as_read(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::TlsClient(stream) => Pin::new(stream.as_mut()),
            Self::TlsServer(stream) => Pin::new(stream.as_mut()),
            Self::Mux(stream) => Pin::new(stream),
            Self::Http2(stream) => Pin::new(stream),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream),
        }
    }

    fn as_write(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::TlsClient(stream) => Pin::new(stream.as_mut()),
            Self::TlsServer(stream) => Pin::new(stream.as_mut()),
            Self::Mux(stream) => Pin::new(stream),
            Self::Http2(stream) => Pin::new(stream),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream),
        }
    }
}

impl Stream {
    /// The decision by which the peer's sidecar refused it, where that can be told.
    pub fn refused(&self) -> Option<DecisionId> {
        match self {
            Self::Mux(stream) => stream.refused(),
            Self::Tcp(_) | Self::TlsClient(_) | Self::TlsServer(_) | Self::Http2(_) => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// Ends it as a reset. A sidecar at the other end of a shared connection is told the decision.
    pub fn refuse(&self, decision: DecisionId) {
        match self {
            Self::Mux(stream) => stream.refuse(decision),
            Self::Tcp(_) | Self::TlsClient(_) | Self::TlsServer(_) | Self::Http2(_) => self.reset(),
            #[cfg(test)]
            Self::Memory(_) => self.reset(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.as_read().poll_read(cx, out)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_write().poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.as_write().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_write().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_write().poll_shutdown(cx)
    }
}

impl Reset for Stream {
    fn reset(&self) {
        match self {
            Self::Tcp(stream) => stream.reset(),
            Self::TlsClient(stream) => stream.reset(),
            Self::TlsServer(stream) => stream.reset(),
            Self::Mux(stream) => stream.reset(),
            Self::Http2(stream) => stream.reset(),
            #[cfg(test)]
            Self::Memory(stream) => stream.reset(),
        }
    }
}

const LEAST_READ: usize = 4 * 1024;
/// A connection that fills its buffer gets one of this size.
const LARGE_READ: usize = buffers::LARGE;
