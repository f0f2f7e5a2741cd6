//! What one request costs both sidecars, in figures that do not depend on the machine's speed: allocations, writes to a transport, and,
//! where this runs under callgrind, instructions. `tests/guard` builds it in the profile `guard` and holds the figures against ceilings.
//!
//! One process, one thread, a clock that stands: the request path as it is in production from a client's bytes to the application's and
//! back, over pipes in memory instead of sockets and TLS. The client's script puts one request on each connection, then waits for all answers.

mod memory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use weft_catalog::{Port, Protocol};
use weft_identity::{Purpose, ServicePort, SpiffeId};

use crate::Sidecar;
use crate::dial::Whom;
use crate::http1::Side;
use crate::inbound;
use crate::listener::{Place, Shared};
use crate::metrics::SideLabel;
use crate::outbound;
use crate::proof::Proof;
use crate::stream::Stream;
use crate::tls::Peer;
use crate::two_sidecars::{Authority, RULE, inbound_service, outbound_service, service};
pub(crate) use memory::Memory;
use memory::Writes;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

#[test]
#[ignore = "tests/guard runs it in a process of its own and reads what it prints"]
fn requests() {
    let in_flight = from_environment("WEFT_COST_IN_FLIGHT").unwrap_or(1);
    let rounds = from_environment("WEFT_COST_REQUESTS").unwrap_or(64) / in_flight;
    let runtime = runtime();
    let mut path = runtime.block_on(RequestPath::new(in_flight));
    runtime.block_on(path.rounds(WARM_UP));

    let (writes, region) = (path.writes(), Region::new(ALLOCATOR));
    counted(&runtime, &mut path, rounds);
    let allocated = region.change();
    let written = path.writes() - writes;

    path.assert_forwarded((WARM_UP + rounds) * in_flight);
    let figures = serde_json::json!({
        "requests": rounds * in_flight,
        "allocations": allocated.allocations + allocated.reallocations,
        "writes": written,
    });
    // The harness of tests may stand at the end of a line.
    println!("\nweft-cost {figures}");
}

/// Callgrind counts what runs inside, and finds it by its name.
#[inline(never)]
fn counted(runtime: &Runtime, path: &mut RequestPath, rounds: usize) {
    runtime.block_on(path.rounds(rounds));
}

#[test]
fn requests_that_are_counted_are_judged_forwarded_and_answered() {
    for in_flight in [1, 32] {
        let runtime = runtime();
        runtime.block_on(async {
            let mut path = RequestPath::new(in_flight).await;
            path.rounds(3).await;
            path.assert_forwarded(3 * in_flight);
            let written = path.writes();
            assert!(written >= 6 * u64::try_from(in_flight).unwrap());
            let refused = path.ask(0, "GET /secrets/7 HTTP/1.1\r\nhost: api.shop\r\n\r\n", b"}");
            let refused = refused.await;
            assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
            path.assert_forwarded(3 * in_flight);
        });
    }
}

/// A client's connections, its sidecar, a server's, and an application.
struct RequestPath {
    clients: Vec<Memory>,
    client: Arc<Sidecar>,
    server: Arc<Sidecar>,
    /// What the sidecars wrote: to each other, to the application and to the client.
    writes: Writes,
    /// Requests that reached the application.
    arrived: Arc<AtomicU64>,
}

impl RequestPath {
    async fn new(connections: usize) -> Self {
        let (authority, writes) = (Authority::new(), Writes::default());
        let port = Port {
            name: "main".parse().unwrap(),
            port: 80,
            target_port: APP.port(),
            protocol: Protocol::Http,
        };
        let server = authority.sidecar("shop/api", "").await;
        let offered = Arc::new(inbound_service(port.clone(), RULE));
        let enforced = authority.enforced(&server, |enforced| {
            enforced.inbound.insert(service(), offered);
        });
        server.current.publish(Arc::new(enforced));
        let client = authority.sidecar("shop/web", "").await;
        let seen = Arc::new(outbound_service(port, RULE, ENDPOINT));
        let enforced = authority.enforced(&client, |enforced| {
            enforced.outbound.insert(service(), seen);
        });
        client.current.publish(Arc::new(enforced));

        let mut path = Self {
            clients: Vec::new(),
            client,
            server,
            writes,
            arrived: Arc::default(),
        };
        let (near, far) = (Shared::new(&path.client), Shared::new(&path.server));
        path.connect_sidecars(&authority, &near, &far);
        for _ in 0..connections {
            path.connect_app(&far);
            path.connect_client(&near);
        }
        path
    }

    /// One connection between the sidecars, as a handshake would leave it.
    fn connect_sidecars(&self, authority: &Authority, near: &Shared, far: &Arc<Shared>) {
        let (here, there) = Memory::pair(&self.writes, &self.writes);
        let (client, server) = (&self.client, &self.server);
        let identity: &SpiffeId = &server.config.own_id;
        let whom = Whom {
            address: ENDPOINT,
            identity,
        };
        let peer = proven(authority, client, server, Purpose::ServerAuth);
        near.outlets.plant_peer(whom, here, peer);
        let peer = proven(authority, server, client, Purpose::ClientAuth);
        let from = SocketAddr::from(([127, 0, 0, 1], 3));
        tokio::spawn(inbound::serve_streams(
            Arc::clone(far),
            there,
            peer,
            from,
            place(),
        ));
    }

