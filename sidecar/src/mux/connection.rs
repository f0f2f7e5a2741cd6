//! Moves the bytes of one `weft/1` connection: everything that waits goes out in one write, everything that came is handed out, in turns.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::frame::Fault;
use super::state::Outgoing;
use super::{Mux, Shared};
use crate::http::IDLE_TIMEOUT;

/// How a connection ended.
#[derive(Debug, Error)]
pub enum Ended {
    #[error("nothing is open on it and nobody wants more of it")]
    Done,
    #[error("the peer closed it")]
    ByPeer,
    #[error("the peer sent what is no weft/1")]
    Fault(#[source] Fault),
    #[error("its socket failed")]
    Io(#[source] io::Error),
    #[error("the peer was silent for too long")]
    Silent,
    #[error("nothing was open on it for too long")]
    Idle,
    #[error("this side ended it")]
    Aborted,
}

/// Serves the connection until its end, and tells its streams then.
pub async fn run<S>(mux: &Mux, io: S) -> Ended
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    let closing = Closing(Arc::clone(&mux.shared));
    let turn = Turns {
        shared: Arc::clone(&mux.shared),
        io,
        writing: Outgoing::default(),
        needs_flush: false,
        closes: false,
        watch: Watch::new(),
    };
    let ended = turn.await;
    drop(closing);
    ended
}

/// Tells the streams also when the task is dropped.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.state().close();
    }
}

struct Turns<S> {
    shared: Arc<Shared>,
    io: S,
    /// On its way.
    writing: Outgoing,
    needs_flush: bool,
    /// Nothing is open any more: the last bytes leave, then the socket is shut down.
    closes: bool,
    watch: Watch,
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> Future for Turns<S> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        this.shared.state().begin_turn(cx);
        if this.shared.state().is_closed() {
            return Poll::Ready(Ended::Aborted);
        }
        if let Err(ended) = this.read(cx) {
            return Poll::Ready(ended);
        }
        loop {
            let blocked = match this.poll_write(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Io(error)),
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            let mut state = this.shared.state();
            // Whoever ended it in the midst of this turn woke nobody.
            if state.is_closed() {
                return Poll::Ready(Ended::Aborted);
            }
            this.closes |= state.is_done();
            if state.end_turn(blocked) {
                let streams = state.slots_in_use();
                drop(state);
                if this.closes && !blocked {
                    ready!(this.poll_close(cx));
                    return Poll::Ready(Ended::Done);
                }
                return this.watch.poll(cx, streams > 0, &this.shared);
            }
        }
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> Turns<S> {
    /// Hands out what came, as much as is one connection's turn.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        for _ in 0..READS_A_TURN {
            match Pin::new(&mut self.io).poll_fill_buf(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(Ended::Io(error)),
                Poll::Ready(Ok([])) => return Err(Ended::ByPeer),
                Poll::Ready(Ok(read)) => {
                    self.watch.heard();
                    let count = read.len();
                    let received = self.shared.state().receive(read);
                    Pin::new(&mut self.io).consume(count);
                    received.map_err(Ended::Fault)?;
                }
            }
        }
        // Others' turn; there may be more.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Sends what waits until nothing does or the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.writing.is_gone() {
                let mut slices = [IoSlice::new(&[]); MOST_SLICES];
                let count = self.writing.slices(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                let io = Pin::new(&mut self.io);
                let count = ready!(match slices {
                    [all] => io.poll_write(cx, all),
                    slices => io.poll_write_vectored(cx, slices),
                })?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.writing.left(count);
                self.needs_flush = true;
            }
            self.shared.state().take_out(&mut self.writing);
            if self.writing.is_empty() {
                break;
            }
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whether the peer still listens makes no difference.
        Pin::new(&mut self.io).poll_shutdown(cx).map(|_| ())
    }
}

/// Asks a peer that says nothing while streams are open whether it is still there.
struct Watch {
    timer: Option<Pin<Box<Sleep>>>,
    heard: bool,
    unanswered: u32,
    /// When something was open last.
    used: Instant,
}

impl Watch {
    fn new() -> Self {
        Self {
            timer: None,
            heard: false,
            unanswered: 0,
            used: Instant::now(),
        }
    }

    fn heard(&mut self) {
        self.heard = true;
    }

    fn poll(&mut self, cx: &mut Context<'_>, has_streams: bool, shared: &Shared) -> Poll<Ended> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(ASK_EVERY)));
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + ASK_EVERY);
            if has_streams {
                self.used = Instant::now();
            } else if self.used.elapsed() > IDLE_TIMEOUT {
                return Poll::Ready(Ended::Idle);
            }
            if std::mem::take(&mut self.heard) || !has_streams {
                self.unanswered = 0;
                continue;
            }
            if self.unanswered == MOST_UNANSWERED {
                return Poll::Ready(Ended::Silent);
            }
            self.unanswered += 1;
            shared.state().ping();
        }
        Poll::Pending
    }
}

/// Pieces that are read in one turn, each of at most one TLS record.
const READS_A_TURN: usize = 8;
/// Of one write.
const MOST_SLICES: usize = 16;
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A peer that left so many questions unanswered is gone.
const MOST_UNANSWERED: u32 = 2;
