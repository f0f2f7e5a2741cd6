//! The way to new connections: to an application, or by mutual TLS to another sidecar.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use weft_catalog::Endpoint;
use weft_identity::SpiffeId;

use crate::Sidecar;
use crate::read_ahead::ReadAhead;
use crate::tls::{Expected, Peer, Tls, TlsError};

/// Why one endpoint could not be used. Never a denial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("connecting took too long")]
    Timeout,
    #[error("no mutual TLS with the endpoint")]
    Tls(#[source] TlsError),
    #[error("the connection that others waited for too could not be made")]
    Neighbour,
    #[error("the service port has no server name")]
    Name,
}

/// No endpoint of the service could be used.
#[derive(Debug, thiserror::Error)]
#[error("no endpoint of the service can be reached")]
pub struct Unreachable;

/// An address, and the one identity that may answer there.
#[derive(Debug, Clone, Copy)]
pub struct Whom<'a> {
    pub address: SocketAddr,
    pub identity: &'a SpiffeId,
}

impl<'a> From<&'a Endpoint> for Whom<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            address: endpoint.address,
            identity: &endpoint.identity,
        }
    }
}

/// The way to new connections.
#[derive(Clone)]
pub struct Dialler {
    sidecar: Arc<Sidecar>,
    tls: Tls,
}

impl Dialler {
    pub fn new(sidecar: Arc<Sidecar>, tls: Tls) -> Self {
        Self { sidecar, tls }
    }

    /// Mutual TLS with an endpoint, and one of the protocols.
    pub async fn dial_mesh(
        &self,
        whom: Whom<'_>,
        server_name: &str,
        protocols: &[&'static [u8]],
    ) -> Result<(TlsStream<ReadAhead>, Peer), DialError> {
        let stream = self.dial(whom.address).await?;
        let expected = Expected {
            identity: whom.identity,
            server_name,
            protocols,
        };
        Box::pin(self.tls.connect(stream, &expected))
            .await
            .map_err(DialError::Tls)
    }

    pub async fn dial(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        let limit = Duration::from_secs(self.sidecar.config.limits.connect_seconds);
        let connecting = tokio::time::timeout(limit, TcpStream::connect(address));
        let stream = connecting
            .await
            .map_err(|_| DialError::Timeout)?
            .map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        Ok(stream)
    }
}

/// Whether a connection to the peer may take something new: both SVIDs last, this side would present the same one, and the peer would be
/// believed again.
pub fn is_usable(sidecar: &Sidecar, peer: &Peer) -> bool {
    let now = Timestamp::now();
    let lasts = now
        .checked_add(EXPIRY_MARGIN)
        .is_ok_and(|then| then < peer.expires());
    lasts
        && peer.is_of(&sidecar.identity.load())
        && peer.may_begin(&sidecar.current.load(), now).is_ok()
}

impl DialError {
    /// Tells the log that an endpoint is passed over.
    pub fn tell_of(&self, endpoint: &Endpoint) {
        let cause = std::error::Error::source(self)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::warn!(address = %endpoint.address, identity = %endpoint.identity, error = %self, cause, "an endpoint is passed over");
    }
}

/// A request is not begun so shortly before an SVID expires.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// Endpoints that are tried for one request.
pub const MOST_ENDPOINTS_TRIED: usize = 5;
