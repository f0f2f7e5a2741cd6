//! One stream of a `weft/1` connection, used like a socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Shared, told};
use crate::buffers;
use crate::decisions::DecisionId;
use crate::tcp::Reset;

/// Dropping it before both sides have sent their end resets it.
pub struct MuxStream {
    shared: Arc<Shared>,
    /// 0, which is no slot's number, once it is parked or reset: its number may be another stream's by then.
    slot: AtomicU32,
}

impl MuxStream {
    pub(super) fn new(shared: Arc<Shared>, slot: u32) -> Self {
        Self {
            shared,
            slot: AtomicU32::new(slot),
        }
    }

    fn number(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }

    fn leave(&self) -> u32 {
        self.slot.swap(0, Ordering::Relaxed)
    }

    /// Moves what waits to `into`, which takes over the buffer it waits in where it can. `Ok(false)`: the peer sends no more.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<bool>> {
        told(self.shared.state().poll_read(self.number(), cx, into, most))
    }

    /// Sends what `buffer` holds from `from`, and takes the buffer itself where it can.
    pub fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>> {
        told(
            self.shared
                .state()
                .poll_give(self.number(), cx, buffer, from),
        )
    }

    /// Ends the stream and tells the peer which decision refused it.
    pub fn refuse(&self, decision: DecisionId) {
        self.shared.state().refuse(self.leave(), decision);
    }

    /// The decision by which the peer's sidecar refused the stream.
    pub fn refused(&self) -> Option<DecisionId> {
        self.shared.state().refused(self.number())
    }

    /// Keeps the slot for the next use by the same target.
    pub fn park(self, server_name: &Arc<str>) {
        self.shared.state().park(self.leave(), server_name);
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        self.shared.state().detach(self.leave());
    }
}

impl Reset for MuxStream {
    fn reset(&self) {
        self.shared.state().detach(self.leave());
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut part = buffers::take();
        let read = told(self.shared.state().poll_read(
            self.number(),
            cx,
            &mut part,
            out.remaining(),
        ));
        out.put_slice(&part);
        buffers::give_back(part);
        ready!(read)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        told(self.shared.state().poll_write(self.number(), cx, &[data]))
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
        told(self.shared.state().poll_write(self.number(), cx, &slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.state().end(self.number());
        Poll::Ready(Ok(()))
    }
}

/// Parts that one write takes.
const MOST_PARTS: usize = 4;
