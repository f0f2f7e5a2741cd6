//! Writing: what one transaction may do.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use prost::Message;
use redb::{ReadableTable, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_wire::v1;

use super::StoreError;
use super::records::{AuditEntry, OwnedEndpoints, Revocation, RevocationTarget, StoredEndpoints};
use super::rows::{self, Row, Rows, number};
use super::tables::{
    CA_BUNDLE, META_AUDIT_COUNT, META_AUDIT_DROPPED, META_AUDIT_NEXT, META_DECISION_COUNT,
    META_DECISION_NEXT, Table,
};
use super::watch::StoreChange;

/// One transaction. Its writes are seen by its own reads at once and by everyone else when it is durable.
pub struct WriteTx<'a> {
    database: &'a WriteTransaction,
    revision: u64,
    pending: Pending,
    changes: Vec<StoreChange>,
}

/// Writes that wait for the work to succeed; `None` deletes.
#[derive(Default)]
pub(super) struct Pending(BTreeMap<Table, BTreeMap<Vec<u8>, Option<Vec<u8>>>>);

impl<'a> WriteTx<'a> {
    pub(super) fn new(database: &'a WriteTransaction, revision: u64) -> Self {
        Self {
            database,
            revision,
            pending: Pending::default(),
            changes: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Pending, Vec<StoreChange>) {
        (self.pending, self.changes)
    }

    /// The revision that this transaction gets if it changes watched state.
    pub fn next_revision(&self) -> u64 {
        self.revision
    }

    pub fn resource(&self, key: &v1::ResourceKey) -> Result<Option<v1::Resource>, StoreError> {
        rows::resource(self, key)
    }

    pub fn resources(&self) -> Result<Vec<v1::Resource>, StoreError> {
        rows::resources(self)
    }

    pub fn endpoints(&self) -> Result<Vec<OwnedEndpoints>, StoreError> {
        rows::endpoints(self)
    }

    pub fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        rows::revocations(self)
    }

    pub fn revocation(&self, target: &RevocationTarget) -> Result<Option<Revocation>, StoreError> {
        rows::revocation(self, target)
    }

    /// Stores a resource under its own key, stamped with this transaction's revision; answers what it replaced.
    pub fn put_resource(
        &mut self,
        mut resource: v1::Resource,
    ) -> Result<Option<Arc<v1::Resource>>, StoreError> {
        let key = key_of(&resource).ok_or(StoreError::Unnamed)?;
        let before = self.resource(&key)?.map(Arc::new);
        resource.revision = self.revision;
        let row = rows::resource_key(&key);
        self.put_message(Table::Resources, &row, &resource);
        self.changes.push(StoreChange::Resource {
            key,
            before: before.clone(),
            after: Some(Arc::new(resource)),
        });
        Ok(before)
    }

    /// Answers what was deleted; `None` when there was nothing, which changes nothing.
    pub fn delete_resource(
        &mut self,
        key: &v1::ResourceKey,
    ) -> Result<Option<Arc<v1::Resource>>, StoreError> {
        let Some(before) = self.resource(key)?.map(Arc::new) else {
            return Ok(None);
        };
        self.delete(Table::Resources, &rows::resource_key(key));
        self.changes.push(StoreChange::Resource {
            key: key.clone(),
            before: Some(Arc::clone(&before)),
            after: None,
        });
        Ok(Some(before))
    }

    /// Replaces the endpoints that `owner` offers through `instance`; none deletes the entry. The same set again
    /// changes nothing. Answers whether something is offered elsewhere than before; health alone does not count.
    pub fn put_endpoints(
        &mut self,
        instance: &str,
        owner: &str,
        endpoints: StoredEndpoints,
    ) -> Result<bool, StoreError> {
        let key = rows::endpoints_key(owner, instance);
        let before = match self.row(Table::Endpoints, &key)? {
            Some(value) => Some(rows::decode_endpoints(&key, &value)?),
            None => None,
        };
        let after = (!endpoints.is_empty()).then_some(endpoints);
        if before == after {
            return Ok(false);
        }
        let has_moved = places(before.as_deref()) != places(after.as_deref());
        match &after {
            Some(endpoints) => {
                let list = v1::ListEndpointsResponse {
                    endpoints: endpoints.clone(),
                };
                self.put_message(Table::Endpoints, &key, &list);
            }
            None => self.delete(Table::Endpoints, &key),
        }
        self.changes.push(StoreChange::Endpoints {
            owner: owner.to_owned(),
            instance: instance.to_owned(),
            before: before.map(Arc::new),
            after: after.map(Arc::new),
        });
        Ok(has_moved)
    }

    /// Stores a revocation, replacing an earlier one of the same target.
    pub fn put_revocation(&mut self, revocation: &Revocation) -> Result<(), StoreError> {
        let key = revocation.target.key();
        self.put_record(Table::Revocations, key.as_bytes(), revocation)?;
        self.changes.push(StoreChange::Revocations);
        Ok(())
    }

    /// Answers whether there was one.
    pub fn delete_revocation(&mut self, target: &RevocationTarget) -> Result<bool, StoreError> {
        if self.revocation(target)?.is_none() {
            return Ok(false);
        }
        self.delete(Table::Revocations, target.key().as_bytes());
        self.changes.push(StoreChange::Revocations);
        Ok(true)
    }

    /// Replaces the trusted roots, stamped with this transaction's revision.
    pub fn put_bundle(&mut self, mut bundle: v1::TrustBundle) {
        bundle.revision = self.revision;
        self.put_message(Table::Ca, CA_BUNDLE, &bundle);
        self.changes.push(StoreChange::Bundle);
    }

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

