//! The tables, and the versions that are written from day one.
//!
//! Every table maps bytes to bytes; what they mean is said by the typed functions on [`super::rows::Rows`] and
//! [`super::WriteTx`]. `FORMAT` changes when the layout of tables or keys does, `SCHEMA` when a record's does.

use redb::{Database, ReadableTable, TableDefinition};

use super::StoreError;

/// One table of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Versions, the revision and counters.
    Meta,
    /// `kind/namespace/name` → `v1.Resource`.
    Resources,
    /// `owner`, NUL, `instance` → the endpoints that this sidecar offers.
    Endpoints,
    /// Hash of a join token → what it grants.
    Tokens,
    /// Lineage id → its state.
    Lineages,
    /// Hex serial → the lineage it belongs to.
    Serials,
    /// `identity/…`, `lineage/…` or `serial/…` → why it is revoked.
    Revocations,
    /// Sequence → `v1.AuditRecord`.
    Audit,
    /// Sequences of the records in `Audit` that are routine → nothing.
    AuditRoutine,
    /// Decision id → `v1.Decision`.
    Decisions,
    /// Order of arrival → time of arrival and decision id.
    DecisionOrder,
    /// Reporter → how many of its decisions are kept; reporter, NUL, order of arrival → decision id.
    DecisionReporters,
    /// Hour, hash of the reporter, hash of the flow → `v1.Flow`.
    Flows,
    /// Hour, reporter → how many of its flows are kept, and what was lost.
    FlowReporters,
    /// Reporter, NUL, run of its process → the last report that was taken.
    FlowRuns,
    /// The sealed root and the trust bundle.
    Ca,
}

impl Table {
    pub(crate) const ALL: [Table; 16] = [
        Table::Meta,
        Table::Resources,
        Table::Endpoints,
        Table::Tokens,
        Table::Lineages,
        Table::Serials,
        Table::Revocations,
        Table::Audit,
        Table::AuditRoutine,
        Table::Decisions,
        Table::DecisionOrder,
        Table::DecisionReporters,
        Table::Flows,
        Table::FlowReporters,
        Table::FlowRuns,
        Table::Ca,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Resources => "resources",
            Table::Endpoints => "endpoints",
            Table::Tokens => "tokens",
            Table::Lineages => "lineages",
            Table::Serials => "serials",
            Table::Revocations => "revocations",
            Table::Audit => "audit",
            Table::AuditRoutine => "audit-routine",
            Table::Decisions => "decisions",
            Table::DecisionOrder => "decision-order",
            Table::DecisionReporters => "decision-reporters",
            Table::Flows => "flows",
            Table::FlowReporters => "flow-reporters",
            Table::FlowRuns => "flow-runs",
            Table::Ca => "ca",
        }
    }

    pub(crate) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// Makes every table, writes or checks the versions, and answers the current revision.
pub(super) fn prepare(database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_write()?;
    let revision = {
        for table in Table::ALL {
            transaction.open_table(table.definition())?;
        }
        let mut meta = transaction.open_table(Table::Meta.definition())?;
        for (key, what, supported) in [
            (META_FORMAT, "format", FORMAT),
            (META_SCHEMA, "schema", SCHEMA),
        ] {
            let found = match meta.get(key)? {
                Some(found) => Some(read_number(key, found.value())?),
                None => None,
            };
            match found.map(u32::try_from) {
                Some(Ok(found)) if found <= supported => (),
                Some(found) => {
                    return Err(StoreError::Newer {
                        what,
                        found: found.unwrap_or(u32::MAX),
                        supported,
                    });
                }
                None => {
                    meta.insert(key, u64::from(supported).to_be_bytes().as_slice())?;
                }
            }
        }
        match meta.get(META_REVISION)? {
            Some(revision) => read_number(META_REVISION, revision.value())?,
            None => 0,
        }
    };
    transaction.commit()?;
    Ok(revision)
}

pub(super) fn read_number(key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
    let bytes = <[u8; 8]>::try_from(value)
        .map_err(|_| StoreError::corrupt(Table::Meta, key, &"not a number"))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) const META_REVISION: &[u8] = b"revision";
pub(super) const META_AUDIT_NEXT: &[u8] = b"audit-next";
pub(super) const META_AUDIT_COUNT: &[u8] = b"audit-count";
pub(super) const META_AUDIT_ROUTINE: &[u8] = b"audit-routine";
pub(super) const META_AUDIT_DROPPED: &[u8] = b"audit-dropped";
pub(super) const META_DECISION_NEXT: &[u8] = b"decision-next";
pub(super) const META_DECISION_COUNT: &[u8] = b"decision-count";
pub(super) const META_FLOW_COUNT: &[u8] = b"flow-count";
pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_SCHEMA: &[u8] = b"schema";

pub(super) const CA_BUNDLE: &[u8] = b"bundle";

/// Layout of tables and keys.
pub(super) const FORMAT: u32 = 1;
/// Meaning of the records.
pub const SCHEMA: u32 = 1;
