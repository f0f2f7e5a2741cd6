//! Reads HTTP/1.1 requests for hyper and lets through only what [`strict`](super::strict) has judged.
//!
//! A malformed head never reaches hyper: a stand-in does, whose turn comes after the answers to the requests before it, and the
//! server answers that one with the refusal ([`Control::fault_at`]). A malformed body ends in an error of its reader.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::strict::{Framing, MAX_TRAILERS, Malformed, Step};
use crate::listener::Place;
use crate::tcp::Reset;

/// A connection without any request is closed after this. Longer than any pool keeps one, so that the pool's side closes first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// A byte stream whose read side is judged.
pub struct Guard<S: Reset> {
    io: S,
    framing: Framing,
    control: Arc<Control>,
    /// Read but not passed on yet; without capacity while the connection is idle.
    buffer: BytesMut,
    /// So many bytes at the front of `buffer` may pass.
    ready: usize,
    end: End,
    heads: HeadLimits,
    timer: Option<(Waiting, Pin<Box<Sleep>>)>,
    /// Also while the connection is a tunnel.
    place: Option<Arc<Place>>,
    /// This side sent its end; the peer's is waited for until then.
    lingering: Option<Pin<Box<Sleep>>>,
}

/// What one head may cost.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    pub bytes: usize,
    /// It must be complete so long after its first byte.
    pub time: Duration,
}

/// What the server tells the guard of its connection, and the other way round.
#[derive(Default)]
pub struct Control {
    release: AtomicU8,
    reader: AtomicWaker,
    heads: AtomicU64,
    open_requests: AtomicUsize,
    resets: AtomicBool,
    fault: OnceLock<Fault>,
}

/// A refused message.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The number of the request, from zero, that the fault stands for.
    request: u64,
    pub why: Malformed,
}

#[derive(PartialEq, Eq)]
enum End {
    Open,
    /// The peer sends no more.
    Eof,
    /// What the peer still sends is thrown away: up to so many bytes.
    Discarding(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    ForRequest,
    ForRestOfHead,
}

impl Control {
    /// The fault that the request of this number stands for.
    pub fn fault_at(&self, request: u64) -> Option<Malformed> {
        self.fault
            .get()
            .filter(|fault| fault.request == request)
            .map(|fault| fault.why)
    }

    /// Why the body that is being read ended in an error, if framing was the cause.
    pub fn fault(&self) -> Option<Malformed> {
        self.fault.get().map(|fault| fault.why)
    }

    /// The upgrade that holds the connection was not taken.
    pub fn resume(&self) {
        self.release(RESUME);
    }

    /// The upgrade was taken; the bytes that follow are not HTTP.
    pub fn become_tunnel(&self) {
        self.release(TUNNEL);
    }

    /// The connection ends in a reset: what went over it is not the whole.
    pub fn reset_at_end(&self) {
        self.resets.store(true, Ordering::Release);
    }

    /// A request is being answered; the connection is not idle until the returned value is dropped.
    pub fn open_request(self: &Arc<Self>) -> OpenRequest {
        self.open_requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(self))
    }

    fn release(&self, how: u8) {
        self.release.store(how, Ordering::Release);
        self.reader.wake();
    }
}

/// One request that is being answered.
pub struct OpenRequest(Arc<Control>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.0.open_requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            // From now on the connection is idle, and that has a limit.
            self.0.reader.wake();
        }
    }
}

impl<S: Reset> Drop for Guard<S> {
    fn drop(&mut self) {
        if self.control.resets.load(Ordering::Acquire) {
            self.io.reset();
        }
    }
}

