//! Reading: the same typed questions to a consistent snapshot and to a transaction under way.

use std::ops::Bound;

use jiff::Timestamp;
use prost::Message;
use redb::{ReadableDatabase, ReadableTable};
use serde::de::DeserializeOwned;
use weft_wire::v1;

use super::records::{OwnedEndpoints, Revocation, StoredEndpoints};
use super::tables::{
    CA_BUNDLE, META_AUDIT_COUNT, META_AUDIT_DROPPED, META_REVISION, Table, read_number,
};
use super::{RevocationTarget, StoreError};

/// Everything at one revision.
pub struct Reader {
    transaction: redb::ReadTransaction,
}

/// A row as stored.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Untyped reading.
pub(crate) trait Rows {
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// At most `limit` rows from `from` on, in the order of their keys.
    fn rows(&self, table: Table, from: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError>;
}

impl Reader {
    pub(super) fn begin(database: &redb::Database) -> Result<Self, StoreError> {
        Ok(Self {
            transaction: database.begin_read()?,
        })
    }

    pub fn revision(&self) -> Result<u64, StoreError> {
        number(self, META_REVISION)
    }

    pub fn resource(&self, key: &v1::ResourceKey) -> Result<Option<v1::Resource>, StoreError> {
        resource(self, key)
    }

    /// In the order of kind, namespace and name.
    pub fn resources(&self) -> Result<Vec<v1::Resource>, StoreError> {
        resources(self)
    }

    pub fn endpoints(&self) -> Result<Vec<OwnedEndpoints>, StoreError> {
        endpoints(self)
    }

    pub fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        revocations(self)
    }

    /// The roots that are trusted; `None` before the CA was made.
    pub fn bundle(&self) -> Result<Option<v1::TrustBundle>, StoreError> {
        message(self, Table::Ca, CA_BUNDLE)
    }

    pub fn decision(&self, id: &str) -> Result<Option<v1::Decision>, StoreError> {
        message(self, Table::Decisions, id.as_bytes())
    }

