//! No proxy: the client reaches the backend itself. What the load and the backend can do at most.

use std::net::SocketAddr;

use super::{Entrances, Pair, Setting};

pub(super) fn start(setting: &Setting<'_>) -> Pair {
    let from_a = |address: SocketAddr| SocketAddr::new(setting.network.b.address, address.port());
    let http = from_a(setting.backend.http);
    Pair {
        proxies: None,
        entrances: Entrances {
            http1: http,
            http2: http,
            tcp: Ok(from_a(setting.backend.tcp)),
        },
        handshakes: None,
        others: Vec::new(),
    }
}
