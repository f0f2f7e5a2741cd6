//! The way to an external service: its name is resolved, each address is judged, and those that are left are dialled side by side.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use weft_catalog::HostName;
use weft_identity::ServicePort;
use weft_policy::Reason;

use super::resolver::{ResolveError, Resolver};
use super::{admit_address, port};
use crate::config::Config;
use crate::dial::DialError;
use crate::enforce::Refusal;
use crate::view::Current;

/// The way out of the mesh.
pub struct Outside {
    resolver: Resolver,
    current: Current,
    /// The control plane's two, `host:port`.
    control_plane: [String; 2],
    /// Where this sidecar itself listens.
    own: OnceLock<Vec<SocketAddr>>,
    limit: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Undialled {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the name cannot be resolved")]
    Unresolved(#[source] ResolveError),
    #[error("no address of the host can be reached")]
    Unreachable,
}

impl Outside {
    pub fn new(config: &Config, current: Current) -> Self {
        Self {
            resolver: Resolver::new(config.dns_servers.clone()),
            current,
            control_plane: [config.api.clone(), config.attestation.clone()],
            own: OnceLock::new(),
            limit: Duration::from_secs(config.limits.connect_seconds),
        }
    }

    /// Where this sidecar listens, once it does.
    pub fn own_listeners(&self, addresses: Vec<SocketAddr>) {
        // There is one start.
        let _ = self.own.set(addresses);
    }

    /// The addresses that may be dialled for a host that policy has allowed.
    pub async fn addresses(
        &self,
        target: &ServicePort,
        host: &HostName,
    ) -> Result<Vec<SocketAddr>, Undialled> {
        let resolved = self.resolver.addresses(host).await;
        let resolved = resolved.map_err(|error| {
            tracing::debug!(%target, %host, %error, "a name cannot be resolved");
            Undialled::Unresolved(error)
        })?;
        let number = port(&self.current.load(), target)
            .map(|outside| outside.port.port)
            .ok_or_else(|| Refusal::new(Reason::NoRule))?;
        let mut may = Vec::new();
        let mut refused = None;
        for ip in resolved {
            match self.admit(target, SocketAddr::new(ip, number)).await {
                Ok(address) if may.len() < MOST_DIALLED => may.push(address),
                Ok(_) => break,
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match (may.is_empty(), refused) {
            (true, Some(refusal)) => Err(refusal.into()),
            (_, _) => Ok(may),
        }
    }

    /// A connection to one of the addresses.
    pub async fn connect(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(TcpStream, SocketAddr), Undialled> {
        let dial = async |address: SocketAddr| {
            let stream = TcpStream::connect(address)
                .await
                .map_err(DialError::Connect)?;
            stream.set_nodelay(true).map_err(DialError::Connect)?;
            Ok((stream, address))
        };
        let dialling = first_of(addresses, dial);
        let dialled = tokio::time::timeout(self.limit, dialling).await;
        dialled.ok().flatten().ok_or(Undialled::Unreachable)
    }

    async fn admit(
        &self,
        target: &ServicePort,
        address: SocketAddr,
    ) -> Result<SocketAddr, Refusal> {
        admit_address(&self.current.load(), target, address)?;
        let forbidden = || Refusal::new(Reason::ForbiddenAddress);
        let own = self.own.get().map(Vec::as_slice).unwrap_or_default();
        if own.iter().any(|listener| leads_to(*listener, address)) {
            return Err(forbidden().because(format!("{address} is this sidecar's own listener")));
        }
        if self.is_control_plane(address).await {
            return Err(forbidden().because(format!("{address} is the control plane's")));
        }
        Ok(address)
    }

    /// Names are looked up only where the port is the control plane's; one that cannot be might be it.
    async fn is_control_plane(&self, address: SocketAddr) -> bool {
        for authority in &self.control_plane {
            let same_port = authority
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse() == Ok(address.port()));
            if !same_port {
                continue;
            }
            let looking = tokio::time::timeout(self.limit, tokio::net::lookup_host(authority));
            let is_it = match looking.await {
                Ok(Ok(mut found)) => found.any(|found| found.ip().to_canonical() == address.ip()),
                Ok(Err(_)) | Err(_) => true,
            };
            if is_it {
                return true;
            }
        }
        false
    }
}

/// Dials one address after the other, each a moment after the one before or when that one failed, and keeps the first that answers
/// (RFC 8305 §5).
pub async fn first_of<T, F>(addresses: &[SocketAddr], dial: impl Fn(SocketAddr) -> F) -> Option<T>
where
    F: Future<Output = Result<T, DialError>>,
{
    let mut left = addresses.iter().copied();
    let mut dialling = FuturesUnordered::new();
    loop {
        match left.next() {
            Some(address) => {
                let dialled = dial(address);
                dialling.push(async move { (address, dialled.await) });
            }
            None if dialling.is_empty() => return None,
            None => {}
        }
        let has_more = left.len() > 0;
        tokio::select! {
            Some((address, dialled)) = dialling.next() => match dialled {
                Ok(dialled) => return Some(dialled),
                Err(error) => tracing::debug!(%address, %error, "an address cannot be reached"),
            },
            () = tokio::time::sleep(BETWEEN_ATTEMPTS), if has_more => {}
        }
    }
}

/// Whether a connection to the address comes to the listener.
fn leads_to(listener: SocketAddr, address: SocketAddr) -> bool {
    if listener.port() != address.port() {
        return false;
    }
    match listener.ip().is_unspecified() {
        false => listener.ip().to_canonical() == address.ip(),
        true => is_of_this_host(address.ip()),
    }
}

/// Only an own address can be bound to.
fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

const MOST_DIALLED: usize = 8;
/// RFC 8305 §8.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_up_the_next_for_a_moment_and_a_failed_one_not_at_all() {
        let all = [address(1), address(2), address(3)];
        let start = tokio::time::Instant::now();
        let first = first_of(&all, async |address| {
            match address.port() == 1 && address == all[2] {
                true => Ok(address),
                false => std::future::pending().await,
            }
        });
        assert_eq!(first.await, Some(all[2]));
        assert_eq!(start.elapsed(), 2 * BETWEEN_ATTEMPTS);

        let start = tokio::time::Instant::now();
        let first = first_of(&all, async |address| match address == all[2] {
            true => Ok(address),
            false => Err(DialError::Timeout),
        });
        assert_eq!(first.await, Some(all[2]));
        assert_eq!(start.elapsed(), Duration::ZERO);

        let none = first_of(&all, async |_| Err::<SocketAddr, _>(DialError::Timeout));
        assert_eq!(none.await, None);
        let nothing = first_of(&[], async |address| Ok(address));
        assert_eq!(nothing.await, None);
    }

    #[test]
    fn row_19_an_own_listener_is_known_under_every_address_of_this_host() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (listener, address, leads) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.9:80", true),
            ("0.0.0.0:80", "192.0.2.1:80", false),
        ] {
            assert_eq!(
                leads_to(at(listener), at(address)),
                leads,
                "{listener} {address}"
            );
        }
    }
}
