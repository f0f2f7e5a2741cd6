//! What HTTP has in both versions: where a message ends and what names a host, how much of one may come, and what a client is told.

pub mod authority;
pub mod client_cert;
pub mod refusal;
pub mod sniff;
pub mod strict;

use std::time::Duration;

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    Http1,
    Http2,
}

/// What one head may cost.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    pub bytes: usize,
    /// It must be complete so long after its first byte.
    pub time: Duration,
}

/// A connection without any request is closed after this. Longer than any pool keeps one, so that the pool's side closes first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
