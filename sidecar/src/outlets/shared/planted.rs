//! Connections that nobody dialled, for [`crate::cost`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::super::{Idle, Key, Outlets};
use super::Shared;
use crate::cost::Memory;
use crate::dial::Whom;
use crate::mux::{self, Mux, Role};
use crate::stream::Stream;
use crate::tls::Peer;

impl Outlets {
    /// A connection to the application, which waits for its next exchange.
    pub(crate) fn plant_app(&self, address: SocketAddr, stream: Stream) {
        let waiting = self.waiting(Key {
            address,
            mesh: None,
            protocol: weft_catalog::Protocol::Http,
        });
        waiting.streams().push(Idle {
            stream,
            peer: None,
            since: Instant::now(),
        });
    }

    /// A connection to another sidecar, for many streams.
    pub(crate) fn plant_peer(&self, whom: Whom<'_>, io: Memory, peer: Arc<Peer>) {
        let shared = &self.inner.shared;
        let mux = Mux::new(Role::Client);
        mux::start(&shared.sidecar, &mux, Box::new(io));
        shared.connections(whom).open().push(Shared {
            mux,
            peer,
            used: Instant::now(),
            uses: 0,
        });
    }
}
