//! What is no longer trusted: stored, expanded to what a handshake can check, and told to every live connection.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use weft_identity::{Revocations, Serial, SpiffeId};

use crate::lineages::{self, StoredLineage};
use crate::prune::Ends;
use crate::store::{
    Lagged, Revocation, RevocationTarget, Rows, Store, StoreChange, StoreError, Table, Watch,
    WriteTx, record,
};

/// A revocation that somebody asks for.
pub(crate) struct Wanted {
    pub(crate) target: RevocationTarget,
    pub(crate) reason: String,
    pub(crate) actor: String,
    pub(crate) now: Timestamp,
}

/// Stores it; answers whether that changed anything.
pub(crate) fn revoke(tx: &mut WriteTx<'_>, wanted: Wanted) -> Result<bool, StoreError> {
    if tx.revocation(&wanted.target)?.is_some() {
        return Ok(false);
    }
    let concerned = match &wanted.target {
        RevocationTarget::Identity(_) => Vec::new(),
        RevocationTarget::Lineage(id) => lineages::live_serials(tx, id, wanted.now)?,
        RevocationTarget::Serial(text) => match text.parse::<Serial>() {
            Ok(serial) => lineages::serial(tx, &serial)?.into_iter().collect(),
            Err(_) => Vec::new(),
        },
    };
    let identity = match &wanted.target {
        RevocationTarget::Identity(id) => Some(id.clone()),
        RevocationTarget::Lineage(id) => {
            lineages::by_id(tx, id)?.map(|known| known.lineage.identity().to_string())
        }
        RevocationTarget::Serial(_) => concerned.first().map(|known| known.identity.to_string()),
    };
    let expires = concerned.iter().map(|known| known.not_after).max();
    let mut serials: Vec<_> = concerned
        .iter()
        .map(|known| known.serial.to_string())
        .collect();
    if let (RevocationTarget::Serial(serial), true) = (&wanted.target, serials.is_empty()) {
        serials.push(serial.clone());
    }
    tx.put_revocation(&Revocation {
        target: wanted.target,
        identity,
        serials,
        reason: wanted.reason,
        actor: wanted.actor,
        at: wanted.now,
        expires,
    })?;
    Ok(true)
}

/// Whether this identity may get anything at all.
pub(crate) fn is_identity_revoked(rows: &impl Rows, id: &SpiffeId) -> Result<bool, StoreError> {
    is_stored(rows, &RevocationTarget::Identity(id.to_string()))
}

/// Whether this lineage may go on from this serial.
pub(crate) fn is_lineage_revoked(
    rows: &impl Rows,
    known: &StoredLineage,
    presented: &Serial,
) -> Result<bool, StoreError> {
    Ok(is_identity_revoked(rows, known.lineage.identity())?
        || is_stored(rows, &RevocationTarget::Lineage(known.id.clone()))?
        || is_stored(rows, &RevocationTarget::Serial(presented.to_string()))?)
}

pub(crate) fn is_stored(rows: &impl Rows, target: &RevocationTarget) -> Result<bool, StoreError> {
    let found: Option<Revocation> = record(rows, Table::Revocations, target.key().as_bytes())?;
    Ok(found.is_some())
}

/// It has ended when every serial has expired, by the clocks of peers too.
impl Ends for Revocation {
    const TABLE: Table = Table::Revocations;

    fn has_ended(&self, now: Timestamp) -> bool {
        self.expires
            .is_some_and(|expires| now.duration_since(expires) > KEPT_AFTER)
    }

    fn forget(&self, tx: &mut WriteTx<'_>, _: &[u8]) -> Result<(), StoreError> {
        tx.delete_revocation(&self.target).map(drop)
    }
}

/// The current revocations of this process's own handshakes and connections.
#[derive(Clone)]
pub(crate) struct Distrust {
    current: watch::Receiver<Arc<Revocations>>,
    used: mpsc::Sender<Serial>,
}

