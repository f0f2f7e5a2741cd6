//! A connection in memory, used like a socket: what one end writes waits until the other reads it. It counts writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::tcp::Reset;

/// Where ends count their writes, as many as there would be system calls.
pub(crate) type Writes = Arc<AtomicU64>;

/// One end. Dropping it ends what the other reads.
pub struct Memory {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    writes: Writes,
    /// Taken from the pipe; `used` bytes of it were read.
    held: Vec<u8>,
    used: usize,
}

#[derive(Default)]
struct Pipe(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    reader: Option<Waker>,
    is_closed: bool,
}

impl Memory {
    /// Both ends, and where each counts.
    pub(crate) fn pair(first: &Writes, second: &Writes) -> (Self, Self) {
        let (there, back) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
        (
            Self::end(&back, &there, first),
            Self::end(&there, &back, second),
        )
    }

    fn end(incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>, writes: &Writes) -> Self {
        Self {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            writes: Arc::clone(writes),
            held: Vec::new(),
            used: 0,
        }
    }

    /// Whether a read would bring something, be it the end.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.used < self.held.len() {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = self.incoming.lock();
        if waiting.is_closed || !waiting.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &mut waiting.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn write(&self, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
        let mut waiting = self.outgoing.lock();
        if waiting.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        for part in parts {
            waiting.bytes.extend_from_slice(part);
        }
        wake(waiting);
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn close(&self) {
        for pipe in [&self.outgoing, &self.incoming] {
            pipe.close();
        }
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap()
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        wake(waiting);
    }
}

fn wake(mut waiting: MutexGuard<'_, Waiting>) {
    let reader = waiting.reader.take();
    drop(waiting);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.close();
    }
}

impl Reset for Memory {
    fn reset(&self) {
        self.close();
    }
}

impl AsyncBufRead for Memory {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_read_ready(cx))?;
        if this.used == this.held.len() {
            this.held.clear();
            this.used = 0;
            // The two vectors take turns, so that reading allocates nothing.
            std::mem::swap(&mut this.held, &mut this.incoming.lock().bytes);
        }
        Poll::Ready(Ok(&this.held[this.used..]))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        self.used += count;
    }
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = waiting.len().min(out.remaining());
        out.put_slice(&waiting[..count]);
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(&[data])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices: [&[u8]; MOST_PARTS] = [&[]; MOST_PARTS];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = part;
        }
        self.write(&slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

/// Parts that one write takes.
const MOST_PARTS: usize = 4;
