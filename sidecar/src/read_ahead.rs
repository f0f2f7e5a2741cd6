//! A socket that is read in large steps: rustls asks for 4 KiB at a time, and each would be a system call.
//!
//! The buffer is held only while it holds bytes.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::buffers::Scratch;

/// Under TLS, instead of the socket alone.
pub struct ReadAhead {
    socket: TcpStream,
    /// What was read and not handed out yet.
    ahead: Option<Ahead>,
}

struct Ahead {
    buffer: Scratch,
    waiting: Range<usize>,
}

impl ReadAhead {
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            ahead: None,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        let Some(ahead) = &mut self.ahead else { return };
        let count = ahead.waiting.len().min(out.remaining());
        let part = ahead.waiting.start..ahead.waiting.start + count;
        out.put_slice(ahead.buffer.bytes().get(part).unwrap_or_default());
        ahead.waiting.start += count;
        if ahead.waiting.is_empty() {
            self.ahead = None;
        }
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_none() {
            // Nobody takes a buffer before there is something for it.
            ready!(this.socket.poll_read_ready(cx))?;
            let mut buffer = Scratch::take();
            let mut read = ReadBuf::new(buffer.bytes());
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut read))?;
            let waiting = 0..read.filled().len();
            this.ahead = Some(Ahead { buffer, waiting });
        }
        this.hand_out(out);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match parts {
            // A plain write is the cheaper system call.
            [part] => Pin::new(&mut self.socket).poll_write(cx, part),
            parts => Pin::new(&mut self.socket).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
