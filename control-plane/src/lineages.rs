//! Lineages as the store keeps them, with the certificates that a retry is answered with, and the index from serials.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use weft_identity::lineage::{Generation, Lineage, ParallelUse, Seen};
use weft_identity::{IssuedSvid, PublicKey, Serial, SpiffeId};

use crate::prune::Ends;
use crate::random;
use crate::store::{AuditEntry, Outcome, Rows, Store, StoreError, Table, WriteTx, record, records};

/// One lineage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredLineage {
    pub(crate) id: String,
    pub(crate) lineage: Lineage,
    /// Number of SVIDs issued.
    pub(crate) issued: u64,
    /// `join_token`.
    pub(crate) attested_by: String,
    /// The newest certificates, oldest first: a retry gets the same again.
    pub(crate) certificates: Vec<Certificate>,
    /// When the newest SVIDs were issued, oldest first.
    #[serde(default)]
    pub(crate) issued_at: Vec<Timestamp>,
}

/// An issued certificate; it holds nothing secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) serial: Serial,
    /// DER.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) issued_at: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// What a serial belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoredSerial {
    pub(crate) serial: Serial,
    pub(crate) lineage: String,
    pub(crate) identity: SpiffeId,
    pub(crate) not_after: Timestamp,
}

impl StoredLineage {
    /// A new lineage with its first SVID; both are stored.
    pub(crate) fn begin(
        tx: &mut WriteTx<'_>,
        identity: &SpiffeId,
        key: &PublicKey,
        issued: &IssuedSvid,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut begun = Self {
            id: random::hex(&random::bytes::<16>()),
            lineage: Lineage::begin(identity.clone(), generation(key, issued), now),
            issued: 0,
            attested_by: JOIN_TOKEN.to_owned(),
            certificates: Vec::new(),
            issued_at: Vec::new(),
        };
        begun.keep(tx, issued, now)?;
        Ok(begun)
    }

    /// Another SVID of this lineage; both are stored.
    pub(crate) fn go_on(
        &mut self,
        tx: &mut WriteTx<'_>,
        key: &PublicKey,
        issued: &IssuedSvid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.lineage.issued(generation(key, issued));
        self.keep(tx, issued, now)
    }

    fn keep(
        &mut self,
        tx: &mut WriteTx<'_>,
        issued: &IssuedSvid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.issued += 1;
        if self.issued_at.len() >= BURST {
            self.issued_at.remove(0);
        }
        self.issued_at.push(now);
        self.certificates.push(Certificate {
            serial: issued.serial.clone(),
            chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            issued_at: now,
            not_after: issued.not_after,
        });
        if self.certificates.len() > KEPT_CERTIFICATES {
            self.certificates.remove(0);
        }
        let serial = StoredSerial {
            serial: issued.serial.clone(),
            lineage: self.id.clone(),
            identity: self.lineage.identity().clone(),
            not_after: issued.not_after,
        };
        tx.put_record(
            Table::Serials,
            issued.serial.to_string().as_bytes(),
            &serial,
        )?;
        self.store(tx)
    }

    pub(crate) fn store(&self, tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
        tx.put_record(Table::Lineages, self.id.as_bytes(), self)
    }

    /// Whether it had so many SVIDs issued just now that it has to wait for the next. Each is rows in the store and a record of
    /// the audit, and its holder decides when to ask.
    pub(crate) fn is_hasty(&self, renew_every: Duration, now: Timestamp) -> bool {
        let window = SignedDuration::try_from(renew_every.min(BURST_WINDOW));
        let window = window.unwrap_or(SignedDuration::MAX);
        // A time in the future is of a clock that was set back since.
        let is_recent = |at: &&Timestamp| **at <= now && now.duration_since(**at) < window;
        self.issued_at.iter().filter(is_recent).count() >= BURST
    }

