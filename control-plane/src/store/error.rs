//! Why the store could not do what was asked.

use std::sync::Arc;

/// Cheap to clone: one failed commit answers everyone who was part of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store")]
    Open(#[source] Arc<redb::DatabaseError>),
    #[error("the store's storage failed")]
    Storage(#[source] Arc<redb::Error>),
    #[error("cannot start the store's writer")]
    Thread(#[source] Arc<std::io::Error>),
    #[error(
        "the store was written by a newer version (its {what} is {found}, this program understands up to \
         {supported}): run that version, or restore a backup made by this one"
    )]
    Newer {
        what: &'static str,
        found: u32,
        supported: u32,
    },
    #[error("the store's record {key} in {table} cannot be read: {problem}")]
    Corrupt {
        table: &'static str,
        key: String,
        problem: String,
    },
    #[error("a resource without a kind or name cannot be stored")]
    Unnamed,
    #[error("the store has stopped")]
    Stopped,
}

impl StoreError {
    pub(crate) fn open(error: redb::DatabaseError) -> Self {
        Self::Open(Arc::new(error))
    }

    pub(crate) fn thread(error: std::io::Error) -> Self {
        Self::Thread(Arc::new(error))
    }

    pub(crate) fn corrupt(
        table: super::Table,
        key: &[u8],
        problem: &impl std::fmt::Display,
    ) -> Self {
        Self::Corrupt {
            table: table.name(),
            key: String::from_utf8_lossy(key).into_owned(),
            problem: problem.to_string(),
        }
    }
}

/// Every error of redb that is not about opening.
macro_rules! storage_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Storage(Arc::new(redb::Error::from(error)))
            }
        }
    )*};
}

storage_errors!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);
