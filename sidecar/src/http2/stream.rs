//! One slot of an HTTP/2 connection, used like a socket that speaks HTTP/1.1.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Shared, told};
use crate::buffers;
use crate::tcp::Reset;

/// Dropping it in the midst of a message resets that message's stream.
pub struct Http2Stream {
    shared: Arc<Shared>,
    slot: u32,
}

impl Http2Stream {
    pub(super) fn new(shared: Arc<Shared>, slot: u32) -> Self {
        Self { shared, slot }
    }

    /// Moves what waits to `into`, which takes over the buffer it waits in where it can. `Ok(false)`: no further message comes.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<bool>> {
        told(self.shared.state().poll_read(self.slot, cx, into, most))
    }

    /// Whether no message is open on it, and it may carry another one.
    pub fn is_quiet(&self) -> bool {
        self.shared.state().is_quiet(self.slot)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.shared.state().detach(self.slot);
    }
}

impl Reset for Http2Stream {
    fn reset(&self) {
        self.shared.state().reset(self.slot);
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut part = buffers::take();
        let most = out.remaining();
        let read = told(
            self.shared
                .state()
                .poll_read(self.slot, cx, &mut part, most),
        );
        out.put_slice(&part);
        buffers::give_back(part);
        ready!(read)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        told(self.shared.state().poll_write(self.slot, cx, &[data]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices: [&[u8]; MOST_PARTS] = [&[]; MOST_PARTS];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = part;
        }
        told(self.shared.state().poll_write(self.slot, cx, &slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.state().end(self.slot);
        Poll::Ready(Ok(()))
    }
}

/// Parts that one write takes.
const MOST_PARTS: usize = 4;