    /// Stores decisions in the order of their arrival and answers how many were taken. One that exists is updated, if
    /// the same sidecar reports it. The oldest go beyond the cap and after the retention.
    pub fn put_decisions(
        &mut self,
        now: Timestamp,
        decisions: Vec<v1::Decision>,
    ) -> Result<u32, StoreError> {
        let mut accepted = 0;
        for decision in decisions {
            let key = decision.id.clone().into_bytes();
            let known: Option<v1::Decision> = rows::message(self, Table::Decisions, &key)?;
            match known {
                Some(known) if known.reported_by != decision.reported_by => continue,
                Some(_) => (),
                None => self.order_decision(now, &decision.id)?,
            }
            self.put_message(Table::Decisions, &key, &decision);
            accepted += 1;
        }
        self.prune_decisions(now)?;
        Ok(accepted)
    }

    fn order_decision(&mut self, now: Timestamp, id: &str) -> Result<(), StoreError> {
        let next = number(self, META_DECISION_NEXT)?;
        let value = rows::decision_order(now, id);
        self.put(Table::DecisionOrder, &next.to_be_bytes(), value);
        self.put_number(META_DECISION_NEXT, next + 1);
        let count = number(self, META_DECISION_COUNT)?;
        self.put_number(META_DECISION_COUNT, count + 1);
        Ok(())
    }

    pub(crate) fn prune_decisions(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let mut count = number(self, META_DECISION_COUNT)?;
        let oldest_kept = now.as_millisecond() - DECISION_AGE.as_secs() * 1000;
        for (key, value) in self.rows(Table::DecisionOrder, Bound::Unbounded, PRUNED_AT_ONCE)? {
            let (arrived, id) = rows::read_decision_order(&value)
                .ok_or_else(|| StoreError::corrupt(Table::DecisionOrder, &key, &"too short"))?;
            if arrived >= oldest_kept && count <= DECISIONS {
                break;
            }
            self.delete(Table::Decisions, id);
            self.delete(Table::DecisionOrder, &key);
            count = count.saturating_sub(1);
        }
        self.put_number(META_DECISION_COUNT, count);
        Ok(())
    }

    pub(crate) fn record<R: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<R>, StoreError> {
        rows::record(self, table, key)
    }

    pub(crate) fn put_record(
        &mut self,
        table: Table,
        key: &[u8],
        record: &impl Serialize,
    ) -> Result<(), StoreError> {
        let value =
            serde_json::to_vec(record).map_err(|error| StoreError::corrupt(table, key, &error))?;
        self.put(table, key, value);
        Ok(())
    }

    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        let rows = self.pending.0.entry(table).or_default();
        rows.insert(key.to_vec(), Some(value));
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        let rows = self.pending.0.entry(table).or_default();
        rows.insert(key.to_vec(), None);
    }

    fn put_message(&mut self, table: Table, key: &[u8], message: &impl Message) {
        self.put(table, key, message.encode_to_vec());
    }

    fn put_number(&mut self, key: &[u8], number: u64) {
        self.put(Table::Meta, key, number.to_be_bytes().to_vec());
    }
}

impl Rows for WriteTx<'_> {
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(pending) = self.pending.0.get(&table).and_then(|rows| rows.get(key)) {
            return Ok(pending.clone());
        }
        let table = self.database.open_table(table.definition())?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn rows(&self, table: Table, from: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let pending = self.pending.0.get(&table);
        // Each pending deletion may hide one stored row.
        let hidden = pending.map_or(0, BTreeMap::len);
        let stored = {
            let table = self.database.open_table(table.definition())?;
            rows::collect(&table, from, limit.saturating_add(hidden))?
        };
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, value) in pending
            .into_iter()
            .flat_map(|rows| rows.range::<[u8], _>((from, Bound::Unbounded)))
        {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

impl Pending {
    pub(super) fn store(self, database: &WriteTransaction) -> Result<(), StoreError> {
        for (table, rows) in self.0 {
            let mut table = database.open_table(table.definition())?;
            for (key, value) in rows {
                match value {
                    Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                    None => table.remove(key.as_slice())?,
                };
            }
        }
        Ok(())
    }
}

/// What is offered where.
fn places(endpoints: Option<&[v1::CatalogEndpoint]>) -> Vec<(&str, &str)> {
    let endpoints = endpoints.unwrap_or_default().iter();
    let mut places: Vec<_> = endpoints
        .map(|endpoint| (endpoint.service.as_str(), endpoint.address.as_str()))
        .collect();
    places.sort_unstable();
    places
}

/// The key of a resource; `None` without a name or a spec.
pub fn key_of(resource: &v1::Resource) -> Option<v1::ResourceKey> {
    use v1::resource::Spec;
    let metadata = resource.metadata.as_ref()?;
    let kind = match resource.spec.as_ref()? {
        Spec::Mesh(_) => "Mesh",
        Spec::Service(_) => "Service",
        Spec::Allow(_) => "Allow",
        Spec::Quarantine(_) => "Quarantine",
    };
    (!metadata.name.is_empty()).then(|| v1::ResourceKey {
        kind: kind.to_owned(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    })
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
/// Most decisions kept.
const DECISIONS: u64 = 20_000;
/// How long a decision is kept.
const DECISION_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Most rows that one transaction prunes.
const PRUNED_AT_ONCE: usize = 1000;
