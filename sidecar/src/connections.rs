//! Live connections and requests, so that what a change of policy forbids can be cut.
//!
//! The order is: register first, then check. Whoever swaps the policy swaps first and re-checks then, so that each connection is judged by
//! the new policy by one of the two.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context;

use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use weft_catalog::Protocol;
use weft_identity::{ServicePort, SpiffeId};
use weft_policy::Reason;

use crate::enforce::{self, Admission, Parties, Refusal, Side};
use crate::external::{self, Destination};
use crate::http1::RequestHead;
use crate::proof::Proof;
use crate::view::Enforced;

/// The table of what is live; clones share it.
#[derive(Clone, Default)]
pub struct Connections {
    table: Arc<Table>,
}

#[derive(Default)]
struct Table {
    entries: DashMap<u64, Entry>,
    next: AtomicU64,
    ends: AtomicBool,
}

struct Entry {
    watched: Watched,
    cut: Arc<Cut>,
}

enum Watched {
    Live(Box<Live>),
    /// A connection that many streams share: each of them is live for itself, and all end with the peer.
    Peer(Arc<Proof>),
}

/// What must stay allowed while a connection or a request lives.
pub struct Live {
    pub side: Side,
    /// Who calls: the peer on the server side, this workload on the client side.
    pub source: SpiffeId,
    /// The other end, once it is verified.
    pub peer: Option<Arc<Proof>>,
    /// None: each request names its own, and none has.
    pub target: Option<ServicePort>,
    /// On the server side: how the port was declared when the connection was taken.
    pub declared: Option<DeclaredPort>,
    pub carries: Carries,
}

/// A service port's declaration, as far as it says where bytes go and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredPort {
    pub protocol: Protocol,
    pub target_port: u16,
}

/// What passes, and so which question keeps it alive.
pub enum Carries {
    /// Bytes that nobody looks into: the connection itself must stay allowed.
    Bytes,
    /// The same to an external service: where it leads must stay allowed too.
    Outside(Arc<Destination>),
    /// A connection whose requests are judged one by one: it lives while any request might be allowed.
    Requests,
    /// Requests one after the other: the open one must stay allowed.
    InTurn(Arc<InTurn>),
}

/// The requests of one HTTP/1.1 connection, of which one at a time is open.
pub struct InTurn {
    /// The connection itself lives only while any request might be allowed.
    connection_too: AtomicBool,
    open: Mutex<OpenRequest>,
}

#[derive(Default)]
struct OpenRequest {
    /// As it came; empty while no request is open.
    head: Vec<u8>,
    /// Whom it was sent to, on the client side.
    upstream: Option<Arc<Proof>>,
    /// Where it was sent, if that is outside of the mesh.
    address: Option<SocketAddr>,
}

impl InTurn {
    pub fn new(connection_too: bool) -> Arc<Self> {
        Arc::new(Self {
            connection_too: AtomicBool::new(connection_too),
            open: Mutex::default(),
        })
    }

    /// No request of the connection is allowed now: it is refused request by request, and not cut for that.
    pub fn spare_connection(&self) {
        self.connection_too.store(false, Ordering::Release);
    }

    /// A request is open from now on. Check it afterwards, never before.
    pub fn open(&self, head: &[u8]) {
        let mut open = self.lock();
        open.head.clear();
        open.head.extend_from_slice(head);
        open.upstream = None;
        open.address = None;
    }

    /// Whom the open request goes to is verified now; check it afterwards.
    pub fn verified(&self, upstream: Arc<Proof>) {
        self.lock().upstream = Some(upstream);
    }

    /// The open request leads out of the mesh, to this address; check it afterwards.
    pub fn leads_to(&self, address: SocketAddr) {
        self.lock().address = Some(address);
    }

