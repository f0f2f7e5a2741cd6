//! A socket that is read in large steps: rustls asks for 4 KiB at a time, and each would be a system call.
//!
//! The buffer is held only while it holds bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::buffers::{self, Scratch};

/// Under TLS, instead of the socket alone.
pub struct ReadAhead {
    socket: TcpStream,
    ahead: Vec<u8>,
    taken: usize,
}

impl ReadAhead {
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            ahead: Vec::new(),
            taken: 0,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        let rest = self.ahead.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(out.remaining());
        out.put_slice(rest.get(..count).unwrap_or_default());
        self.taken += count;
        if self.taken == self.ahead.len() {
            buffers::give_back(std::mem::take(&mut self.ahead));
            self.taken = 0;
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
        if this.ahead.is_empty() {
            // Nobody takes a buffer before there is something for it.
            ready!(this.socket.poll_read_ready(cx))?;
            let mut scratch = Scratch::take();
            let mut read = ReadBuf::new(scratch.bytes());
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut read))?;
            let filled = read.filled();
            let (now, later) = filled.split_at(filled.len().min(out.remaining()));
            out.put_slice(now);
            if !later.is_empty() {
                this.ahead = buffers::take();
                this.ahead.extend_from_slice(later);
            }
            return Poll::Ready(Ok(()));
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