/// Keeps [`Distrust`] current, and tells lineages of revoked serials that are used nevertheless.
pub(crate) struct Follower {
    store: Store,
    watch: Watch,
    current: watch::Sender<Arc<Revocations>>,
    used: mpsc::Receiver<Serial>,
}

/// Both ends, with what the store holds now.
pub(crate) fn follow(store: &Store) -> Result<(Distrust, Follower), StoreError> {
    let watch = store.watch();
    let (sender, current) = watch::channel(Arc::new(load(store)?));
    let (using, used) = mpsc::channel(USED_AT_ONCE);
    let follower = Follower {
        store: store.clone(),
        watch,
        current: sender,
        used,
    };
    let distrust = Distrust {
        current,
        used: using,
    };
    Ok((distrust, follower))
}

impl Distrust {
    pub(crate) fn load(&self) -> Arc<Revocations> {
        Arc::clone(&self.current.borrow())
    }

    /// Whether this serial is revoked. The caller has seen proof of its key, so its lineage learns of it.
    pub(crate) fn is_refused(&self, proved: Serial) -> bool {
        let is_revoked = self.load().serials.contains(&proved);
        if is_revoked {
            // Whoever is refused comes again, so one that finds no room is not lost.
            let _ = self.used.try_send(proved);
        }
        is_revoked
    }

    /// Resolves when the peer is revoked; at once if it is already.
    pub(crate) async fn revoked(&self, peer: &weft_identity::Verified) {
        let mut current = self.current.clone();
        // The sender ends with the process.
        if current.wait_for(|now| now.is_revoked(peer)).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Follower {
    pub(crate) async fn run(self) -> Result<(), StoreError> {
        // A lineage's write must not delay the news of a revocation.
        tokio::select! {
            ended = follow_commits(&self.store, self.watch, self.current) => ended,
            never = note_uses(&self.store, self.used) => match never {},
        }
    }
}

async fn follow_commits(
    store: &Store,
    mut watch: Watch,
    current: watch::Sender<Arc<Revocations>>,
) -> Result<(), StoreError> {
    loop {
        match watch.next().await {
            Ok(commit) => {
                let concerns_us = commit
                    .changes
                    .iter()
                    .any(|change| matches!(change, StoreChange::Revocations));
                if !concerns_us {
                    continue;
                }
            }
            Err(Lagged::Missed(_)) => (),
            Err(Lagged::Closed) => return Err(StoreError::Stopped),
        }
        current.send_replace(Arc::new(load(store)?));
    }
}

async fn note_uses(store: &Store, mut used: mpsc::Receiver<Serial>) -> Infallible {
    while let Some(serial) = used.recv().await {
        // What a peer presents must not end the process.
        if let Err(error) = lineages::seen_in_use(store, serial).await {
            tracing::error!(%error, "a refused serial's use could not be noted");
        }
    }
    // The senders end with the process.
    std::future::pending().await
}

fn load(store: &Store) -> Result<Revocations, StoreError> {
    let stored = store.read()?.revocations()?;
    let mut identities = HashSet::new();
    let mut serials = HashSet::new();
    for revocation in stored {
        let key = revocation.target.key();
        let corrupt = |problem: &dyn std::fmt::Display| {
            StoreError::corrupt(Table::Revocations, key.as_bytes(), &problem)
        };
        if let RevocationTarget::Identity(id) = &revocation.target {
            identities.insert(id.parse().map_err(|error| corrupt(&error))?);
        }
        for serial in &revocation.serials {
            serials.insert(serial.parse().map_err(|error| corrupt(&error))?);
        }
    }
    Ok(Revocations {
        identities,
        serials,
        quarantined: HashSet::new(),
    })
}

/// Longer than any clock of the mesh should be wrong.
const KEPT_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Refused serials that wait to be told to their lineages.
const USED_AT_ONCE: usize = 64;
