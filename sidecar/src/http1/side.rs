//! A connection, and what was read from it and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffers;
use crate::mux::MuxStream;
use crate::stream::Stream;
use crate::tcp::Reset;

/// One end of an exchange. Its buffer is held only while there is something in it.
pub struct Side {
    pub stream: Stream,
    buffer: Vec<u8>,
    used: usize,
}

impl Side {
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// The connection alone. What was read from it is forgotten.
    pub fn into_stream(self) -> Stream {
        let Self { stream, buffer, .. } = self;
        buffers::give_back(buffer);
        stream
    }

    /// What waits to be used.
    pub fn unused(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// So many bytes were used. The buffer goes back when nothing is left in it.
    pub fn consume(&mut self, count: usize) {
        self.used += count;
        if self.used >= self.buffer.len() {
            buffers::give_back(std::mem::take(&mut self.buffer));
            self.used = 0;
        }
    }

    /// Sends so many of the bytes that wait; the buffer itself where that spares a copy.
    pub fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        count: usize,
        sink: &mut MuxStream,
    ) -> Poll<io::Result<usize>> {
        if self.used + count == self.buffer.len() {
            return sink.poll_give(cx, &mut self.buffer, self.used);
        }
        let passing = self.buffer.get(self.used..self.used + count);
        Pin::new(sink).poll_write(cx, passing.unwrap_or_default())
    }

    /// Reads more behind what waits. `Ok(false)`: the peer sends no more.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.used > 0 && self.buffer.len() == self.buffer.capacity() {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.stream.poll_fill(cx, &mut self.buffer, MOST_READ)
    }
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = self.unused();
        if waiting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let count = waiting.len().min(out.remaining());
        out.put_slice(waiting.get(..count).unwrap_or_default());
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Reset for Side {
    fn reset(&self) {
        self.stream.reset();
    }
}

/// Read at a time, and held of one direction at most.
pub const MOST_READ: usize = buffers::LARGE;
