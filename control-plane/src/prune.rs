//! Forgets what has expired: tokens, serials, lineages and revocations.
//!
//! Looking takes long and happens beside the writer, a page at a time; what is found ended is judged again in the short
//! transaction that deletes it.

mod clocks;

use std::convert::Infallible;
use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::lineages::{StoredLineage, StoredSerial};
use crate::store::{Revocation, Rows, Store, StoreError, Table, WriteTx, read_record};
use crate::tokens::StoredToken;
use clocks::{Clocks, Reading};

/// A record that ends by itself.
pub(crate) trait Ends: DeserializeOwned {
    const TABLE: Table;

    fn has_ended(&self, now: Timestamp) -> bool;

    fn forget(&self, tx: &mut WriteTx<'_>, key: &[u8]) -> Result<(), StoreError> {
        tx.delete(Self::TABLE, key);
        Ok(())
    }
}

/// Looks again and again, for as long as the process lives.
pub(crate) async fn run(store: Store) -> Result<(), Infallible> {
    let mut clocks = Clocks::new(Reading::now());
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        if let Err(error) = look(&store, &mut clocks, Reading::now()).await {
            tracing::error!(%error, "what has expired could not be forgotten");
        }
    }
}

async fn look(store: &Store, clocks: &mut Clocks, now: Reading) -> Result<(), StoreError> {
    if clocks.are_believed(now) {
        all(store, now.wall).await
    } else {
        Ok(())
    }
}

async fn all(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    ended::<StoredToken>(store, now).await?;
    ended::<StoredSerial>(store, now).await?;
    ended::<StoredLineage>(store, now).await?;
    ended::<Revocation>(store, now).await?;
    let write = store.write(move |tx| {
        tx.prune_audit(now)?;
        tx.prune_decisions(now)?;
        tx.prune_flows(now)?;
        tx.prune_flow_runs(now)
    });
    write.await.map(drop)
}

/// Forgets every record of a kind that has ended.
async fn ended<R: Ends>(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let mut last: Option<Vec<u8>> = None;
    loop {
        let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = store.read()?.rows(R::TABLE, from, PAGE)?;
        let mut keys = Vec::new();
        for (key, value) in &page {
            if read_record::<R>(R::TABLE, key, value)?.has_ended(now) {
                keys.push(key.clone());
            }
        }
        if !keys.is_empty() {
            let write = store.write(move |tx| forget::<R>(tx, &keys, now));
            write.await?;
        }
        last = page.into_iter().next_back().map(|(key, _)| key);
        if last.is_none() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Forgets those of these records that have ended by now: what was read before may have been replaced.
fn forget<R: Ends>(
    tx: &mut WriteTx<'_>,
    keys: &[Vec<u8>],
    now: Timestamp,
) -> Result<(), StoreError> {
    for key in keys {
        if let Some(known) = tx.record::<R>(R::TABLE, key)?
            && known.has_ended(now)
        {
            known.forget(tx, key)?;
        }
    }
    Ok(())
}

const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Records that are read, and forgotten, at a time.
const PAGE: usize = 128;

#[cfg(test)]
mod tests;