    /// No request is open.
    pub fn close(&self) {
        let mut open = self.lock();
        open.head.clear();
        open.upstream = None;
        open.address = None;
        if open.head.capacity() > KEPT_HEAD {
            open.head = Vec::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpenRequest> {
        // Every change is whole before it can panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn still_allowed(
        &self,
        enforced: &Enforced,
        parties: Parties<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if self.connection_too.load(Ordering::Acquire)
            && let Admission::Deny(refusal) = enforce::admit_connection(enforced, parties, now)
        {
            return Err(refusal);
        }
        let open = self.lock();
        if open.head.is_empty() {
            return Ok(());
        }
        if let Some(upstream) = &open.upstream {
            upstream.admit(enforced)?;
        }
        if let Some(address) = open.address {
            external::admit_address(enforced, parties.target, address)?;
        }
        let mut request = RequestHead::default();
        request
            .read(&open.head)
            .map_err(|why| Refusal::new(Reason::Malformed).because(why.to_string()))?;
        let headers = request.headers(&open.head);
        enforce::admit_request(enforced, parties, &request.asked(&open.head, &headers), now)
            .map(|_| ())
    }
}

#[derive(Default)]
struct Cut {
    token: CancellationToken,
    refusal: OnceLock<Refusal>,
    is_cut: AtomicBool,
    /// Of the one task that serves requests in turn.
    watcher: AtomicWaker,
}

/// A place in the table; dropping it leaves the table.
pub struct Registered {
    table: Arc<Table>,
    key: u64,
    cut: Arc<Cut>,
}

impl Connections {
    /// Enters the table. Check afterwards, never before.
    pub fn register(&self, live: Live) -> Registered {
        self.enter(Watched::Live(Box::new(live)))
    }

    /// Enters a connection whose streams enter for themselves. Check the peer afterwards, never before.
    pub fn register_peer(&self, peer: Arc<Proof>) -> Registered {
        self.enter(Watched::Peer(peer))
    }

    fn enter(&self, watched: Watched) -> Registered {
        let key = self.table.next.fetch_add(1, Ordering::Relaxed);
        let cut = Arc::new(Cut::default());
        self.table.entries.insert(
            key,
            Entry {
                watched,
                cut: Arc::clone(&cut),
            },
        );
        Registered {
            table: Arc::clone(&self.table),
            key,
            cut,
        }
    }

    /// Cuts everything that is no longer allowed: first all are judged, then all are cut at once. Returns how many.
    pub fn recheck(&self, enforced: &Enforced, now: Timestamp) -> usize {
        let refused: Vec<(Arc<Cut>, Refusal)> = self
            .table
            .entries
            .iter()
            .filter(|entry| !entry.cut.token.is_cancelled())
            .filter_map(|entry| {
                Some((
                    Arc::clone(&entry.cut),
                    entry.watched.still_allowed(enforced, now).err()?,
                ))
            })
            .collect();
        for (cut, refusal) in &refused {
            // An earlier refusal stays the reason.
            let _ = cut.refusal.set(refusal.clone());
            cut.is_cut.store(true, Ordering::Release);
            cut.token.cancel();
            cut.watcher.wake();
        }
        refused.len()
    }

    /// From now on nothing new should begin: whoever waits for a request ends.
    pub fn end(&self) {
        self.table.ends.store(true, Ordering::Release);
        for entry in &self.table.entries {
            entry.cut.watcher.wake();
        }
    }

    /// How many connections and requests are live.
    pub fn len(&self) -> usize {
        self.table.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.entries.is_empty()
    }
}

impl Registered {
    /// Resolves when the connection must end, with the reason.
    pub async fn cut(&self) -> Refusal {
        self.cut.token.cancelled().await;
        self.cut.why()
    }

    /// Whether it must end.
    pub fn is_cut(&self) -> bool {
        self.cut.is_cut.load(Ordering::Acquire)
    }

    /// Why it must end, if it must.
    pub fn refusal(&self) -> Option<Refusal> {
        self.is_cut().then(|| self.cut.why())
    }

    /// Has this task woken when the connection must end, or nothing new should begin on it.
    pub fn watch(&self, cx: &Context<'_>) {
        self.cut.watcher.register(cx.waker());
    }

    /// Whether nothing new should begin on it.
    pub fn ends(&self) -> bool {
        self.table.ends.load(Ordering::Acquire)
    }

    /// Where the next request goes; check it afterwards.
    pub fn aims_at(&self, target: Option<&ServicePort>) {
        if let Some(mut entry) = self.table.entries.get_mut(&self.key)
            && let Watched::Live(live) = &mut entry.watched
        {
            live.target = target.cloned();
        }
    }

    /// The peer is verified now; check it afterwards.
    pub fn verified(&self, peer: Arc<Proof>) {
        if let Some(mut entry) = self.table.entries.get_mut(&self.key)
            && let Watched::Live(live) = &mut entry.watched
        {
            live.peer = Some(peer);
        }
    }
}

impl Cut {
    fn why(&self) -> Refusal {
        self.refusal
            .get()
            .cloned()
            .unwrap_or_else(|| Refusal::new(Reason::NoRule))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.table.entries.remove(&self.key);
    }
}

impl Watched {
    fn still_allowed(&self, enforced: &Enforced, now: Timestamp) -> Result<(), Refusal> {
        match self {
            Self::Live(live) => still_allowed(live, enforced, now),
            Self::Peer(peer) => peer.admit(enforced),
        }
    }
}

fn still_allowed(live: &Live, enforced: &Enforced, now: Timestamp) -> Result<(), Refusal> {
    if let Some(peer) = &live.peer {
        peer.admit(enforced)?;
    }
    let Some(target) = &live.target else {
        return Ok(());
    };
    if let Some(declared) = live.declared {
        enforce::admit_port(enforced, target, declared)?;
    }
    let parties = Parties {
        side: live.side,
        source: &live.source,
        target,
    };
    if let Carries::Outside(destination) = &live.carries {
        destination.still_allowed(enforced, target)?;
    }
    match &live.carries {
        Carries::InTurn(in_turn) => in_turn.still_allowed(enforced, parties, now),
        Carries::Requests => match enforce::admit_connection(enforced, parties, now) {
            Admission::Allow(_) | Admission::NeedsHttp => Ok(()),
            Admission::Deny(refusal) => Err(refusal),
        },
        Carries::Bytes | Carries::Outside(_) => {
            enforce::admit_bytes(enforced, parties, now).map(|_| ())
        }
    }
}

/// A head that is longer is not kept for the next request's.
const KEPT_HEAD: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{id, peer, received, received_learning, rule, target};

    fn live(port: &str, carries: Carries) -> Live {
        let (peer, _) = peer("shop/web");
        Live {
            side: Side::Server,
            source: id("shop/web"),
            peer: Some(peer),
            target: Some(target(port)),
            declared: None,
            carries,
        }
    }

    fn request(path: &str) -> Carries {
        let in_turn = InTurn::new(true);
        in_turn.open(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        Carries::InTurn(in_turn)
    }

    #[tokio::test]
    async fn what_a_change_no_longer_allows_is_cut_and_the_rest_lives() {
        let connections = Connections::default();
        let bytes = connections.register(live("raw", Carries::Bytes));
        let reads = connections.register(live("http", request("/orders")));
        let writes = connections.register(live("http", request("/admin")));
        let idle = connections.register(live("http", Carries::Requests));
        let now = Timestamp::now();

        let everything = received(vec![rule("all", "  from: [shop/web]")]).enforced(false);
        assert_eq!(connections.recheck(&everything, now), 0);

        let only_orders = "  from: [shop/web]\n  http: [{paths: [/orders]}]";
        let tightened = received(vec![rule("orders", only_orders)]).enforced(false);
        assert_eq!(connections.recheck(&tightened, now), 2);
        assert_eq!(bytes.cut().await.reason, Reason::NoRule);
        assert_eq!(writes.cut().await.reason, Reason::NoRule);
        assert!(!reads.is_cut() && !idle.is_cut());

        drop((bytes, writes));
        let nothing = received(Vec::new()).enforced(false);
        assert_eq!(connections.recheck(&nothing, now), 2);
        drop((reads, idle));
        assert!(connections.is_empty());
    }

    #[tokio::test]
    async fn row_14_revoked_and_quarantined_peers_are_cut() {
        let (peer, _) = peer("shop/web");
        let revoked_serial = peer.verified.serial.clone();
        let all = || received(vec![rule("all", "  from: ['shop/*']")]).enforced(false);
        let with = |change: &dyn Fn(&mut weft_identity::Revocations)| {
            let mut enforced = all();
            change(Arc::make_mut(&mut enforced.revocations));
            enforced
        };
        for (enforced, reason) in [
            (
                with(&|r| {
                    r.identities.insert(id("shop/web"));
                }),
                Reason::Revoked,
            ),
            (
                with(&|r| {
                    r.serials.insert(revoked_serial.clone());
                }),
                Reason::Revoked,
            ),
            (
                with(&|r| {
                    r.quarantined.insert(id("shop/web"));
                }),
                Reason::Quarantined,
            ),
            (
                with(&|r| {
                    r.quarantined.insert(id("shop/api"));
                }),
                Reason::Quarantined,
            ),
        ] {
            let connections = Connections::default();
            let tunnel = connections.register(live("raw", Carries::Bytes));
            assert_eq!(connections.recheck(&all(), Timestamp::now()), 0);
            assert_eq!(connections.recheck(&enforced, Timestamp::now()), 1);
            assert_eq!(tunnel.cut().await.reason, reason);
        }
    }

    #[test]
    fn sentence_55_the_end_of_learning_is_found_and_what_it_let_pass_is_cut() {
        let end: Timestamp = "2027-01-31T00:00:00Z".parse().unwrap();
        let before: Timestamp = "2027-01-30T23:59:59Z".parse().unwrap();
        let enforced = received_learning(
            vec![rule("a", "  from: [shop/web]\n  http: [{paths: [/a]}]")],
            end,
        )
        .enforced(false);
        assert_eq!(enforced.next_expiry(before), Some(end));
        let connections = Connections::default();
        let bytes = connections.register(live("raw", Carries::Bytes));
        let learned = connections.register(live("http", request("/b")));
        let ruled = connections.register(live("http", request("/a")));
        assert_eq!(connections.recheck(&enforced, before), 0);
        assert_eq!(connections.recheck(&enforced, end), 2);
        assert!(bytes.is_cut() && learned.is_cut() && !ruled.is_cut());
    }

    #[test]
    fn a_rule_that_expires_is_found_and_what_it_allowed_is_cut() {
        let expiring = "  from: [shop/web]\n  expires: 2027-01-31T00:00:00Z";
        let enforced = received(vec![rule("short", expiring)]).enforced(false);
        let expires: Timestamp = "2027-01-31T00:00:00Z".parse().unwrap();
        let before: Timestamp = "2027-01-30T23:59:59Z".parse().unwrap();
        assert_eq!(enforced.next_expiry(before), Some(expires));
        let connections = Connections::default();
        let bytes = connections.register(live("raw", Carries::Bytes));
        assert_eq!(connections.recheck(&enforced, before), 0);
        assert_eq!(connections.recheck(&enforced, expires), 1);
        assert!(bytes.is_cut());
    }
}