    /// Stores that it froze, and records by which serial and action.
    pub(crate) fn store_frozen(
        &self,
        tx: &mut WriteTx<'_>,
        presented: &Serial,
        action: &'static str,
        why: ParallelUse,
    ) -> Result<(), StoreError> {
        self.store(tx)?;
        let identity = self.lineage.identity().to_string();
        tracing::error!(%identity, lineage = %self.id, serial = %presented, %why, "a lineage was frozen: its key has two holders");
        let entry = AuditEntry {
            time: Timestamp::now(),
            actor: identity.clone(),
            action,
            subject: identity,
            outcome: Outcome::Refused,
            detail: format!("lineage {} is frozen: serial {presented}: {why}", self.id),
        };
        tx.audit(entry).map(drop)
    }

    pub(crate) fn certificate(&self, serial: &Serial) -> Option<&Certificate> {
        self.certificates
            .iter()
            .find(|certificate| certificate.serial == *serial)
    }
}

impl Certificate {
    pub(crate) fn of(issued: &IssuedSvid, now: Timestamp) -> Self {
        Self {
            serial: issued.serial.clone(),
            chain: issued
                .chain
                .iter()
                .map(|der: &CertificateDer<'_>| der.to_vec())
                .collect(),
            issued_at: now,
            not_after: issued.not_after,
        }
    }
}

fn generation(key: &PublicKey, issued: &IssuedSvid) -> Generation {
    Generation {
        serial: issued.serial.clone(),
        key_fingerprint: key.fingerprint(),
        not_after: issued.not_after,
    }
}

pub(crate) fn by_id(rows: &impl Rows, id: &str) -> Result<Option<StoredLineage>, StoreError> {
    record(rows, Table::Lineages, id.as_bytes())
}

pub(crate) fn serial(
    rows: &impl Rows,
    serial: &Serial,
) -> Result<Option<StoredSerial>, StoreError> {
    record(rows, Table::Serials, serial.to_string().as_bytes())
}

pub(crate) fn by_serial(
    rows: &impl Rows,
    presented: &Serial,
) -> Result<Option<StoredLineage>, StoreError> {
    match serial(rows, presented)? {
        Some(known) => by_id(rows, &known.lineage),
        None => Ok(None),
    }
}

pub(crate) fn all(rows: &impl Rows) -> Result<Vec<StoredLineage>, StoreError> {
    records(rows, Table::Lineages)
}

/// Every serial of a lineage that somebody might still accept.
pub(crate) fn live_serials(
    rows: &impl Rows,
    lineage: &str,
    now: Timestamp,
) -> Result<Vec<StoredSerial>, StoreError> {
    let all: Vec<StoredSerial> = records(rows, Table::Serials)?;
    let is_live = |known: &StoredSerial| known.lineage == lineage && known.not_after > now;
    Ok(all.into_iter().filter(is_live).collect())
}

/// A connection proved this serial's key, and was accepted or not: its lineage moves on if that was its successor's first
/// use, and freezes if another one had taken the serial's place.
pub(crate) async fn seen_in_use(store: &Store, presented: Serial) -> Result<(), StoreError> {
    let seen = match by_serial(&store.read()?, &presented)? {
        Some(mut known) => known.lineage.seen_in_use(&presented),
        None => Seen::NothingNew,
    };
    if seen == Seen::NothingNew {
        return Ok(());
    }
    let write = store.write(move |tx| {
        let Some(mut known) = by_serial(tx, &presented)? else {
            return Ok(());
        };
        match known.lineage.seen_in_use(&presented) {
            Seen::NothingNew => Ok::<_, StoreError>(()),
            Seen::MovedOn => known.store(tx),
            Seen::Frozen(why) => known.store_frozen(tx, &presented, "call", why),
        }
    });
    write.await.map(drop)
}

impl Ends for StoredSerial {
    const TABLE: Table = Table::Serials;

    fn has_ended(&self, now: Timestamp) -> bool {
        self.not_after < now
    }
}

impl Ends for StoredLineage {
    const TABLE: Table = Table::Lineages;

    fn has_ended(&self, now: Timestamp) -> bool {
        self.lineage.ends_at() < now
    }
}

/// The only evidence there is so far.
const JOIN_TOKEN: &str = "join_token";
/// The one in use, its successor, and one more for a late retry.
const KEPT_CERTIFICATES: usize = 3;
/// So many SVIDs may be issued to a lineage within this time, or within one renewal interval if that is shorter.
const BURST: usize = 8;
const BURST_WINDOW: Duration = Duration::from_secs(30);
