//! Sessions that may be resumed, on the server's side and on the client's. They stay in their processes: a ticket is only a random name, and
//! is used once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::server::StoresServerSessions;
use rustls_pki_types::ServerName;

use super::recent::Recent;

/// What a server resumes.
pub(super) struct Sessions {
    kept: Mutex<Recent<Vec<u8>, Vec<u8>>>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::new(Recent::new(KEPT_BYTES)),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Recent<Vec<u8>, Vec<u8>>> {
        // Every change is whole before it can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, name: Vec<u8>, session: Vec<u8>) -> bool {
        let weight = name.len() + session.len();
        self.kept().insert(name, session, weight);
        true
    }

    /// TLS 1.2's question, which would let a session be used twice.
    fn get(&self, _name: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.kept().remove(name)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// What a client resumes at one endpoint.
///
/// It remembers no key exchange group: each handshake offers the hybrid first, whatever the one before ended with.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    /// The newest last.
    kept: Mutex<VecDeque<(ServerName<'static>, Tls13ClientSessionValue)>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _session: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, session: Tls13ClientSessionValue) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= TICKETS_KEPT {
            kept.pop_front();
        }
        kept.push_back((name, session));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|(of, _)| of == name)?;
        kept.remove(at).map(|(_, session)| session)
    }
}

/// Each holds its server's chain. A connection gives one and uses one, so this many may begin at once.
const TICKETS_KEPT: usize = 8;
/// A session holds its peer's chain, 1.5 KiB; up to twice this is kept.
const KEPT_BYTES: usize = 1 << 20;
