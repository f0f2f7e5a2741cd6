//! Join tokens: bound to one identity, short-lived, and kept as a hash. The first use binds the key; only that key may retry.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_identity::{JoinToken, SpiffeId};

use crate::prune::Ends;
use crate::store::{Rows, StoreError, Table, WriteTx, record};

/// What a join token grants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredToken {
    /// SHA-256 of the secret.
    hash: [u8; 32],
    pub(crate) identity: SpiffeId,
    pub(crate) expires: Timestamp,
    used: Option<Used>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Used {
    key_fingerprint: [u8; 32],
    lineage: String,
}

/// What presenting a token comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redemption {
    /// Issue, and [`bind`] it.
    First {
        identity: SpiffeId,
    },
    /// The same key again: answer as before.
    Retry {
        lineage: String,
    },
    Refused(TokenRefusal),
}

/// For the audit record only: an answer never says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    #[error("the token is unknown")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error("the token was used with another key")]
    OtherKey,
    #[error("the token is bound to another identity")]
    OtherIdentity,
}

pub(crate) fn create(
    tx: &mut WriteTx<'_>,
    token: &JoinToken,
    identity: SpiffeId,
    expires: Timestamp,
) -> Result<(), StoreError> {
    let stored = StoredToken {
        hash: token.hash(),
        identity,
        expires,
        used: None,
    };
    tx.put_record(Table::Tokens, row(&stored.hash), &stored)
}

/// Judges a token; changes nothing.
pub(crate) fn redeem(
    rows: &impl Rows,
    token: &JoinToken,
    expected: &SpiffeId,
    key_fingerprint: &[u8; 32],
    now: Timestamp,
) -> Result<Redemption, StoreError> {
    let hash = token.hash();
    let refused = |why| Ok(Redemption::Refused(why));
    let Some(stored) = record::<StoredToken>(rows, Table::Tokens, row(&hash))? else {
        return refused(TokenRefusal::Unknown);
    };
    // The row was found by a part of the hash; the whole is compared in constant time.
    if !is_equal(&stored.hash, &hash) {
        return refused(TokenRefusal::Unknown);
    }
    if now >= stored.expires {
        return refused(TokenRefusal::Expired);
    }
    if stored.identity != *expected {
        return refused(TokenRefusal::OtherIdentity);
    }
    match stored.used {
        None => Ok(Redemption::First {
            identity: stored.identity,
        }),
        Some(used) if is_equal(&used.key_fingerprint, key_fingerprint) => Ok(Redemption::Retry {
            lineage: used.lineage,
        }),
        Some(_) => refused(TokenRefusal::OtherKey),
    }
}

/// From now on the token is this key's.
pub(crate) fn bind(
    tx: &mut WriteTx<'_>,
    token: &JoinToken,
    key_fingerprint: [u8; 32],
    lineage: &str,
) -> Result<(), StoreError> {
    let hash = token.hash();
    let Some(mut stored) = tx.record::<StoredToken>(Table::Tokens, row(&hash))? else {
        return Ok(());
    };
    stored.used = Some(Used {
        key_fingerprint,
        lineage: lineage.to_owned(),
    });
    tx.put_record(Table::Tokens, row(&hash), &stored)
}

impl Ends for StoredToken {
    const TABLE: Table = Table::Tokens;

    fn has_ended(&self, now: Timestamp) -> bool {
        self.expires < now
    }
}

fn row(hash: &[u8; 32]) -> &[u8] {
    &hash[..ROW_BYTES]
}

fn is_equal(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

const ROW_BYTES: usize = 16;
/// The longest and the default life of a token.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(600);
