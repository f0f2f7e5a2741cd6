//! The audit record: appended to in the transaction that it tells of, bounded in number, age and words.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use weft_wire::v1;

use super::records::{AuditEntry, Outcome};
use super::rows::{self, Rows, number};
use super::tables::{
    META_AUDIT_COUNT, META_AUDIT_DROPPED, META_AUDIT_NEXT, META_AUDIT_ROUTINE, Table,
};
use super::transaction::PRUNED_AT_ONCE;
use super::{StoreError, WriteTx};

impl WriteTx<'_> {
    /// Appends to the audit record. What is beyond its caps goes when the transaction ends.
    pub fn audit(&mut self, entry: AuditEntry) -> Result<u64, StoreError> {
        let sequence = number(self, META_AUDIT_NEXT)?.max(1);
        let is_routine = entry.action == "renew" && entry.outcome == Outcome::Ok;
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
        self.count(META_AUDIT_COUNT, 1)?;
        if is_routine {
            self.put(Table::AuditRoutine, &sequence.to_be_bytes(), Vec::new());
            self.count(META_AUDIT_ROUTINE, 1)?;
        }
        Ok(sequence)
    }

    /// Drops what is beyond the caps: first routine beyond its own, so that it cannot push out what operators did, then the
    /// oldest. Once for a transaction, because each look passes over all that the transaction wrote.
    pub(super) fn drop_surplus_audit(&mut self) -> Result<(), StoreError> {
        let surplus = number(self, META_AUDIT_COUNT)?.saturating_sub(AUDIT_RECORDS);
        let routine = number(self, META_AUDIT_ROUTINE)?.saturating_sub(ROUTINE_RECORDS);
        let routine = routine.min(surplus);
        self.drop_audit(Table::AuditRoutine, routine)?;
        self.drop_audit(Table::Audit, surplus - routine)
    }

    /// Drops the oldest records that have a row in this table.
    fn drop_audit(&mut self, among: Table, surplus: u64) -> Result<(), StoreError> {
        if surplus == 0 {
            return Ok(());
        }
        let rows = usize::try_from(surplus).unwrap_or(usize::MAX);
        let (mut dropped, mut routine) = (0, 0);
        for (key, _) in self.rows(among, Bound::Unbounded, rows)? {
            dropped += i64::from(self.delete_existing(Table::Audit, &key)?);
            routine += i64::from(self.delete_existing(Table::AuditRoutine, &key)?);
        }
        self.count(META_AUDIT_COUNT, -dropped)?;
        self.count(META_AUDIT_ROUTINE, -routine)?;
        self.count(META_AUDIT_DROPPED, dropped)
    }

    fn delete_existing(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        let exists = self.row(table, key)?.is_some();
        if exists {
            self.delete(table, key);
        }
        Ok(exists)
    }

    fn count(&mut self, counter: &[u8], change: i64) -> Result<(), StoreError> {
        let counted = number(self, counter)?.saturating_add_signed(change);
        self.put_number(counter, counted);
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
        self.drop_audit(Table::Audit, old)
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
/// Most records of successful renewals kept while others need the room: workloads make them, all the time.
const ROUTINE_RECORDS: u64 = AUDIT_RECORDS / 2;
/// How long an audit record is kept.
const AUDIT_AGE: SignedDuration = SignedDuration::from_hours(24 * 90);
const AUDIT_FIELD_BYTES: usize = 1024;
