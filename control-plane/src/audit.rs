//! Who did what, and who was refused: every mutation by an operator and every issue is recorded in the transaction that makes
//! it. What a peer can repeat at will (refusals, endpoints that come and go) is recorded here, bounded, so that ten thousand
//! of them cannot push out what matters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::store::{AuditEntry, Outcome, Store};

/// Records what peers can repeat at will; clones share it.
#[derive(Clone)]
pub struct Auditor {
    store: Store,
    recent: Arc<Mutex<Recent>>,
}

/// Something that was done or refused, as its record tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The verified SPIFFE ID, `uid:<n>`, or empty when nobody was verified.
    pub actor: String,
    pub action: &'static str,
    pub subject: String,
    pub detail: String,
}

#[derive(Default)]
struct Recent {
    window: Option<Timestamp>,
    /// Events of this window and how often each came again.
    seen: HashMap<(Event, Outcome), u64>,
    /// How many different events each actor has in this window, for each action and reason: a flood of one kind leaves room for another.
    distinct: HashMap<(String, &'static str, String), usize>,
    /// Events of this window that were not told apart.
    uncounted: u64,
}

impl Auditor {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            recent: Arc::default(),
        }
    }

    /// Records a refusal, equal ones of one window once. What it holds of a peer is escaped by who prints it.
    pub async fn refused(&self, event: Event) {
        self.record(event, Outcome::Refused).await;
    }

    /// Records what was done, equal events of one window once.
    pub async fn done(&self, event: Event) {
        self.record(event, Outcome::Ok).await;
    }

    async fn record(&self, event: Event, outcome: Outcome) {
        let entries = self.note(event, outcome, Timestamp::now());
        if entries.is_empty() {
            return;
        }
        let written = self
            .store
            .write(move |tx| {
                for entry in entries {
                    tx.audit(entry)?;
                }
                Ok::<_, crate::store::StoreError>(())
            })
            .await;
        if let Err(error) = written {
            tracing::error!(%error, "an event could not be recorded");
        }
    }

    /// What is to be written now: the event if it is new, and the counts of a window that ended.
    fn note(&self, event: Event, outcome: Outcome, now: Timestamp) -> Vec<AuditEntry> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        let is_over = recent
            .window
            .is_none_or(|begun| now.duration_since(begun) >= WINDOW || now < begun);
        if is_over {
            entries = recent.close(now);
            recent.window = Some(now);
        }
        let key = (event, outcome);
        if let Some(count) = recent.seen.get_mut(&key) {
            *count += 1;
        } else if recent.has_room(&key.0) {
            // What is not recorded is not logged either: a peer must not fill a disk by either way.
            tracing::info!(actor = %key.0.actor, action = key.0.action, subject = %key.0.subject, detail = %key.0.detail, outcome = outcome.as_str(), "recorded");
            entries.push(entry(&key, now, String::new()));
            recent.seen.insert(key, 0);
        } else {
            recent.uncounted += 1;
        }
        entries
    }
}

impl Recent {
    /// Takes a place for one more such event, if there is one.
    fn has_room(&mut self, event: &Event) -> bool {
        if self.seen.len() >= DISTINCT_PER_WINDOW {
            return false;
        }
        let kind = (event.actor.clone(), event.action, event.detail.clone());
        let own = self.distinct.entry(kind).or_default();
        let has_room = *own < DISTINCT_PER_KIND;
        *own += usize::from(has_room);
        has_room
    }

    fn close(&mut self, now: Timestamp) -> Vec<AuditEntry> {
        self.distinct.clear();
        let mut entries: Vec<_> = self
            .seen
            .drain()
            .filter(|(_, more)| *more > 0)
            .map(|(event, more)| entry(&event, now, format!(" ({more} more alike)")))
            .collect();
        let uncounted = std::mem::take(&mut self.uncounted);
        if uncounted > 0 {
            let event = Event {
                actor: String::new(),
                action: "call",
                subject: String::new(),
                detail: format!("{uncounted} more events of many kinds"),
            };
            entries.push(entry(&(event, Outcome::Refused), now, String::new()));
        }
        entries
    }
}

fn entry((event, outcome): &(Event, Outcome), time: Timestamp, more: String) -> AuditEntry {
    AuditEntry {
        time,
        actor: event.actor.clone(),
        action: event.action,
        subject: event.subject.clone(),
        outcome: *outcome,
        detail: format!("{}{more}", event.detail),
    }
}

/// Equal events within this are one record and a count.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// Different events beyond this within one window are only counted: in all, and of one actor, action and reason.
const DISTINCT_PER_WINDOW: usize = 200;
const DISTINCT_PER_KIND: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VolatileBackend;

    fn event(actor: &str, subject: u64) -> Event {
        Event {
            actor: actor.into(),
            action: "attest",
            subject: format!("shop/w{subject}"),
            detail: "the token is unknown".into(),
        }
    }

    #[test]
    fn row_11_a_flood_of_refusals_is_a_few_records_and_a_count() {
        let auditor = Auditor::new(Store::open_backend(VolatileBackend::new()).unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let note = |event, now| auditor.note(event, Outcome::Refused, now);
        let written: usize = (0..1000).map(|_| note(event("", 0), now).len()).sum();
        assert_eq!(written, 1);
        let written: usize = (0..10_000).map(|i| note(event("", i), now).len()).sum();
        assert!(written < DISTINCT_PER_KIND);
        let others: usize = (0..10_000)
            .map(|i| note(event(&format!("w{i}"), i), now).len())
            .sum();
        assert!(
            others > 100 && written + others < DISTINCT_PER_WINDOW,
            "one actor leaves room for others: {others}"
        );
        let closed = note(event("", 0), now + WINDOW);
        assert!(
            closed
                .iter()
                .any(|entry| entry.detail.contains("1000 more alike"))
        );
        assert!(
            closed
                .iter()
                .any(|entry| entry.detail.contains("of many kinds"))
        );
    }

    #[test]
    fn what_is_done_is_told_apart_from_what_is_refused() {
        let auditor = Auditor::new(Store::open_backend(VolatileBackend::new()).unwrap());
        let now = Timestamp::UNIX_EPOCH;
        for outcome in [Outcome::Ok, Outcome::Refused] {
            let written = auditor.note(event("web", 1), outcome, now);
            assert_eq!(written.len(), 1);
            assert_eq!(written[0].outcome, outcome);
        }
    }
}
