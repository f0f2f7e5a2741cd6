//! The last flow of a connection: most requests are like the one before them.

use std::sync::Arc;

use jiff::Timestamp;
use weft_policy::{HeaderSeen, HttpRequest};

use super::Asked;
use super::entry::Entry;
use super::table::Recorded;
use crate::view::Generation;

/// What a connection's last request was counted as.
#[derive(Default)]
pub struct Recent {
    last: Option<Last>,
}

struct Last {
    entry: Arc<Entry>,
    is_folded: bool,
    generation: Generation,
    /// Method, host and path as they came.
    raw: Vec<u8>,
}

impl Recent {
    /// Counts a request that is like the last one; answers whether its flow tells it less exactly. `None`: it is another one.
    pub(super) fn count_again(&self, asked: &Asked<'_>, now: Timestamp) -> Option<bool> {
        let last = self.last.as_ref()?;
        let request = asked.request;
        if last.generation != asked.enforced.generation
            || request.upgrade.is_some()
            || request.connect
            || last.entry.judged() != asked.judged
            || !is_raw(&last.raw, request)
        {
            return None;
        }
        let (conditions, seen) = last.entry.seen();
        let are_seen = conditions
            .iter()
            .zip(seen)
            .all(|(condition, seen)| HeaderSeen::of(condition, request.headers) == *seen);
        if !are_seen {
            return None;
        }
        last.entry.count(now);
        Some(last.is_folded)
    }

    pub(super) fn remember(&mut self, asked: &Asked<'_>, recorded: Option<Recorded>) {
        let request = asked.request;
        let length = parts(request).map(|part| part.len()).sum::<usize>();
        let Some(recorded) = recorded
            .filter(|_| length <= RAW_LIMIT && request.upgrade.is_none() && !request.connect)
        else {
            self.last = None;
            return;
        };
        let mut raw = self.last.take().map(|last| last.raw).unwrap_or_default();
        raw.clear();
        raw.reserve_exact(length);
        parts(request).for_each(|part| raw.extend_from_slice(part));
        self.last = Some(Last {
            entry: recorded.entry,
            is_folded: recorded.is_folded,
            generation: asked.enforced.generation,
            raw,
        });
    }
}

fn is_raw(raw: &[u8], request: &HttpRequest<'_>) -> bool {
    let mut rest = raw;
    for part in parts(request) {
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// No method holds a space and no host either, so that none of them can run into the next.
fn parts<'r>(request: &'r HttpRequest<'_>) -> impl Iterator<Item = &'r [u8]> {
    let host = request.authority.map(str::as_bytes);
    [
        request.method.as_bytes(),
        if host.is_some() { b" " } else { b"-" },
        host.unwrap_or_default(),
        b" ",
        request.path.as_bytes(),
    ]
    .into_iter()
}

/// What is longer is looked up each time.
const RAW_LIMIT: usize = 512;
