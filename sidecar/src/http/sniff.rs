//! What the first bytes of a plain connection say.

use std::task::{Poll, ready};
use std::time::Duration;

use super::Version;
use crate::http1::Side;

/// What a connection seems to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    Http(Version),
    Opaque,
}

/// Waits until enough came to tell. None: nothing did in time.
pub async fn sniff(side: &mut Side, limit: Duration) -> Option<Sniffed> {
    let reading = std::future::poll_fn(|cx| {
        loop {
            match Sniffed::of(side.unused()) {
                Some(sniffed) => return Poll::Ready(Some(sniffed)),
                None => match ready!(side.poll_more(cx)) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Poll::Ready(None),
                },
            }
        }
    });
    tokio::time::timeout(limit, reading).await.ok().flatten()
}

impl Sniffed {
    /// None: more must come before anything can be said.
    fn of(seen: &[u8]) -> Option<Self> {
        let first = seen.first()?;
        if seen.starts_with(PREFACE) {
            return Some(Self::Http(Version::Http2));
        }
        if PREFACE.starts_with(seen) {
            return None;
        }
        Some(if first.is_ascii_alphabetic() {
            Self::Http(Version::Http1)
        } else {
            Self::Opaque
        })
    }
}

/// RFC 9113 §3.4, its first line.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
