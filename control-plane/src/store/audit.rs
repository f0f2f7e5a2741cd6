//! The audit record: appended to in the transaction that it tells of, bounded in number, age and words.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use weft_wire::v1;

use super::records::AuditEntry;
use super::rows::{self, Rows, number};
use super::tables::{META_AUDIT_COUNT, META_AUDIT_DROPPED, META_AUDIT_NEXT, Table};
use super::transaction::PRUNED_AT_ONCE;
use super::{StoreError, WriteTx};

impl WriteTx<'_> {
    /// Appends to the audit record, dropping the oldest beyond its cap.
    pub fn audit(&mut self, entry: AuditEntry) -> Result<u64, StoreError> {
        let sequence = number(self, META_AUDIT_NEXT)?.max(1);
        let record = v1::AuditRecord {
            sequence,
            time: Some(protobuf_time(entry.time)),
            actor: bounded(entry.actor),
            action: entry.action.to_owned(),
            subject: bounded(entry.subject),
            outcome: entry.outcome.as_str().to_owned(),
            detail: bounded(entry.detail),
            revision: self.revision - u64::from(self.changes.is_empty()),
        };
        self.put_message(Table::Audit, &sequence.to_be_bytes(), &record);
        self.put_number(META_AUDIT_NEXT, sequence + 1);
        let count = number(self, META_AUDIT_COUNT)? + 1;
        self.put_number(META_AUDIT_COUNT, count);
        self.drop_audit(count.saturating_sub(AUDIT_RECORDS))?;
        Ok(sequence)
    }

    fn drop_audit(&mut self, surplus: u64) -> Result<(), StoreError> {
        let surplus_rows = usize::try_from(surplus).unwrap_or(usize::MAX);
        if surplus_rows == 0 {
            return Ok(());
        }
        let oldest = self.rows(Table::Audit, Bound::Unbounded, surplus_rows)?;
        for (key, _) in &oldest {
            self.delete(Table::Audit, key);
        }
        let dropped = u64::try_from(oldest.len()).unwrap_or(u64::MAX);
        let count = number(self, META_AUDIT_COUNT)?.saturating_sub(dropped);
        self.put_number(META_AUDIT_COUNT, count);
        let total = number(self, META_AUDIT_DROPPED)?.saturating_add(dropped);
        self.put_number(META_AUDIT_DROPPED, total);
        Ok(())
    }

    /// Drops audit records past their age.
    pub(crate) fn prune_audit(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let oldest = self.rows(Table::Audit, Bound::Unbounded, PRUNED_AT_ONCE)?;
        let mut old = 0;
        for (key, value) in &oldest {
            let record: v1::AuditRecord = rows::decode(Table::Audit, key, value)?;
            let seconds = record.time.map_or(0, |time| time.seconds);
            if seconds >= now.as_second().saturating_sub(AUDIT_AGE.as_secs()) {
                break;
            }
            old += 1;
        }
        self.drop_audit(old)
    }
}

fn protobuf_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// A peer chooses some of what is audited; it does not choose how much.
fn bounded(mut text: String) -> String {
    if text.len() > AUDIT_FIELD_BYTES {
        let mut end = AUDIT_FIELD_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// Most audit records kept.
const AUDIT_RECORDS: u64 = if cfg!(test) { 64 } else { 100_000 };
/// How long an audit record is kept.
const AUDIT_AGE: SignedDuration = SignedDuration::from_hours(24 * 90);
const AUDIT_FIELD_BYTES: usize = 1024;
