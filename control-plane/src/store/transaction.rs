//! Writing: what one transaction may do.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use prost::Message;
use redb::{ReadableTable, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_wire::v1;

use super::StoreError;
use super::records::{OwnedEndpoints, Revocation, RevocationTarget, StoredEndpoints};
use super::rows::{self, Row, Rows};
use super::tables::{CA_BUNDLE, Table};
use super::watch::StoreChange;

/// One transaction. Its writes are seen by its own reads at once and by everyone else when it is durable.
pub struct WriteTx<'a> {
    database: &'a WriteTransaction,
    pub(super) revision: u64,
    pending: Pending,
    pub(super) changes: Vec<StoreChange>,
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

    pub(super) fn finish(mut self) -> Result<(Pending, Vec<StoreChange>), StoreError> {
        if self.pending.0.contains_key(&Table::Audit) {
            self.drop_surplus_audit()?;
        }
        Ok((self.pending, self.changes))
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

    pub(super) fn put_message(&mut self, table: Table, key: &[u8], message: &impl Message) {
        self.put(table, key, message.encode_to_vec());
    }

    pub(super) fn put_number(&mut self, key: &[u8], number: u64) {
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
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

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
        Spec::NamespaceSettings(_) => "NamespaceSettings",
    };
    (!metadata.name.is_empty()).then(|| v1::ResourceKey {
        kind: kind.to_owned(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    })
}

/// Most rows that one transaction prunes.
pub(super) const PRUNED_AT_ONCE: usize = 1000;
