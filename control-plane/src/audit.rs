//! Who did what, and who was refused: every mutation and issue is recorded in the transaction that makes it; refusals are
//! recorded here, bounded, so that a peer that is refused ten thousand times cannot push out what matters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::store::{AuditEntry, Outcome, Store};

/// Records refusals; clones share it.
#[derive(Clone)]
pub struct Auditor {
    store: Store,
    recent: Arc<Mutex<Recent>>,
}

/// A refusal, as its record tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The verified SPIFFE ID, `uid:<n>`, or empty when nobody was verified.
    pub actor: String,
    pub action: &'static str,
    pub subject: String,
    pub detail: String,
}

#[derive(Default)]
struct Recent {
    window: Option<Timestamp>,
    /// Refusals of this window and how often each came.
    seen: HashMap<Refusal, u64>,
    /// Refusals of this window that were not told apart.
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
    pub async fn refused(&self, refusal: Refusal) {
        tracing::warn!(actor = %refusal.actor, action = refusal.action, subject = %refusal.subject, detail = %refusal.detail, "refused");
        let entries = self.note(refusal, Timestamp::now());
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
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }

    /// What is to be written now: the refusal if it is new, and the counts of a window that ended.
    fn note(&self, refusal: Refusal, now: Timestamp) -> Vec<AuditEntry> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        let is_over = recent
            .window
            .is_none_or(|begun| now.duration_since(begun) >= WINDOW || now < begun);
        if is_over {
            entries = recent.close(now);
            recent.window = Some(now);
        }
        if let Some(count) = recent.seen.get_mut(&refusal) {
            *count += 1;
        } else if recent.seen.len() < DISTINCT_PER_WINDOW {
            entries.push(entry(&refusal, now, String::new()));
            recent.seen.insert(refusal, 0);
        } else {
            recent.uncounted += 1;
        }
        entries
    }
}

impl Recent {
    fn close(&mut self, now: Timestamp) -> Vec<AuditEntry> {
        let mut entries: Vec<_> = self
            .seen
            .drain()
            .filter(|(_, more)| *more > 0)
            .map(|(refusal, more)| entry(&refusal, now, format!(" ({more} more alike)")))
            .collect();
        let uncounted = std::mem::take(&mut self.uncounted);
        if uncounted > 0 {
            let refusal = Refusal {
                actor: String::new(),
                action: "call",
                subject: String::new(),
                detail: format!("{uncounted} more refusals of many kinds"),
            };
            entries.push(entry(&refusal, now, String::new()));
        }
        entries
    }
}

fn entry(refusal: &Refusal, time: Timestamp, more: String) -> AuditEntry {
    AuditEntry {
        time,
        actor: refusal.actor.clone(),
        action: refusal.action,
        subject: refusal.subject.clone(),
        outcome: Outcome::Refused,
        detail: format!("{}{more}", refusal.detail),
    }
}

/// Equal refusals within this are one record and a count.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// Different refusals beyond this within one window are only counted.
const DISTINCT_PER_WINDOW: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VolatileBackend;

    fn refusal(subject: u64) -> Refusal {
        Refusal {
            actor: String::new(),
            action: "attest",
            subject: format!("shop/w{subject}"),
            detail: "the token is unknown".into(),
        }
    }

    #[test]
    fn row_11_a_flood_of_refusals_is_a_few_records_and_a_count() {
        let auditor = Auditor::new(Store::open_backend(VolatileBackend::new()).unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let written: usize = (0..1000).map(|_| auditor.note(refusal(0), now).len()).sum();
        assert_eq!(written, 1);
        let written: usize = (0..10_000)
            .map(|i| auditor.note(refusal(i), now).len())
            .sum();
        assert!(written < DISTINCT_PER_WINDOW);
        let closed = auditor.note(refusal(0), now + WINDOW);
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
}
