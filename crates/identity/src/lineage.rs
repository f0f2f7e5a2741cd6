//! The line of SVIDs that grew from one attestation.
//!
//! Invariant: at most one SVID of a lineage is in use and at most one more waits to be. Whoever renews from an SVID that was
//! already left behind holds a copy of its key, so the lineage freezes: neither the copy nor the original can go on alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{spiffe::SpiffeId, verify::Serial};

/// What the store keeps of one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lineage {
    identity: SpiffeId,
    begun_at: Timestamp,
    state: State,
    current: Generation,
    /// The serial that `current` replaced.
    previous: Option<Serial>,
    /// Issued from `current` and not yet seen in use.
    successor: Option<Generation>,
    /// Successors that another one took the place of before they were used; they are revoked. The newest few.
    superseded: Vec<Serial>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Generation {
    pub serial: Serial,
    pub key_fingerprint: [u8; 32],
    pub not_after: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Active,
    Frozen,
    Revoked,
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineageVerdict {
    /// Issue a certificate for the key, revoke `revokes`, and tell the lineage by [`Lineage::issued`].
    Issue {
        revokes: Option<Serial>,
    },
    /// A retry: answer with the certificate that was issued before.
    Repeat {
        serial: Serial,
    },
    /// A parallel use was found and the lineage is frozen from now on: store it, audit it, refuse.
    Freeze,
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the lineage is frozen")]
    Frozen,
    #[error("the lineage is revoked")]
    Revoked,
    #[error("the presented SVID was superseded before it was used")]
    Superseded,
    #[error("a renewal needs a new key")]
    KeyReused,
}

impl Lineage {
    pub fn begin(identity: SpiffeId, first: Generation, now: Timestamp) -> Self {
        Self {
            identity,
            begun_at: now,
            state: State::Active,
            current: first,
            previous: None,
            successor: None,
            superseded: Vec::new(),
        }
    }

    /// `presented` is the serial that the connection itself proved; the caller found this lineage by it.
    pub fn renew(
        &mut self,
        presented: &Serial,
        key_fingerprint: &[u8; 32],
        now: Timestamp,
    ) -> LineageVerdict {
        match self.state {
            State::Active => {}
            State::Frozen => return LineageVerdict::Refused(Refusal::Frozen),
            State::Revoked => return LineageVerdict::Refused(Refusal::Revoked),
        }
        if self.superseded.contains(presented) {
            return LineageVerdict::Refused(Refusal::Superseded);
        }
        // To renew from a certificate is to use it.
        self.seen_in_use(presented);
        if *presented == self.current.serial {
            return self.renew_current(key_fingerprint, now);
        }
        let is_late_retry = self.previous.as_ref() == Some(presented)
            && self.current.key_fingerprint == *key_fingerprint;
        if is_late_retry && self.current.not_after > now {
            return LineageVerdict::Repeat {
                serial: self.current.serial.clone(),
            };
        }
        self.state = State::Frozen;
        LineageVerdict::Freeze
    }

    fn renew_current(&self, key_fingerprint: &[u8; 32], now: Timestamp) -> LineageVerdict {
        if self.current.key_fingerprint == *key_fingerprint {
            return LineageVerdict::Refused(Refusal::KeyReused);
        }
        match &self.successor {
            Some(next) if next.not_after > now && next.key_fingerprint == *key_fingerprint => {
                LineageVerdict::Repeat {
                    serial: next.serial.clone(),
                }
            }
            Some(next) => LineageVerdict::Issue {
                revokes: Some(next.serial.clone()),
            },
            None => LineageVerdict::Issue { revokes: None },
        }
    }

    /// Records what was issued after [`LineageVerdict::Issue`].
    pub fn issued(&mut self, next: Generation) {
        if let Some(unused) = self.successor.replace(next) {
            if self.superseded.len() >= SUPERSEDED_LIMIT {
                self.superseded.remove(0);
            }
            self.superseded.push(unused.serial);
        }
    }

    /// A connection was made with this serial. True if that changed the lineage, which is then to be stored.
    pub fn seen_in_use(&mut self, serial: &Serial) -> bool {
        match self.successor.take_if(|next| next.serial == *serial) {
            Some(next) => {
                let left = std::mem::replace(&mut self.current, next);
                self.previous = Some(left.serial);
                true
            }
            None => false,
        }
    }

    /// Ends the lineage. The serials that may still be alive are to be revoked with it.
    pub fn revoke(&mut self) -> Vec<Serial> {
        self.state = State::Revoked;
        self.live_serials()
    }

    /// The serials that may still be accepted by somebody: the one in use, the one before it and the one that waits.
    pub fn live_serials(&self) -> Vec<Serial> {
        let successor = self.successor.as_ref().map(|next| next.serial.clone());
        std::iter::once(self.current.serial.clone())
            .chain(self.previous.clone())
            .chain(successor)
            .collect()
    }

    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    pub fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn current(&self) -> &Generation {
        &self.current
    }

    pub fn successor(&self) -> Option<&Generation> {
        self.successor.as_ref()
    }

    /// After this time no certificate of the lineage is valid and it can be forgotten.
    pub fn ends_at(&self) -> Timestamp {
        self.successor
            .as_ref()
            .map_or(self.current.not_after, |next| {
                next.not_after.max(self.current.not_after)
            })
    }
}

/// A client that retries with ever new keys must not grow the record without bound; what is dropped stays revoked by serial.
const SUPERSEDED_LIMIT: usize = 16;

#[cfg(test)]
mod tests;
