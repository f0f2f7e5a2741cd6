//! `weft/1`: many byte streams over one mutual TLS connection between two sidecars.
//!
//! A stream stands for a connection of its own: it opens with the server name that SNI would carry and with what ALPN would say, its bytes
//! pass unchanged, it can be half closed, and it has credit of its own, so that a reader that stops holds up nobody else. Only the client
//! opens streams. Writes of all streams between two turns of the runtime go out together.
//!
//! [`frame`] is what is on the wire, [`state`] what both ends know, [`connection`] moves the bytes, [`stream`] is what others use.

pub mod connection;
pub mod credit;
pub mod frame;
pub mod state;
pub mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use state::State;
use tokio::io::{AsyncBufRead, AsyncWrite};

use crate::Sidecar;

pub use connection::{Ended, run};
pub use frame::Carried;
pub use state::Role;
pub use stream::MuxStream;

/// What TLS may hold of one write: all that waits for a turn leaves by one system call, for which the library's 64 KiB are too few.
pub const WRITTEN_AT_ONCE: usize = 256 * 1024;

/// One end of a connection; clones share it.
#[derive(Clone)]
pub struct Mux {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

/// A stream that the client opened, and what it is for.
pub struct Accepted {
    pub stream: MuxStream,
    pub carried: Carried,
    pub server_name: String,
}

impl Mux {
    pub fn new(role: Role) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(role)),
            }),
        }
    }

    /// Opens a stream for one target. None: the connection takes no more.
    pub fn open(&self, carried: Carried, server_name: &str) -> Option<MuxStream> {
        let slot = self.shared.state().open(carried, server_name)?;
        Some(MuxStream::new(Arc::clone(&self.shared), slot))
    }

    /// A stream for HTTP that was parked by the same target.
    pub fn reuse(&self, server_name: &Arc<str>) -> Option<MuxStream> {
        let slot = self.shared.state().reuse(server_name)?;
        Some(MuxStream::new(Arc::clone(&self.shared), slot))
    }

    /// The next stream that the client opens. None: the connection ended.
    pub async fn accept(&self) -> Option<Accepted> {
        let opened = std::future::poll_fn(|cx| self.shared.state().poll_opened(cx)).await?;
        Some(Accepted {
            stream: MuxStream::new(Arc::clone(&self.shared), opened.slot),
            carried: opened.carried,
            server_name: opened.name,
        })
    }

    /// Asks the peer to open no more and to use no waiting stream again; what is open goes on.
    pub fn go_away(&self) {
        self.shared.state().go_away();
    }

    /// Ends the connection and all its streams at once.
    pub fn abort(&self) {
        self.shared.state().close();
    }

    /// Whether streams may still be opened.
    pub fn is_open(&self) -> bool {
        !self.shared.state().is_closing()
    }

    /// How often a stream was opened or used again.
    pub fn uses(&self) -> u64 {
        self.shared.state().uses()
    }

    /// Streams that are in use, parked ones left out.
    pub fn busy(&self) -> usize {
        self.shared.state().slots_busy()
    }

    pub fn streams(&self) -> usize {
        self.shared.state().slots_in_use()
    }
}

/// Serves a connection in a task of its own.
pub fn start<S>(sidecar: &Sidecar, mux: &Mux, stream: S)
where
    S: AsyncBufRead + AsyncWrite + Send + Unpin + 'static,
{
    let mux = mux.clone();
    sidecar.tasks.connection("weft/1", async move {
        let ended = run(&mux, stream).await;
        tracing::debug!(%ended, "a shared connection ended");
    });
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn io_error(gone: state::Gone) -> std::io::Error {
    match gone {
        state::Gone::Reset => std::io::ErrorKind::ConnectionReset.into(),

        state::Gone::Closed => std::io::ErrorKind::BrokenPipe.into(),
    }
}

fn told<T>(poll: Poll<Result<T, state::Gone>>) -> Poll<std::io::Result<T>> {
    poll.map(|result| result.map_err(io_error))
}
