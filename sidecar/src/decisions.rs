//! Refusals, counted and reported. Equal refusals share one id, so that a peer that knocks a million times costs one entry.
//!
//! Invariant: nothing that a peer does makes this table, or what is sent from it, grow past its limits; what did not fit is counted.

mod id;
mod told;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use weft_identity::{ServiceName, ServicePort, SpiffeId};
use weft_policy::Reason;
use weft_wire::v1;

pub use self::id::DecisionId;
use self::told::{bounded, folded};
use crate::control_plane::ControlPlane;
use crate::enforce::Side;
use crate::metrics::{Metrics, ReasonLabel};

/// One refusal, as the place that refused knows it.
#[derive(Debug, Clone)]
pub struct Refused<'a> {
    pub side: Side,
    pub source: Peer<'a>,
    /// `namespace/service`, as far as it is known.
    pub service: &'a str,
    pub port: &'a str,
    /// HTTP only; else empty.
    pub method: &'a str,
    /// As on the wire; folded here.
    pub path: &'a str,
    pub host: &'a str,
    /// What the request asked to become.
    pub upgrade: &'a str,
    pub reason: Reason,
    /// The revision that was enforced.
    pub revision: u64,
    pub detail: &'a str,
}

/// Who was refused.
#[derive(Debug, Clone, Copy)]
pub enum Peer<'a> {
    Verified(&'a SpiffeId),
    /// Counted per address.
    Unauthenticated(IpAddr),
}

/// The table of refusals; clones share it.
#[derive(Clone)]
pub struct Decisions {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    news: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// Oldest first: what leaves when there is no room.
    order: VecDeque<Key>,
    unauthenticated: usize,
    logged: Logged,
}

/// How many refusals were logged in the second that began then: a peer that makes every one differ must not fill a disk.
#[derive(Default)]
struct Logged {
    second: i64,
    count: usize,
}

