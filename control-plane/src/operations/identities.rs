//! Who has joined, with which lineages, and how each stands.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weft_identity::lineage::State;
use weft_wire::{v1, write_timestamp};

use crate::lineages::{self, StoredLineage};
use crate::store::{Reader, RevocationTarget, StoreError};

/// By SPIFFE ID: who has lineages, and who is revoked.
pub(super) fn identities(
    reader: &Reader,
    now: Timestamp,
) -> Result<BTreeMap<String, v1::Identity>, StoreError> {
    let revoked: BTreeSet<RevocationTarget> = reader
        .revocations()?
        .into_iter()
        .map(|revocation| revocation.target)
        .collect();
    let quarantined = quarantined(reader)?;
    let mut found: BTreeMap<String, v1::Identity> = BTreeMap::new();
    let blank = |id: &str| v1::Identity {
        spiffe_id: id.to_owned(),
        ..Default::default()
    };
    for target in &revoked {
        if let RevocationTarget::Identity(id) = target {
            found.entry(id.clone()).or_insert_with(|| blank(id)).revoked = true;
        }
    }
    for known in lineages::all(reader)? {
        let id = known.lineage.identity();
        let entry = found
            .entry(id.to_string())
            .or_insert_with(|| blank(id.as_str()));
        entry.quarantined = id
            .workload()
            .is_some_and(|name| quarantined.contains(&name.to_string()));
        entry.lineages.push(describe(&known, &revoked, now));
    }
    Ok(found)
}

fn quarantined(reader: &Reader) -> Result<BTreeSet<String>, StoreError> {
    let workload = |resource: v1::Resource| match resource.spec {
        Some(v1::resource::Spec::Quarantine(spec)) => Some(spec.workload),
        _ => None,
    };
    Ok(reader
        .resources()?
        .into_iter()
        .filter_map(workload)
        .collect())
}

fn describe(
    known: &StoredLineage,
    revoked: &BTreeSet<RevocationTarget>,
    now: Timestamp,
) -> v1::Lineage {
    let lineage = &known.lineage;
    let current = lineage.current();
    let issued_at = known
        .certificate(&current.serial)
        .map_or(lineage.begun_at(), |certificate| certificate.issued_at);
    let is_revoked = [
        RevocationTarget::Identity(lineage.identity().to_string()),
        RevocationTarget::Lineage(known.id.clone()),
        RevocationTarget::Serial(current.serial.to_string()),
    ]
    .iter()
    .any(|target| revoked.contains(target));
    let state = match lineage.state() {
        _ if is_revoked => v1::lineage::State::Revoked,
        _ if lineage.ends_at() < now => v1::lineage::State::Expired,
        State::Revoked => v1::lineage::State::Revoked,
        State::Frozen => v1::lineage::State::Frozen,
        State::Active => v1::lineage::State::Active,
    };
    v1::Lineage {
        id: known.id.clone(),
        current_serial: current.serial.to_string(),
        issued_at: Some(write_timestamp(issued_at)),
        expires_at: Some(write_timestamp(current.not_after)),
        issued: known.issued,
        state: state.into(),
        attested_by: known.attested_by.clone(),
    }
}
