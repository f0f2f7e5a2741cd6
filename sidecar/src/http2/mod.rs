//! HTTP/2 (RFC 9113) with the applications beside a sidecar.
//!
//! Messages are judged and forwarded in one form alone, HTTP/1.1: each stream of HTTP/2 is made to look like a connection that speaks it, so
//! that there is one judge, one way of a request, and one place where the two could be read differently: [`reading`] going in,
//! [`state`] going out. [`frame`] and [`hpack`] are what is on the wire, [`connection`] moves the bytes, [`stream`] is what others use.

mod budget;
pub mod connection;
pub mod frame;
pub mod hpack;
pub mod reading;
pub mod state;
pub mod stream;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use state::State;

use crate::Sidecar;
use crate::http1::Side;

pub use connection::{Ended, run};
pub use state::{Limits, Role};
pub use stream::Http2Stream;

/// One end of a connection; clones share it.
#[derive(Clone)]
pub struct Http2 {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

impl Http2 {
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(role, limits)),
            }),
        }
    }

    /// Client: a slot for requests one after the other. None: the connection takes no more.
    pub fn open(&self) -> Option<Http2Stream> {
        let slot = self.shared.state().open()?;
        Some(Http2Stream::new(Arc::clone(&self.shared), slot))
    }

    /// Server: the next slot that serves requests. None: there will be none.
    pub async fn accept(&self) -> Option<Http2Stream> {
        let slot = poll_fn(|cx| self.shared.state().poll_opened(cx)).await?;
        Some(Http2Stream::new(Arc::clone(&self.shared), slot))
    }

    /// Whether it may take something new.
    pub fn is_open(&self) -> bool {
        !self.shared.state().is_closing()
    }

    /// Ends it and everything on it.
    pub fn abort(&self) {
        self.shared.state().close();
    }

    /// Slots that somebody holds.
    pub fn held(&self) -> usize {
        self.shared.state().held()
    }

    /// Asks the peer to use it no further; what is open goes on.
    pub fn go_away(&self) {
        self.shared.state().go_away();
    }
}

/// Moves the bytes of a connection in a task of its own.
pub fn start(sidecar: &Sidecar, http2: &Http2, side: Side, patience: Duration) {
    let http2 = http2.clone();
    sidecar.tasks.connection("http/2", async move {
        let ended = run(&http2, side, patience).await;
        tracing::debug!(%ended, "a connection of HTTP/2 ended");
    });
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told<T>(poll: Poll<Result<T, state::Gone>>) -> Poll<std::io::Result<T>> {
    poll.map(|result| {
        result.map_err(|gone| match gone {
            state::Gone::Reset => std::io::ErrorKind::ConnectionReset.into(),
            state::Gone::Closed => std::io::ErrorKind::BrokenPipe.into(),
        })
    })
}
