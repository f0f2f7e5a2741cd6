//! The configurations that present the own SVID, and with them the sessions that may be resumed.
//!
//! Invariant: another SVID of one's own means another configuration on both sides, and no session of before is resumed. A client's sessions
//! are further kept apart by endpoint, expected identity, protocol and bundle; rustls keeps them apart by server name, on both sides.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::client::{Resumption, TicketRequest, Tls12Resumption};
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use weft_identity::SpiffeId;

use super::chains::Chains;
use super::error::TlsError;
use super::recent::Recent;
use super::sessions::{Sessions, Tickets};
use super::verifier::Verifier;
use super::{ALPN_HTTP1, ALPN_HTTP2, ALPN_MUX, ALPN_TCP, Expected};
use crate::identity::OwnSvid;
use crate::view::Current;

pub(super) struct Configs {
    chains: Arc<Chains>,
    current: Current,
    provider: Arc<CryptoProvider>,
    server: ArcSwapOption<CachedServer>,
    clients: Mutex<Clients>,
}

/// The server's configuration for one SVID.
pub(super) struct CachedServer {
    pub(super) own: Arc<OwnSvid>,
    pub(super) config: Arc<ServerConfig>,
}

/// The clients' configurations for one SVID.
struct Clients {
    own: Option<Arc<OwnSvid>>,
    kept: Recent<ClientKey, Arc<ClientConfig>>,
}

/// What a session must have in common with the connection that resumes it, beside the own SVID and the server name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    address: SocketAddr,
    identity: SpiffeId,
    protocols: Vec<&'static [u8]>,
    bundle: [u8; 32],
}

impl Configs {
    pub(super) fn new(chains: Arc<Chains>, current: Current, provider: CryptoProvider) -> Self {
        Self {
            chains,
            current,
            provider: Arc::new(provider),
            server: ArcSwapOption::empty(),
            clients: Mutex::new(Clients {
                own: None,
                kept: Recent::new(CLIENTS_KEPT),
            }),
        }
    }

    /// The server's configuration for the SVID of now.
    pub(super) fn server(&self, own: &Arc<OwnSvid>) -> Result<Arc<CachedServer>, TlsError> {
        if let Some(cached) = self.server.load_full()
            && Arc::ptr_eq(&cached.own, own)
        {
            return Ok(cached);
        }
        let cached = Arc::new(CachedServer {
            own: Arc::clone(own),
            config: Arc::new(self.new_server(own)?),
        });
        self.server.store(Some(Arc::clone(&cached)));
        Ok(cached)
    }

    /// The client's configuration for this SVID and one endpoint.
    pub(super) fn client(
        &self,
        own: &Arc<OwnSvid>,
        address: SocketAddr,
        expected: &Expected<'_>,
    ) -> Result<(ClientKey, Arc<ClientConfig>), TlsError> {
        let key = ClientKey {
            address,
            identity: expected.identity.clone(),
            protocols: expected.protocols.to_vec(),
            bundle: *self.current.load().bundle.digest(),
        };
        let mut clients = self.clients();
        if !clients
            .own
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, own))
        {
            clients.own = Some(Arc::clone(own));
            clients.kept.clear();
        }
        if let Some(config) = clients.kept.find(&key) {
            return Ok((key, Arc::clone(config)));
        }
        let config = Arc::new(self.new_client(own, expected)?);
        clients.kept.insert(key.clone(), Arc::clone(&config), 1);
        Ok((key, config))
    }

    /// What led to a failure is not tried again: the next handshake there is a full one.
    pub(super) fn forget(&self, key: &ClientKey) {
        self.clients().kept.remove(key);
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        // Every change is whole before it can panic.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_server(&self, own: &OwnSvid) -> Result<ServerConfig, TlsError> {
        let resolver = SingleCertAndKey::from(Arc::clone(&own.certified));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Config)?
            .with_client_cert_verifier(Arc::new(self.verifier(None)))
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = [ALPN_MUX, ALPN_HTTP2, ALPN_HTTP1, ALPN_TCP]
            .map(<[u8]>::to_vec)
            .into();
        // Many clients put AES-256 first, and with it a hash that few processors have instructions for.
        config.ignore_client_order = true;
        config.session_storage = Arc::new(Sessions::new());
        // Only who asks for tickets (RFC 9149) costs us some.
        config.send_tls13_tickets = 0;
        config.max_tls13_tickets = MOST_TICKETS;
        config.max_early_data_size = 0;
        Ok(config)
    }

    fn new_client(&self, own: &OwnSvid, expected: &Expected<'_>) -> Result<ClientConfig, TlsError> {
        let resolver = SingleCertAndKey::from(Arc::clone(&own.certified));
        let verifier = self.verifier(Some(expected.identity.clone()));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = expected
            .protocols
            .iter()
            .map(|name| name.to_vec())
            .collect();
        config.resumption = Resumption::store(Arc::new(Tickets::default()))
            .tls12_resumption(Tls12Resumption::Disabled);
        config.send_ticket_request = Some(TicketRequest {
            new_session_count: 1,
            resumption_count: 1,
        });
        config.enable_early_data = false;
        Ok(config)
    }

    fn verifier(&self, only: Option<SpiffeId>) -> Verifier {
        Verifier {
            chains: Arc::clone(&self.chains),
            current: self.current.clone(),
            provider: Arc::clone(&self.provider),
            only,
        }
    }
}

/// Configurations, up to twice as many; what a workload calls is known to its view, so this bounds memory and not use.
const CLIENTS_KEPT: usize = 128;
/// Each connection gives one and uses one.
const MOST_TICKETS: usize = 1;