    /// Records with a greater sequence than `after`, oldest first.
    pub fn audit_after(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<v1::AuditRecord>, StoreError> {
        let from = after.to_be_bytes();
        self.rows(Table::Audit, Bound::Excluded(&from), limit)?
            .into_iter()
            .map(|(key, value)| decode(Table::Audit, &key, &value))
            .collect()
    }

    /// How many audit records are kept.
    pub fn audit_count(&self) -> Result<u64, StoreError> {
        number(self, META_AUDIT_COUNT)
    }

    /// How many audit records were dropped because the record is bounded.
    pub fn audit_dropped(&self) -> Result<u64, StoreError> {
        number(self, META_AUDIT_DROPPED)
    }

    /// The newest `limit` audit records, oldest first.
    pub fn audit_newest(&self, limit: usize) -> Result<Vec<v1::AuditRecord>, StoreError> {
        let table = self.transaction.open_table(Table::Audit.definition())?;
        let mut records = Vec::new();
        for row in table.iter()?.rev().take(limit) {
            let (key, value) = row?;
            records.push(decode(Table::Audit, key.value(), value.value())?);
        }
        records.reverse();
        Ok(records)
    }
}

impl Rows for Reader {
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.transaction.open_table(table.definition())?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn rows(&self, table: Table, from: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let table = self.transaction.open_table(table.definition())?;
        collect(&table, from, limit)
    }
}

pub(super) fn collect(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: Bound<&[u8]>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    for row in table.range::<&[u8]>((from, Bound::Unbounded))?.take(limit) {
        let (key, value) = row?;
        rows.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(rows)
}

pub(crate) fn resource(
    rows: &impl Rows,
    key: &v1::ResourceKey,
) -> Result<Option<v1::Resource>, StoreError> {
    message(rows, Table::Resources, &resource_key(key))
}

pub(crate) fn resources(rows: &impl Rows) -> Result<Vec<v1::Resource>, StoreError> {
    messages(rows, Table::Resources)
}

pub(crate) fn endpoints(rows: &impl Rows) -> Result<Vec<OwnedEndpoints>, StoreError> {
    rows.rows(Table::Endpoints, Bound::Unbounded, usize::MAX)?
        .into_iter()
        .map(|(key, value)| {
            let (owner, instance) = read_endpoints_key(&key)?;
            Ok(OwnedEndpoints {
                owner,
                instance,
                endpoints: decode_endpoints(&key, &value)?,
            })
        })
        .collect()
}

pub(crate) fn revocations(rows: &impl Rows) -> Result<Vec<Revocation>, StoreError> {
    records(rows, Table::Revocations)
}

pub(crate) fn revocation(
    rows: &impl Rows,
    target: &RevocationTarget,
) -> Result<Option<Revocation>, StoreError> {
    record(rows, Table::Revocations, target.key().as_bytes())
}

/// A counter of the meta table; 0 when it was never written.
pub(super) fn number(rows: &impl Rows, key: &[u8]) -> Result<u64, StoreError> {
    match rows.row(Table::Meta, key)? {
        Some(value) => read_number(key, &value),
        None => Ok(0),
    }
}

pub(crate) fn message<M: Message + Default>(
    rows: &impl Rows,
    table: Table,
    key: &[u8],
) -> Result<Option<M>, StoreError> {
    match rows.row(table, key)? {
        Some(value) => decode(table, key, &value).map(Some),
        None => Ok(None),
    }
}

fn messages<M: Message + Default>(rows: &impl Rows, table: Table) -> Result<Vec<M>, StoreError> {
    rows.rows(table, Bound::Unbounded, usize::MAX)?
        .into_iter()
        .map(|(key, value)| decode(table, &key, &value))
        .collect()
}

pub(crate) fn record<R: DeserializeOwned>(
    rows: &impl Rows,
    table: Table,
    key: &[u8],
) -> Result<Option<R>, StoreError> {
    match rows.row(table, key)? {
        Some(value) => read_record(table, key, &value).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn records<R: DeserializeOwned>(
    rows: &impl Rows,
    table: Table,
) -> Result<Vec<R>, StoreError> {
    rows.rows(table, Bound::Unbounded, usize::MAX)?
        .into_iter()
        .map(|(key, value)| read_record(table, &key, &value))
        .collect()
}

pub(crate) fn read_record<R: DeserializeOwned>(
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<R, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::corrupt(table, key, &error))
}

pub(super) fn decode<M: Message + Default>(
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<M, StoreError> {
    M::decode(value).map_err(|error| StoreError::corrupt(table, key, &error))
}

pub(super) fn resource_key(key: &v1::ResourceKey) -> Vec<u8> {
    format!("{}/{}/{}", key.kind, key.namespace, key.name).into_bytes()
}

/// A SPIFFE ID holds no NUL, so the two parts cannot run into each other.
pub(super) fn endpoints_key(owner: &str, instance: &str) -> Vec<u8> {
    [owner.as_bytes(), b"\0", instance.as_bytes()].concat()
}

fn read_endpoints_key(key: &[u8]) -> Result<(String, String), StoreError> {
    std::str::from_utf8(key)
        .ok()
        .and_then(|text| text.split_once('\0'))
        .map(|(owner, instance)| (owner.to_owned(), instance.to_owned()))
        .ok_or_else(|| StoreError::corrupt(Table::Endpoints, key, &"its key has no owner"))
}

pub(super) fn decode_endpoints(key: &[u8], value: &[u8]) -> Result<StoredEndpoints, StoreError> {
    let list: v1::ListEndpointsResponse = decode(Table::Endpoints, key, value)?;
    Ok(list.endpoints)
}

/// The time that a decision arrived, and its id.
pub(super) fn decision_order(arrived: Timestamp, id: &str) -> Vec<u8> {
    [&arrived.as_millisecond().to_be_bytes(), id.as_bytes()].concat()
}

pub(super) fn read_decision_order(value: &[u8]) -> Option<(i64, &[u8])> {
    let (arrived, id) = value.split_at_checked(8)?;
    Some((i64::from_be_bytes(arrived.try_into().ok()?), id))
}
