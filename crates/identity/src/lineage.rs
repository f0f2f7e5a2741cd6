//! The line of SVIDs that grew from one attestation.
//!
//! Invariant: at most one SVID of a lineage is in use and at most one more waits to be. Whoever renews from an SVID that was
//! already left behind holds a copy of its key, and so does somebody if an SVID is used whose place another one had taken: the
//! lineage freezes, and neither the copy nor the original can go on alone.

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
    /// Successors that another one took the place of before they were used; they are revoked. A few in all.
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
    Freeze(ParallelUse),
    Refused(Refusal),
}

/// What a connection did to its lineage; all but `NothingNew` is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    NothingNew,
    /// It was the successor's first use.
    MovedOn,
    /// As [`LineageVerdict::Freeze`].
    Frozen(ParallelUse),
}

/// Why two holders of one lineage are certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParallelUse {
    #[error("it was renewed although its successor is in use")]
    LeftBehind,
    #[error("it was used although somebody else had another one issued in its place")]
    Superseded,
    #[error("it was renewed with ever new keys")]
    EverNewKeys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the lineage is frozen")]
    Frozen,
    #[error("the lineage is revoked")]
    Revoked,
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
        // To renew from a certificate is to use it.
        if let Seen::Frozen(why) = self.seen_in_use(presented) {
            return LineageVerdict::Freeze(why);
        }
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
        LineageVerdict::Freeze(ParallelUse::LeftBehind)
    }

    fn renew_current(&mut self, key_fingerprint: &[u8; 32], now: Timestamp) -> LineageVerdict {
        if self.current.key_fingerprint == *key_fingerprint {
            return LineageVerdict::Refused(Refusal::KeyReused);
        }
        match &self.successor {
            Some(next) if next.not_after > now && next.key_fingerprint == *key_fingerprint => {
                LineageVerdict::Repeat {
                    serial: next.serial.clone(),
                }
            }
            Some(_) if self.superseded.len() >= SUPERSEDED_LIMIT => {
                self.state = State::Frozen;
                LineageVerdict::Freeze(ParallelUse::EverNewKeys)
            }
            Some(next) => LineageVerdict::Issue {
                revokes: Some(next.serial.clone()),
            },
            None => LineageVerdict::Issue { revokes: None },
        }
    }

    /// Records what was issued after [`LineageVerdict::Issue`].
    pub fn issued(&mut self, next: Generation) {
        let unused = self.successor.replace(next);
        self.superseded.extend(unused.map(|unused| unused.serial));
    }

    /// A connection proved this serial's key. Its lineage moves on with the successor's first use.
    ///
    /// A sidecar asks again with the same key until it has its answer, so it never holds an SVID that was superseded, unless
    /// somebody else renewed with a copy of its key.
    pub fn seen_in_use(&mut self, serial: &Serial) -> Seen {
        if self.is_superseded(serial) && self.state == State::Active {
            self.state = State::Frozen;
            return Seen::Frozen(ParallelUse::Superseded);
        }
        match self.successor.take_if(|next| next.serial == *serial) {
            Some(next) => {
                let left = std::mem::replace(&mut self.current, next);
                self.previous = Some(left.serial);
                Seen::MovedOn
            }
            None => Seen::NothingNew,
        }
    }

    /// Whether another one took this serial's place before it was used.
    pub fn is_superseded(&self, serial: &Serial) -> bool {
        self.superseded.contains(serial)
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

/// A sidecar keeps the key that it asks with, so it supersedes nothing while its disk holds. Each one is a revocation that
/// everybody is told of.
const SUPERSEDED_LIMIT: usize = 3;

#[cfg(test)]
mod tests;