impl<S: Reset> Guard<S> {
    pub fn new(io: S, heads: HeadLimits) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::default());
        let guard = Self {
            io,
            framing: Framing::new(heads.bytes),
            control: Arc::clone(&control),
            buffer: BytesMut::new(),
            ready: 0,
            end: End::Open,
            heads,
            timer: None,
            place: None,
            lingering: None,
        };
        (guard, control)
    }

    /// Holds a listener's place as long as the connection lives, whatever it becomes.
    pub fn holding(mut self, place: Arc<Place>) -> Self {
        self.place = Some(place);
        self
    }

    /// Judges what is buffered. `true`: some bytes may pass now.
    fn judge(&mut self) -> io::Result<bool> {
        match self.control.release.swap(NOTHING, Ordering::Acquire) {
            RESUME => self.framing.resume(),
            TUNNEL => self.framing.become_tunnel(),
            _ => {}
        }
        let expects_head = self.framing.expects_head();
        if self.buffer.is_empty() {
            return Ok(false);
        }
        match self.framing.advance(&self.buffer) {
            Ok(Step::Pass(count)) => self.ready = count,
            Ok(Step::PassHead(count)) => {
                self.control.heads.fetch_add(1, Ordering::Relaxed);
                self.ready = count;
            }
            Ok(Step::More | Step::Hold) => return Ok(false),
            Err(why) => self.refuse(why, expects_head)?,
        }
        Ok(true)
    }

    fn refuse(&mut self, why: Malformed, in_head: bool) -> io::Result<()> {
        let request = self.control.heads.load(Ordering::Relaxed);
        let _ = self.control.fault.set(Fault { request, why });
        self.end = End::Discarding(MAX_DISCARDED);
        self.buffer = BytesMut::new();
        self.ready = 0;
        if !in_head {
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.buffer.extend_from_slice(STAND_IN);
        self.ready = STAND_IN.len();
        Ok(())
    }

    fn pass(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.ready.min(out.remaining());
        out.put_slice(self.buffer.get(..count).unwrap_or_default());
        self.buffer.advance(count);
        self.ready -= count;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Ends a connection that sends no request, or only a part of a head, for too long. While a request is answered nobody waits.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let busy = self.control.open_requests.load(Ordering::Relaxed) > 0;
        if busy || !self.framing.expects_head() {
            self.timer = None;
            return Poll::Pending;
        }
        let (waiting, limit) = match self.buffer.is_empty() {
            true => (Waiting::ForRequest, IDLE_TIMEOUT),
            false => (Waiting::ForRestOfHead, self.heads.time),
        };
        let sleep = match &mut self.timer {
            Some((on, sleep)) if *on == waiting => sleep,
            timer => {
                let sleep = Box::pin(tokio::time::sleep(limit));
                &mut timer.insert((waiting, sleep)).1
            }
        };
        sleep
            .as_mut()
            .poll(cx)
            .map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Reset + Unpin> Guard<S> {
    /// Reads what waits on the socket into the buffer. `Ok(false)`: the peer sends no more.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut scratch = [MaybeUninit::uninit(); SCRATCH];
        let mut read = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(!read.filled().is_empty()))
    }

    /// Reads body or tunnel straight into the caller's buffer.
    fn poll_unseen(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let limit = usize::try_from(self.framing.unseen())
            .unwrap_or(usize::MAX)
            .min(out.remaining());
        if limit == out.remaining() {
            let before = out.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
            self.framing.passed(length(out.filled().len() - before));
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(out.initialize_unfilled_to(limit));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        out.advance(count);
        self.framing.passed(length(count));
        Poll::Ready(Ok(()))
    }

    /// Reads and throws away what still comes after this side's end, for a moment: unread bytes would make the socket send a
    /// reset, and the reset would overtake an answer that came before its request was read.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self
            .lingering
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if lingering.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while let Ok(true) = ready!(self.poll_fill(cx)) {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(())
    }

    /// Keeps the socket's buffer empty after a refusal, so that the answer is not lost in a reset.
    fn poll_discard(&mut self, cx: &mut Context<'_>, mut left: usize) -> Poll<io::Result<()>> {
        while left > 0 {
            let open = ready!(self.poll_fill(cx))?;
            left = left.saturating_sub(self.buffer.len());
            self.buffer = BytesMut::new();
            self.end = End::Discarding(if open { left } else { 0 });
            if !open {
                break;
            }
        }
        // hyper takes the end of input as the end of the client; it closes by itself after the answer.
        Poll::Pending
    }
}

impl<S: AsyncRead + Reset + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.control.reader.register(cx.waker());
        loop {
            if this.ready > 0 {
                this.timer = None;
                this.pass(out);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                End::Open => {}
                End::Eof => return Poll::Ready(Ok(())),
                End::Discarding(left) => return this.poll_discard(cx, left),
            }
            if this.judge()? {
                continue;
            }
            if this.buffer.is_empty() && this.framing.unseen() > 0 {
                return this.poll_unseen(cx, out);
            }
            if this.buffer.len() > this.heads.bytes.max(MAX_TRAILERS) {
                // Held: enough is buffered until the upgrade is answered.
                return Poll::Pending;
            }
            match this.poll_fill(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => this.end = End::Eof,
                Poll::Pending => {
                    let timed_out = ready!(this.poll_timer(cx));
                    return Poll::Ready(Err(timed_out));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Reset + Unpin> AsyncWrite for Guard<S> {
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
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        let is_refused = matches!(this.end, End::Discarding(_));
        if is_refused || this.framing.is_within_body() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Stands in for a malformed head. It carries nothing of it, and the server knows it by its number, not by its content.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: malformed\r\nconnection: close\r\n\r\n";
/// Bytes that are read and thrown away after a refusal.
const MAX_DISCARDED: usize = 256 * 1024;
/// How long what follows an answer that ends the connection is thrown away.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that one read may bring; on the stack, so that idle connections hold no buffer.
const SCRATCH: usize = 8 * 1024;

const NOTHING: u8 = 0;
const RESUME: u8 = 1;
const TUNNEL: u8 = 2;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    impl Reset for tokio::io::DuplexStream {
        fn reset(&self) {}
    }

    const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    const HEADS: HeadLimits = HeadLimits {
        bytes: 64 * 1024,
        time: HEAD_TIMEOUT,
    };

    #[tokio::test]
    async fn row_05_nothing_of_a_malformed_head_gets_through() {
        let (mut client, server) = duplex(1024);
        let (mut guard, control) = Guard::new(server, HEADS);
        let good = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(good).await.unwrap();
        client
            .write_all(b"GET /evil HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            .await
            .unwrap();

        let mut read = vec![0; good.len() + STAND_IN.len()];
        guard.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [good.as_slice(), STAND_IN].concat());
        assert_eq!(control.fault_at(0), None);
        assert_eq!(control.fault_at(1), Some(Malformed::TwoHosts));
    }

    #[tokio::test]
    async fn row_05_a_bad_chunk_ends_the_body_in_an_error() {
        let (mut client, server) = duplex(1024);
        let (mut guard, control) = Guard::new(server, HEADS);
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write_all(head).await.unwrap();
        client.write_all(b"5\r\nhello\r\n+1\r\n").await.unwrap();

        let mut read = Vec::new();
        let error = guard.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read.ends_with(b"5\r\nhello\r\n"));
        assert_eq!(control.fault(), Some(Malformed::ChunkSize));
    }

    #[tokio::test(start_paused = true)]
    async fn row_11_slow_heads_and_idle_connections_end() {
        let (mut client, server) = duplex(1024);
        let (mut guard, _control) = Guard::new(server, HEADS);
        client.write_all(b"GET / HT").await.unwrap();
        let started = Instant::now();
        let error = guard.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < HEAD_TIMEOUT + Duration::from_secs(1));

        let (_client, server) = duplex(1024);
        let (mut guard, _control) = Guard::new(server, HEADS);
        assert_eq!(
            guard.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_from_the_end_of_its_last_answer() {
        let (mut client, server) = duplex(1024);
        let (mut guard, control) = Guard::new(server, HEADS);
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(head).await.unwrap();
        guard.read_exact(&mut vec![0; head.len()]).await.unwrap();
        let open = control.open_request();
        let ending = tokio::spawn(async move {
            tokio::time::sleep(IDLE_TIMEOUT * 3 / 2).await;
            drop(open);
        });
        let started = Instant::now();
        let error = guard.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            started.elapsed() >= IDLE_TIMEOUT * 5 / 2,
            "{:?}",
            started.elapsed()
        );
        ending.await.unwrap();
    }

    #[tokio::test]
    async fn bytes_after_an_upgrade_wait_for_its_answer() {
        let (mut client, server) = duplex(1024);
        let (mut guard, control) = Guard::new(server, HEADS);
        let head =
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.write_all(head).await.unwrap();
        client.write_all(b"\x81\x02hi").await.unwrap();
        let mut read = vec![0; head.len()];
        guard.read_exact(&mut read).await.unwrap();
        let mut frame = [0; 4];
        tokio::select! {
            biased;
            read = guard.read_exact(&mut frame) => panic!("read {read:?} before the answer"),
            () = tokio::task::yield_now() => {}
        }
        control.become_tunnel();
        guard.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x81\x02hi");
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_an_early_answer_is_thrown_away_for_a_moment() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
        let (mut client, server) = duplex(64);
        let (mut guard, _control) = Guard::new(server, HEADS);
        client.write_all(head).await.unwrap();
        guard.read_exact(&mut vec![0; head.len()]).await.unwrap();
        let sending = async {
            client.write_all(&[b'x'; 500]).await.unwrap();
            let started = Instant::now();
            (client, started)
        };
        // The rest never comes: only that moment is waited.
        let (ended, (_client, started)) = tokio::join!(guard.shutdown(), sending);
        ended.unwrap();
        assert!(started.elapsed() <= LINGER);
    }
}