impl Logged {
    fn takes_one(&mut self, now: Timestamp) -> bool {
        if self.second != now.as_second() {
            *self = Self {
                second: now.as_second(),
                count: 0,
            };
        }
        self.count += 1;
        self.count <= LOGGED_PER_SECOND
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    side: Side,
    source: Source,
    service: Box<str>,
    port: Box<str>,
    method: Box<str>,
    path: Box<str>,
    upgrade: Box<str>,
    reason: Reason,
    revision: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Verified(SpiffeId),
    Unauthenticated(IpAddr),
}

struct Entry {
    id: DecisionId,
    count: u64,
    reported: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    host: Box<str>,
    detail: Box<str>,
}

impl Decisions {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                table: Mutex::default(),
                news: Notify::new(),
                metrics,
            }),
        }
    }

    /// Counts a refusal and names it. Never waits for anything but another count.
    pub fn refuse(&self, refused: &Refused<'_>) -> DecisionId {
        self.shared
            .metrics
            .refusals
            .get_or_create(&ReasonLabel::of(refused.reason))
            .inc();
        let now = Timestamp::now();
        let key = Key::of(refused);
        let mut table = self.table();
        if let Some(entry) = table.entries.get_mut(&key) {
            entry.count = entry.count.saturating_add(1);
            entry.last_seen = now;
            let id = entry.id;
            drop(table);
            self.shared.news.notify_one();
            return id;
        }
        let dropped = table.make_room(&key);
        let id = DecisionId::new(now);
        table.insert(key, Entry::first(id, refused, now));
        let is_told = table.logged.takes_one(now);
        drop(table);
        if is_told {
            log(id, refused);
        }
        self.shared.metrics.decisions_dropped.inc_by(dropped);
        self.shared.news.notify_one();
        id
    }

    /// The sidecar at the other end refused a connection and named its decision: said in this log too, at the same bounded rate.
    pub fn told_by_peer(&self, decision: DecisionId, target: &ServicePort) {
        self.shared.metrics.refused_by_peer.inc();
        if self.table().logged.takes_one(Timestamp::now()) {
            tracing::info!(%decision, side = "server", %target, "refused by the peer's sidecar");
        }
    }

    /// What has changed since it was last reported, at most one report's worth.
    fn unreported(&self, instance: &str) -> Vec<(Key, u64, v1::Decision)> {
        let table = self.table();
        let changed = table
            .entries
            .iter()
            .filter(|(_, entry)| entry.count > entry.reported);
        changed
            .take(REPORT_LIMIT)
            .map(|(key, entry)| (key.clone(), entry.count, message(key, entry, instance)))
            .collect()
    }

    fn mark_reported(&self, reported: Vec<(Key, u64)>) {
        let mut table = self.table();
        for (key, count) in reported {
            if let Some(entry) = table.entries.get_mut(&key) {
                entry.reported = entry.reported.max(count);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is whole before it can panic.
        self.shared
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(decision: DecisionId, refused: &Refused<'_>) {
    let side = match refused.side {
        Side::Client => "client",
        Side::Server => "server",
    };
    let source = match refused.source {
        Peer::Verified(id) => id.to_string(),
        Peer::Unauthenticated(address) => address.to_string(),
    };
    tracing::info!(
        %decision,
        side,
        source,
        service = %refused.service.escape_debug(),
        port = %refused.port.escape_debug(),
        reason = refused.reason.as_str(),
        detail = %refused.detail.escape_debug(),
        "refused"
    );
}

/// Sends what is new to the control plane, in batches, until it drains.
pub(crate) async fn report(
    decisions: Decisions,
    control_plane: ControlPlane,
    instance: String,
) -> Result<(), tonic::Status> {
    loop {
        let batch = decisions.unreported(&instance);
        if batch.is_empty() {
            decisions.shared.news.notified().await;
            // Equal refusals come in swarms: a short wait makes one message of them.
            tokio::time::sleep(GATHER).await;
            continue;
        }
        let (sent, messages): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|(key, count, message)| ((key, count), message))
            .unzip();
        let request = v1::ReportDecisionsRequest {
            decisions: messages,
        };
        let mut client = v1::decisions_client::DecisionsClient::new(control_plane.channel());
        let answer = tokio::time::timeout(REPORT_TIMEOUT, client.report(request)).await;
        match answer {
            Ok(Ok(_)) => decisions.mark_reported(sent),
            Ok(Err(status)) => return Err(status),
            Err(_) => {
                return Err(tonic::Status::deadline_exceeded(
                    "the report of decisions was not answered",
                ));
            }
        }
        tokio::time::sleep(BETWEEN_REPORTS).await;
    }
}

impl Table {
    /// Frees a place for this key; returns how many unreported refusals were forgotten.
    fn make_room(&mut self, key: &Key) -> u64 {
        let of_strangers = matches!(key.source, Source::Unauthenticated(_));
        let full_of_strangers = of_strangers && self.unauthenticated >= UNAUTHENTICATED_LIMIT;
        if self.entries.len() < TABLE_LIMIT && !full_of_strangers {
            return 0;
        }
        // Strangers push out strangers, so that their flood does not hide what workloads were refused.
        let oldest = self
            .order
            .iter()
            .position(|old| !full_of_strangers || matches!(old.source, Source::Unauthenticated(_)));
        let Some(oldest) = oldest.and_then(|at| self.order.remove(at)) else {
            return 0;
        };
        if matches!(oldest.source, Source::Unauthenticated(_)) {
            self.unauthenticated = self.unauthenticated.saturating_sub(1);
        }
        self.entries
            .remove(&oldest)
            .map_or(0, |entry| entry.count.saturating_sub(entry.reported))
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if matches!(key.source, Source::Unauthenticated(_)) {
            self.unauthenticated += 1;
        }
        self.order.push_back(key.clone());
        self.entries.insert(key, entry);
    }
}

impl Key {
    fn of(refused: &Refused<'_>) -> Self {
        let source = match refused.source {
            Peer::Verified(id) => Source::Verified(id.clone()),
            Peer::Unauthenticated(address) => Source::Unauthenticated(address),
        };
        Self {
            side: refused.side,
            source,
            service: bounded(refused.service).into(),
            port: bounded(refused.port).into(),
            method: bounded(refused.method).into(),
            path: folded(refused.path).into(),
            upgrade: bounded(refused.upgrade).into(),
            reason: refused.reason,
            revision: refused.revision,
        }
    }
}

impl Entry {
    fn first(id: DecisionId, refused: &Refused<'_>, now: Timestamp) -> Self {
        Self {
            id,
            count: 1,
            reported: 0,
            first_seen: now,
            last_seen: now,
            host: bounded(refused.host).into(),
            detail: bounded(refused.detail).into(),
        }
    }
}

fn message(key: &Key, entry: &Entry, instance: &str) -> v1::Decision {
    let (source, detail) = match &key.source {
        Source::Verified(id) => (id.to_string(), entry.detail.to_string()),
        Source::Unauthenticated(address) => {
            (String::new(), format!("from {address}: {}", entry.detail))
        }
    };
    // The proxy may be asked for what is no service's name: then the host says what was meant.
    let is_service = key.service.parse::<ServiceName>().is_ok();
    let service = Some(&key.service).filter(|_| is_service);
    v1::Decision {
        id: entry.id.to_string(),
        side: match key.side {
            Side::Client => v1::Side::Client.into(),
            Side::Server => v1::Side::Server.into(),
        },
        source,
        service: service.map(ToString::to_string).unwrap_or_default(),
        port: key.port.to_string(),
        method: key.method.to_string(),
        path: key.path.to_string(),
        upgrade: key.upgrade.to_string(),
        host: entry.host.to_string(),
        reason: v1::Reason::from(key.reason).into(),
        revision: key.revision,
        count: entry.count,
        first_seen: Some(weft_wire::write_timestamp(entry.first_seen)),
        last_seen: Some(weft_wire::write_timestamp(entry.last_seen)),
        reported_by: instance.to_owned(),
        detail,
    }
}

/// New refusals that are logged in one second; all are counted and reported.
const LOGGED_PER_SECOND: usize = 20;
const TABLE_LIMIT: usize = 1024;
const UNAUTHENTICATED_LIMIT: usize = 256;
const REPORT_LIMIT: usize = 256;
const GATHER: Duration = Duration::from_millis(20);
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
