//! Moves the bytes of one HTTP/2 connection: everything that waits goes out in one write, everything that came is handed out, in turns.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::frame::{Code, Fault, Header, Kind};
use super::{Http2, Shared};
use crate::buffers;
use crate::http::IDLE_TIMEOUT;
use crate::http1::Side;
use crate::http1::timer::Timer;

/// How a connection ended.
#[derive(Debug, Error)]
pub enum Ended {
    #[error("nothing is open on it and nobody wants more of it")]
    Done,
    #[error("the peer closed it")]
    ByPeer,
    #[error("the peer sent what is no HTTP/2")]
    Fault(#[source] Fault),
    #[error("its socket failed")]
    Io(#[source] io::Error),
    #[error("the peer took too long")]
    Late,
    #[error("this side ended it")]
    Aborted,
}

/// Serves the connection until its end, and tells its streams then. `patience` is for what the peer must complete once it began: its
/// preface, its settings, a header block.
pub async fn run(http2: &Http2, side: Side, patience: Duration) -> Ended {
    let closing = Closing(Arc::clone(&http2.shared));
    let mut turns = Turns {
        shared: Arc::clone(&http2.shared),
        side,
        writing: Vec::new(),
        written: 0,
        needs_flush: false,
        patience,
        owed_since: None,
        partial_since: None,
        unheard_since: None,
        idle_since: None,
        timer: Timer::default(),
    };
    let ended = (&mut turns).await;
    if let Ended::Fault(fault) = &ended {
        let goodbye = http2.shared.state().goodbye(fault.code);
        let is_flood = fault.code == Code::Calm;
        drop(closing);
        turns.say(&goodbye, is_flood).await;
    }
    ended
}

/// Tells the streams also when the task is dropped.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.state().close();
    }
}

struct Turns {
    shared: Arc<Shared>,
    side: Side,
    /// On its way; `written` bytes of it have left.
    writing: Vec<u8>,
    written: usize,
    needs_flush: bool,
    patience: Duration,
    owed_since: Option<Instant>,
    /// A frame came in part.
    partial_since: Option<Instant>,
    /// The peer was told that this side leaves, and has not answered.
    unheard_since: Option<Instant>,
    idle_since: Option<Instant>,
    timer: Timer,
}

impl Future for Turns {
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
            let is_done = state.is_done();
            if state.end_turn(blocked) {
                drop(state);
                if is_done && !blocked {
                    ready!(this.poll_close(cx));
                    return Poll::Ready(Ended::Done);
                }
                return this.poll_timer(cx);
            }
        }
    }
}

impl Turns {
    /// Hands out what came, as much as is one connection's turn.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        for _ in 0..READS_A_TURN {
            let waiting = self.side.unused();
            if !waiting.is_empty() {
                let taken = self.shared.state().receive(waiting).map_err(Ended::Fault)?;
                self.side.consume(taken);
                if taken > 0 {
                    self.partial_since = None;
                }
            }
            match self.side.poll_more(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Err(Ended::ByPeer),
                Poll::Ready(Err(error)) => return Err(Ended::Io(error)),
            }
        }
        // Others' turn; there may be more.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Sends what waits until nothing does or the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self
                .writing
                .get(self.written..)
                .filter(|rest| !rest.is_empty())
            {
                let count = ready!(Pin::new(&mut self.side.stream).poll_write(cx, rest))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += count;
                self.needs_flush = true;
            }
            buffers::give_back(std::mem::take(&mut self.writing));
            self.written = 0;
            self.writing = self.shared.state().take_out();
            if self.writing.is_empty() {
                break;
            }
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.side.stream).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whether the peer still listens makes no difference.
        Pin::new(&mut self.side.stream)
            .poll_shutdown(cx)
            .map(|_| ())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let now = Instant::now();
        let (is_owed, is_unheard, is_idle) = {
            let state = self.shared.state();
            (state.is_owed(), state.is_unheard(), state.held() == 0)
        };
        let since = |holds: bool, since: Option<Instant>| holds.then(|| since.unwrap_or(now));
        self.owed_since = since(is_owed, self.owed_since);
        self.partial_since = since(is_late(self.side.unused()), self.partial_since);
        self.unheard_since = since(is_unheard, self.unheard_since);
        self.idle_since = since(is_idle, self.idle_since);
        let owed = self.owed_since.into_iter().chain(self.partial_since);
        let late = owed
            .map(|since| since + self.patience)
            .chain(self.idle_since.map(|since| since + IDLE_TIMEOUT))
            .min();
        let unheard = self.unheard_since.map(|since| since + self.patience);
        let Some(deadline) = late.into_iter().chain(unheard).min() else {
            return Poll::Pending;
        };
        ready!(self.timer.poll(cx, deadline));
        if late == Some(deadline) {
            return Poll::Ready(Ended::Late);
        }
        // It wakes this task, for it has something to say.
        self.shared.state().leave_for_good();
        Poll::Pending
    }

    /// Tells the peer why, and waits a moment that it can read so: unread bytes would make the socket send a reset instead. Whoever floods is
    /// told, and neither read nor let go for a while: it would only come again.
    async fn say(&mut self, goodbye: &[u8], is_flood: bool) {
        let said = async {
            let stream = &mut self.side.stream;
            let rest = self.writing.get(self.written..).unwrap_or_default();
            stream.write_all(rest).await?;
            stream.write_all(goodbye).await?;
            stream.flush().await?;
            if is_flood {
                self.side.consume(self.side.unused().len());
                tokio::time::sleep(PENANCE).await;
                return Ok(());
            }
            stream.shutdown().await?;
            let side = &mut self.side;
            let mut left = MOST_DISCARDED;
            while left > 0 {
                let count = side.unused().len();
                side.consume(count);
                left = left.saturating_sub(count.max(1));
                if !std::future::poll_fn(|cx| side.poll_more(cx)).await? {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let limit = if is_flood { PENANCE } else { LINGER };
        let _ = tokio::time::timeout(limit, said).await;
    }
}

/// Whether the rest of a frame must come soon. Content may come as slowly as it likes.
fn is_late(partial: &[u8]) -> bool {
    let is_content = Header::read(partial).is_some_and(|header| header.kind == Kind::Data);
    !partial.is_empty() && !is_content
}

/// Reads in one turn.
const READS_A_TURN: usize = 8;
/// How long a peer at fault may still send.
const LINGER: Duration = Duration::from_secs(2);
/// How long one that floods waits for its end.
const PENANCE: Duration = Duration::from_secs(5);
const MOST_DISCARDED: usize = 16 * 1024 * 1024;