    /// A connection of the server's sidecar to the application, which waits for its first request.
    fn connect_app(&self, far: &Shared) {
        let (sidecar, app) = Memory::pair(&self.writes, &Writes::default());
        far.outlets.plant_app(APP, Stream::Memory(sidecar));
        tokio::spawn(application(app, Arc::clone(&self.arrived)));
    }

    fn connect_client(&mut self, near: &Arc<Shared>) {
        let (client, sidecar) = Memory::pair(&Writes::default(), &self.writes);
        let target = ServicePort {
            service: service(),
            port: "main".parse().unwrap(),
        };
        let side = Side::new(Stream::Memory(sidecar));
        tokio::spawn(outbound::serve_http1(
            Arc::clone(near),
            side,
            outbound::Entrance::Upstream(target),
            place(),
        ));
        self.clients.push(client);
    }

    /// A request on each connection, then all the answers; and again.
    async fn rounds(&mut self, rounds: usize) {
        let mut answer = Vec::with_capacity(2 * ANSWER.len());
        for _ in 0..rounds {
            for client in &mut self.clients {
                client.write_all(REQUEST).await.unwrap();
            }
            for client in &mut self.clients {
                read_until(client, &mut answer, ANSWER_END).await;
                assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
            }
        }
    }

    async fn ask(&mut self, client: usize, request: &str, end: &[u8]) -> String {
        let client = &mut self.clients[client];
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        read_until(client, &mut answer, end).await;
        String::from_utf8(answer).unwrap()
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Both sidecars counted them, and the application got them.
    fn assert_forwarded(&self, requests: usize) {
        let requests = u64::try_from(requests).unwrap();
        let counted = |sidecar: &Sidecar, side| {
            let label = SideLabel { side };
            sidecar.metrics.requests.get_or_create(&label).get()
        };
        assert_eq!(counted(&self.client, "client"), requests);
        assert_eq!(counted(&self.server, "server"), requests);
        assert_eq!(self.arrived.load(Ordering::Relaxed), requests);
    }
}

/// Answers each request, and insists once that it carries its caller's identity.
async fn application(mut stream: Memory, arrived: Arc<AtomicU64>) {
    let (mut request, mut is_proven) = (Vec::with_capacity(4096), false);
    loop {
        read_until(&mut stream, &mut request, b"\r\n\r\n").await;
        is_proven = is_proven || memchr::memmem::find(&request, PROVEN_CALLER).is_some();
        assert!(is_proven, "{}", String::from_utf8_lossy(&request));
        arrived.fetch_add(1, Ordering::Relaxed);
        stream.write_all(ANSWER).await.unwrap();
    }
}

async fn read_until(stream: &mut Memory, into: &mut Vec<u8>, end: &[u8]) {
    into.clear();
    while !into.ends_with(end) {
        let read = stream.fill_buf().await.unwrap();
        assert!(!read.is_empty(), "{}", String::from_utf8_lossy(into));
        into.extend_from_slice(read);
        let count = read.len();
        stream.consume(count);
    }
}

/// What `own` knows of `other` after their handshake.
fn proven(authority: &Authority, own: &Sidecar, other: &Sidecar, purpose: Purpose) -> Arc<Peer> {
    let shown = Arc::clone(&other.identity.load());
    let chain = &shown.certified.cert;
    let proof = Proof::of(chain, &authority.bundle, purpose, Timestamp::now()).unwrap();
    let own = Arc::clone(&own.identity.load());
    Arc::new(Peer::without_handshake(Arc::new(proof), own))
}

fn place() -> Arc<Place> {
    let places = Arc::new(Semaphore::new(1));
    let permit = places.try_acquire_owned().unwrap();
    Arc::new(Place::of(permit, &Gauge::default()))
}

/// Its clock stands while anything is to do: a slow machine lets no timer fire.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}

fn from_environment(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

/// Rounds until every buffer and table has its size.
const WARM_UP: usize = 16;
/// No socket is behind them.
const APP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
const ENDPOINT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);
const REQUEST: &[u8] = b"GET /orders/4711?expand=lines HTTP/1.1\r\n\
    Host: api.shop\r\n\
    User-Agent: shop-web/1.4\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, br\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\n\
    content-length: 52\r\n\
    cache-control: no-store\r\n\
    date: Sun, 01 Nov 2026 12:00:00 GMT\r\n\r\n\
    {\"order\": 4711, \"state\": \"packed\", \"lines\": [1, 2]}\n";
const ANSWER_END: &[u8] = b"\"lines\": [1, 2]}\n";
const PROVEN_CALLER: &[u8] = b"URI=spiffe://weft.local/ns/shop/sa/web";
