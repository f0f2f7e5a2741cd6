//! Refusals, counted and reported. Equal refusals share one id, so that a peer that knocks a million times costs one entry.
//!
//! Invariant: nothing that a peer does makes this table, or what is sent from it, grow past its limits; what did not fit is counted.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use weft_identity::{ServiceName, ServicePort, SpiffeId};
use weft_policy::{EncodedSlashes, FoldedPath, Reason};
use weft_wire::v1;

use crate::control_plane::ControlPlane;
use crate::enforce::Side;
use crate::metrics::{Metrics, ReasonLabel};

/// Names a refusal: what its client is told, and what an operator asks with. A ULID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId([u8; 26]);

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

impl DecisionId {
    pub const LENGTH: usize = 26;

    /// `None`: these are not the characters of an id.
    pub fn read(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        bytes
            .iter()
            .all(|byte| CROCKFORD.contains(byte))
            .then_some(Self(bytes))
    }

    fn new(now: Timestamp) -> Self {
        let mut random = [0_u8; 10];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            // The id must only be unlikely to repeat; the time is in it too.
            let fraction = weft_daemon::backoff::random_fraction().to_be_bytes();
            random
                .iter_mut()
                .zip(fraction)
                .for_each(|(to, from)| *to = from);
        }
        Self::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), random)
    }

    /// 48 bits of milliseconds and 80 random bits, five bits a character, most significant first.
    fn from_parts(millis: u64, random: [u8; 10]) -> Self {
        let tail = random
            .iter()
            .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let bits = u128::from(millis & 0xffff_ffff_ffff) << 80 | tail;
        let mut text = [b'0'; 26];
        for (at, character) in text.iter_mut().rev().enumerate() {
            let five = usize::try_from(bits >> (5 * at) & 31).unwrap_or(0);
            *character = CROCKFORD.get(five).copied().unwrap_or(b'0');
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

/// Folded, without its query, and of bounded length. Of a path that is not in canonical form an operator must see why, so of
/// that only those segments go that could be secrets.
fn folded(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let whole = FoldedPath::fold(path, EncodedSlashes::Keep, |_| false);
    if whole.is_not_canonical() {
        without_secrets(path)
    } else {
        whole.to_string()
    }
}

fn without_secrets(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let folded: Vec<&str> = path
        .split('/')
        .take(SEGMENT_LIMIT)
        .map(hide_secret)
        .collect();
    bounded(&folded.join("/")).to_owned()
}

fn hide_secret(segment: &str) -> &str {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_long = segment.len() > LONG_SEGMENT;
    let is_identifier = segment.len() >= IDENTIFIER_AT_LEAST && digits >= IDENTIFIER_DIGITS;
    if is_long || is_identifier {
        FOLDED
    } else {
        segment
    }
}

/// At most `FIELD_LIMIT` bytes, cut between characters.
fn bounded(text: &str) -> &str {
    if text.len() <= FIELD_LIMIT {
        return text;
    }
    let end = (0..=FIELD_LIMIT)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Stands for a folded segment: unreserved, so that the path stays in canonical form.
const FOLDED: &str = "~";
const LONG_SEGMENT: usize = 32;
const IDENTIFIER_AT_LEAST: usize = 12;
const IDENTIFIER_DIGITS: usize = 4;
const SEGMENT_LIMIT: usize = 16;
const FIELD_LIMIT: usize = 256;
/// New refusals that are logged in one second; all are counted and reported.
const LOGGED_PER_SECOND: usize = 20;
const TABLE_LIMIT: usize = 1024;
const UNAUTHENTICATED_LIMIT: usize = 256;
const REPORT_LIMIT: usize = 256;
const GATHER: Duration = Duration::from_millis(20);
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<'a>(source: Peer<'a>, path: &'a str) -> Refused<'a> {
        Refused {
            side: Side::Server,
            source,
            service: "shop/api",
            port: "http",
            method: "GET",
            path,
            host: "",
            upgrade: "",
            reason: Reason::NoRule,
            revision: 7,
            detail: "",
        }
    }

    /// A word of its own for each number.
    fn word(number: usize) -> String {
        let digits = format!("{number}").into_bytes();
        let letters = digits
            .iter()
            .map(|digit| char::from(b"aeiouybdgt"[usize::from(digit - b'0')]));
        letters.collect()
    }

    fn decisions() -> Decisions {
        Decisions::new(Arc::new(Metrics::default()))
    }

    #[test]
    fn equal_refusals_share_an_id_and_a_count() {
        let decisions = decisions();
        let web: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
        let first = decisions.refuse(&refused(Peer::Verified(&web), "/orders/1?token=secret"));
        let second = decisions.refuse(&refused(Peer::Verified(&web), "/orders/2"));
        let other = decisions.refuse(&refused(Peer::Verified(&web), "/orders/open"));
        assert_eq!(first, second);
        assert_ne!(first, other);
        let mut unreported = decisions.unreported("api-1");
        unreported.sort_by_key(|(_, count, _)| *count);
        assert_eq!(unreported.len(), 2);
        assert_eq!(unreported[1].2.count, 2);
        assert_eq!(unreported[1].2.path, "/orders/{number}");
        decisions.mark_reported(
            unreported
                .into_iter()
                .map(|(key, count, _)| (key, count))
                .collect(),
        );
        assert!(decisions.unreported("api-1").is_empty());
    }

    #[test]
    fn row_11_floods_of_refusals_keep_within_the_table() {
        let decisions = decisions();
        let web: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
        decisions.refuse(&refused(Peer::Verified(&web), "/kept"));
        for n in 0..5_000_u32 {
            let address = IpAddr::from(n.to_be_bytes());
            decisions.refuse(&refused(Peer::Unauthenticated(address), ""));
        }
        assert_eq!(decisions.table().entries.len(), UNAUTHENTICATED_LIMIT + 1);
        for n in 0..5_000 {
            decisions.refuse(&refused(Peer::Verified(&web), &format!("/{}", word(n))));
        }
        assert_eq!(decisions.table().entries.len(), TABLE_LIMIT);
        assert_eq!(decisions.table().order.len(), TABLE_LIMIT);
    }

    #[test]
    fn long_and_identifying_segments_are_folded_and_short_ones_stay() {
        for (path, folded) in [
            ("/orders/1?card=4111", "/orders/{number}"),
            ("/t/aVeryLongTokenWithoutAnyDigitsInItAtAll", "/t/{text}"),
            (
                "/a/../t/aVeryLongTokenWithoutAnyDigitsInItAtAll?x",
                "/a/../t/~",
            ),
            ("", ""),
        ] {
            assert_eq!(super::folded(path), folded);
        }
        assert!(super::folded(&"/ä".repeat(10_000)).len() <= FIELD_LIMIT);
    }

    #[test]
    fn an_id_is_a_ulid() {
        // The time of the specification's example, and no randomness.
        let id = DecisionId::from_parts(1_469_918_176_385, [0; 10]);
        assert_eq!(id.as_str(), "01ARYZ6S410000000000000000");
        assert_eq!(
            DecisionId::from_parts(u64::MAX, [255; 10]).as_str(),
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
        );
    }
}
