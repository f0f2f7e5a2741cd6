//! What a restarted sidecar serves from while no control plane answers.
//!
//! Invariant: a snapshot is used only if its MAC holds under a key of this workload on this boot of this host, and if the control plane had
//! been heard no longer than `maxStale` ago, by the wall clock and by the one since boot: setting the wall clock back wins no time.
//!
//! While nothing changes, only a [`Hearing`] is rewritten beside the snapshot: a few bytes, whatever the view weighs.

use std::borrow::Cow;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use weft_daemon::since_boot;
use zeroize::Zeroizing;

/// The view as it was received: protobuf bytes, so that reading it again is the same conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot<'a> {
    /// When the control plane was last heard.
    pub heard: Moment,
    pub written: Moment,
    pub revision: u64,
    pub resources: Vec<Stored<'a>>,
}

/// A later hearing of the control plane than a snapshot tells of. It says nothing about any other snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hearing {
    pub heard: Moment,
    pub written: Moment,
    pub of: Seal,
}

/// A snapshot's MAC, which names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal([u8; MAC_BYTES]);

/// One moment by two clocks: the wall's, which somebody may set, and the one since boot, which only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    pub wall: Timestamp,
    pub since_boot: Duration,
}

/// One resource, readable or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored<'a> {
    pub type_url: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub version: Cow<'a, str>,
    #[serde(with = "base64_bytes")]
    pub value: Cow<'a, [u8]>,
}

/// The key of the MAC. It cannot be had without the SVID's private key, and not for another host or boot.
#[derive(Clone)]
pub(crate) struct MacKey(Zeroizing<[u8; 32]>);

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SnapshotError {
    #[error("the snapshot is not whole")]
    Format,
    #[error("the snapshot was edited, or written by another workload, host or boot")]
    Mac,
    #[error("the control plane was last heard at {heard_at}, longer ago than maxStale")]
    TooOld { heard_at: Timestamp },
    #[error("the snapshot was written at {written_at}, which is in the future")]
    Future { written_at: Timestamp },
}

impl MacKey {
    pub(crate) fn derive(private_key: &[u8], boot: &str, host: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, private_key);
        let mut context = hmac::Context::with_key(&key);
        for part in [PURPOSE, boot, host] {
            // The length keeps two parts from being read as other two.
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part.as_bytes());
        }
        Self(Zeroizing::new(bytes_of(&context.sign())))
    }

    /// The key of hearings: one kind of file is never taken for the other.
    fn of_hearings(&self) -> Self {
        let tag = hmac::sign(&self.hmac(), HEARINGS.as_bytes());
        Self(Zeroizing::new(bytes_of(&tag)))
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(*self.0))
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice())
    }

    /// A file's content: the MAC of what follows, then what follows.
    fn seal(&self, value: &impl Serialize) -> (Vec<u8>, Seal) {
        let mut content = vec![0; MAC_BYTES];
        // A struct of strings, numbers and times always becomes JSON.
        let _ = serde_json::to_writer(&mut content, value);
        let (place, body) = content.split_at_mut(MAC_BYTES);
        let mac = bytes_of(&hmac::sign(&self.hmac(), body));
        place.copy_from_slice(&mac);
        (content, Seal(mac))
    }
}

/// What [`MacKey::seal`] wrote under one of these keys, and its seal.
fn unseal<'a>(content: &'a [u8], keys: &[MacKey]) -> Result<(&'a [u8], Seal), SnapshotError> {
    let (mac, body) = content
        .split_first_chunk::<MAC_BYTES>()
        .ok_or(SnapshotError::Format)?;
    if !keys
        .iter()
        .any(|key| hmac::verify(&key.hmac(), body, mac).is_ok())
    {
        return Err(SnapshotError::Mac);
    }
    Ok((body, Seal(*mac)))
}

fn bytes_of(tag: &hmac::Tag) -> [u8; MAC_BYTES] {
    let mut bytes = [0; MAC_BYTES];
    bytes
        .iter_mut()
        .zip(tag.as_ref())
        .for_each(|(to, from)| *to = *from);
    bytes
}

impl Hearing {
    pub(crate) fn seal(&self, key: &MacKey) -> Vec<u8> {
        key.of_hearings().seal(self).0
    }

    fn open(content: &[u8], keys: &[MacKey]) -> Result<Self, SnapshotError> {
        let keys: Vec<MacKey> = keys.iter().map(MacKey::of_hearings).collect();
        let (body, _) = unseal(content, &keys)?;
        serde_json::from_slice(body).map_err(|_| SnapshotError::Format)
    }
}

impl Snapshot<'_> {
    /// The file's content, and what a [`Hearing`] of this snapshot names it by.
    pub(crate) fn seal(&self, key: &MacKey) -> (Vec<u8>, Seal) {
        key.seal(self)
    }

    /// Reads what [`Snapshot::seal`] wrote under one of these keys, and what was heard later. A hearing that was edited refuses the
    /// snapshot; one of an earlier snapshot, left behind by a crash, is as good as none.
    pub(crate) fn open(
        content: &[u8],
        hearing: Option<&[u8]>,
        keys: &[MacKey],
    ) -> Result<Self, SnapshotError> {
        let (body, seal) = unseal(content, keys)?;
        let mut snapshot: Self = serde_json::from_slice(body).map_err(|_| SnapshotError::Format)?;
        let hearing = hearing
            .map(|content| Hearing::open(content, keys))
            .transpose()?;
        if let Some(later) = hearing.filter(|hearing| hearing.of == seal) {
            snapshot.heard = later.heard;
            snapshot.written = later.written;
        }
        Ok(snapshot)
    }

    pub(crate) fn check_age(&self, max_stale: Duration, now: Moment) -> Result<(), SnapshotError> {
        let is_ahead = self.written.wall.duration_since(now.wall) > CLOCK_SKEW;
        if is_ahead || self.written.since_boot > now.since_boot {
            return Err(SnapshotError::Future {
                written_at: self.written.wall,
            });
        }
        if self.heard.is_stale(max_stale, now) {
            return Err(SnapshotError::TooOld {
                heard_at: self.heard.wall,
            });
        }
        Ok(())
    }
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            since_boot: since_boot(),
        }
    }

    /// Whether the control plane, heard at this moment, was heard too long ago by either clock.
    pub(crate) fn is_stale(&self, max_stale: Duration, now: Self) -> bool {
        self.silence(now) > max_stale
    }

    /// How long ago this was, by the clock that says longer.
    pub(crate) fn silence(&self, now: Self) -> Duration {
        // A wall clock that was set back says less than nothing.
        let by_wall = Duration::try_from(now.wall.duration_since(self.wall)).unwrap_or_default();
        by_wall.max(now.since_boot.saturating_sub(self.since_boot))
    }
}

mod base64_bytes {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'static, [u8]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64
            .decode(text)
            .map(Cow::Owned)
            .map_err(D::Error::custom)
    }
}

const PURPOSE: &str = "weft snapshot mac v1";
const HEARINGS: &str = "weft hearing mac v1";
const MAC_BYTES: usize = 32;
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

#[cfg(test)]
mod tests;
