//! What a handshake costs each side of processor time, without sockets and over loopback:
//! `cargo test -p weft-sidecar --release --lib tls::cost -- --ignored --nocapture`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use rustls::client::Resumption;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, ServerConnection};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::two_sidecars::Authority;

const ROUNDS: u32 = 3000;

#[tokio::test]
#[ignore = "prints what handshakes cost; to be run in release mode"]
async fn handshakes() {
    for (name, group) in [("X25519MLKEM768", X25519MLKEM768), ("X25519", X25519)] {
        let pair = Pair::new(group).await;
        for shape in [Shape::Full, Shape::FullWithTicket, Shape::Resumed] {
            pair.many(shape, 10);
            let mut best = [Duration::MAX; 2];
            for _ in 0..5 {
                let took = pair.many(shape, ROUNDS);
                best = [best[0].min(took[0]), best[1].min(took[1])];
            }
            let [client, server] = best.map(|took| took.as_secs_f64() * 1e6 / f64::from(ROUNDS));
            let both = pair.over_loopback(shape, ROUNDS).await;
            let both = both.as_secs_f64() * 1e6 / f64::from(ROUNDS);
            println!(
                "{name}, {shape:?}: client {client:.1} us, server {server:.1} us; over loopback, kernel included, both {both:.1} us"
            );
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    /// The client asks for no ticket.
    Full,
    /// It gets one, and does not use it.
    FullWithTicket,
    /// It uses one and gets another.
    Resumed,
}

impl Shape {
    fn of(self, config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut config = match self {
            Self::Full | Self::FullWithTicket => ClientConfig::clone(config),
            Self::Resumed => return Arc::clone(config),
        };
        if self == Self::Full {
            config.send_ticket_request = None;
        }
        config.resumption = match self {
            Self::Full => Resumption::disabled(),
            Self::FullWithTicket | Self::Resumed => Resumption::in_memory_sessions(1),
        };
        Arc::new(config)
    }
}

/// The two ends, which stay what they are from handshake to handshake.
struct Pair {
    client: Tls,
    server: Tls,
    expected: SpiffeId,
}

impl Pair {
    async fn new(group: &'static dyn SupportedKxGroup) -> Self {
        let authority = Authority::new();
        let mut ends = Vec::new();
        for workload in ["shop/web", "shop/api"] {
            let sidecar = authority.sidecar(workload, "").await;
            let enforced = authority.enforced(&sidecar, |_| {});
            sidecar.current.publish(Arc::new(enforced));
            let mut provider = provider();
            provider.kx_groups = vec![group];
            ends.push(Tls::with_provider(
                sidecar.identity.clone(),
                sidecar.current.clone(),
                provider,
            ));
        }
        let server = ends.pop().unwrap();
        let client = ends.pop().unwrap();
        let expected = server.shared.identity.load().verified.id.clone();
        Self {
            client,
            server,
            expected,
        }
    }

    fn many(&self, shape: Shape, rounds: u32) -> [Duration; 2] {
        let mut took = [Duration::ZERO; 2];
        for _ in 0..rounds {
            self.once(shape, &mut took);
        }
        took
    }

    /// Both ends on this thread, with sockets of their own for each handshake.
    async fn over_loopback(&self, shape: Shape, rounds: u32) -> Duration {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let expected = self.expected();
        let began = on_processor();
        for _ in 0..rounds {
            let connecting = async {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let own = Arc::clone(&self.client.shared.identity.load());
                let configs = &self.client.shared.configs;
                let (_, config) = configs.client(&own, address, &expected).unwrap();
                let connector = TlsConnector::from(shape.of(&config));
                let connected = self.client.shake_hands(connector, stream, &expected, own);
                let mut stream = connected.await.unwrap().0;
                // With it comes the ticket.
                stream.read_u8().await.unwrap();
            };
            let accepting = async {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut stream = self.server.accept(stream).await.unwrap().0;
                stream.write_u8(1).await.unwrap();
                stream.flush().await.unwrap();
                stream
            };
            tokio::join!(connecting, accepting);
        }
        on_processor() - began
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            identity: &self.expected,
            server_name: "main.api.shop.weft.local",
            protocols: &[ALPN_HTTP2],
        }
    }

    fn once(&self, shape: Shape, [client_took, server_took]: &mut [Duration; 2]) {
        let expected = self.expected();
        let (own, config) = timed(client_took, || {
            let own = Arc::clone(&self.client.shared.identity.load());
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let configs = &self.client.shared.configs;
            let (_, config) = configs.client(&own, address, &expected).unwrap();
            (own, config)
        });
        let config = shape.of(&config);
        let mut client = timed(client_took, || {
            let name = ServerName::try_from(expected.server_name.to_owned()).unwrap();
            ClientConnection::new(config, name).unwrap()
        });
        let (cached, mut server) = timed(server_took, || {
            let own = self.server.shared.identity.load();
            let cached = self.server.shared.configs.server(&own).unwrap();
            let server = ServerConnection::new(Arc::clone(&cached.config)).unwrap();
            (cached, server)
        });
        let mut wire = Vec::new();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            wire.clear();
            timed(client_took, || send(&mut client, &mut wire));
            timed(server_took, || receive(&mut server, &wire));
            wire.clear();
            timed(server_took, || send(&mut server, &mut wire));
            timed(client_took, || receive(&mut client, &wire));
        }
        if shape != Shape::Resumed {
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        }
        let _peer = timed(client_took, || {
            self.client
                .check(&client, Purpose::ServerAuth, own)
                .unwrap()
        });
        let _peer = timed(server_took, || {
            let own = Arc::clone(&cached.own);
            self.server
                .check(&server, Purpose::ClientAuth, own)
                .unwrap()
        });
    }
}

fn timed<T>(took: &mut Duration, run: impl FnOnce() -> T) -> T {
    let began = on_processor();
    let done = run();
    *took += on_processor() - began;
    done
}

/// This thread's time on a processor: a busy machine changes it less than the time of day.
fn on_processor() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap(),
        now.tv_nsec.try_into().unwrap(),
    )
}

fn send<S>(end: &mut ConnectionCommon<S>, wire: &mut Vec<u8>) {
    while end.wants_write() {
        end.write_tls(wire).unwrap();
    }
}

fn receive<S>(end: &mut ConnectionCommon<S>, mut wire: &[u8]) {
    while !wire.is_empty() {
        end.read_tls(&mut wire).unwrap();
        end.process_new_packets().unwrap();
    }
}
