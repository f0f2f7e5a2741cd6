//! Names of the world outside to addresses: the system's hosts file, then the system's DNS servers or those that are configured.
//!
//! Bounded in time, in names at a time and in what is kept, which lives as long as its TTL says and never longer.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tokio::sync::Semaphore;
use weft_catalog::HostName;

/// Looks names up. Nothing of it exists until the first one is asked for.
pub struct Resolver {
    /// Empty: the system's.
    servers: Vec<SocketAddr>,
    resolver: OnceLock<TokioResolver>,
    places: Semaphore,
}

/// Why a name has no addresses now.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("cannot read {RESOLV_CONF}")]
    System(#[source] std::io::Error),
    #[error("the resolver cannot be made: {0}")]
    Setup(String),
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Failed(String),
    #[error("it has no address")]
    NoAddress,
}

impl Resolver {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            resolver: OnceLock::new(),
            places: Semaphore::new(LOOKUPS_AT_A_TIME),
        }
    }

    /// The addresses of a name, both families in turn.
    pub async fn addresses(&self, host: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
        let resolver = self.resolver()?;
        // With its final dot, so that no search domain makes another name of it.
        let name = Name::from_ascii(format!("{host}."))
            .map_err(|error| ResolveError::Failed(error.to_string()))?;
        let looking = async {
            // Nobody closes the semaphore.
            let _place = self.places.acquire().await;
            resolver.lookup_ip(name).await
        };
        let found = tokio::time::timeout(LIMIT, looking)
            .await
            .map_err(|_| ResolveError::Timeout)?
            .map_err(|error| ResolveError::Failed(error.to_string()))?;
        let addresses = in_turn(found.iter().map(|address| address.to_canonical()));
        match addresses.is_empty() {
            true => Err(ResolveError::NoAddress),
            false => Ok(addresses),
        }
    }

    fn resolver(&self) -> Result<&TokioResolver, ResolveError> {
        match self.resolver.get() {
            Some(resolver) => Ok(resolver),
            None => {
                let made = self.make()?;
                Ok(self.resolver.get_or_init(|| made))
            }
        }
    }

    fn make(&self) -> Result<TokioResolver, ResolveError> {
        let servers = match self.servers.is_empty() {
            false => self.servers.clone(),
            true => {
                let text = std::fs::read_to_string(RESOLV_CONF).map_err(ResolveError::System)?;
                system_servers(&text)
            }
        };
        let servers = servers.into_iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut());
        builder
            .build()
            .map_err(|error| ResolveError::Setup(error.to_string()))
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = ATTEMPT_LIMIT;
    options.attempts = ATTEMPTS;
    options.cache_size = KEPT_ANSWERS;
    options.positive_max_ttl = Some(LONGEST_TTL);
    options.negative_max_ttl = Some(LONGEST_NEGATIVE_TTL);
    options.use_hosts_file = ResolveHosts::Always;
    options.preserve_intermediates = false;
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        set_port(connection, address.port());
    }
    server
}

fn set_port(connection: &mut ConnectionConfig, port: u16) {
    connection.port = port;
}

/// resolv.conf(5): its `nameserver` lines alone, since whole names need no search; none means this host's own.
fn system_servers(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // An address with a zone, which resolv.conf allows, has no use here.
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        Some(SocketAddr::new(address, DNS))
    });
    let servers: Vec<SocketAddr> = servers.take(MOST_SERVERS).collect();
    match servers.is_empty() {
        true => vec![SocketAddr::from(([127, 0, 0, 1], DNS))],
        false => servers,
    }
}

/// One of each family after the other (RFC 8305 §4), without repetition.
fn in_turn(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut sixes, mut fours) = (Vec::new(), Vec::new());
    for address in addresses.take(MOST_LOOKED_AT) {
        let family = match address {
            IpAddr::V6(_) => &mut sixes,
            IpAddr::V4(_) => &mut fours,
        };
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let longest = sixes.len().max(fours.len());
    (0..longest)
        .flat_map(|i| [sixes.get(i), fours.get(i)])
        .flatten()
        .copied()
        .collect()
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS: u16 = 53;
/// As the C library takes.
const MOST_SERVERS: usize = 3;
const MOST_LOOKED_AT: usize = 64;
const LOOKUPS_AT_A_TIME: usize = 128;
const LIMIT: Duration = Duration::from_secs(5);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
const KEPT_ANSWERS: u64 = 1024;
const LONGEST_TTL: Duration = Duration::from_secs(3600);
const LONGEST_NEGATIVE_TTL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_servers_are_read_and_nothing_else_of_its_file() {
        let text = "# nameserver 1.1.1.1\nsearch a.example\nnameserver 10.0.0.2\n\tnameserver\t::1 # here\nnameserver fe80::1%eth0\n\
                    nameserver 10.0.0.3\nnameserver 10.0.0.4\noptions ndots:5\n";
        let found: Vec<String> = system_servers(text)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["10.0.0.2:53", "[::1]:53", "10.0.0.3:53"]);
        assert_eq!(system_servers("").len(), 1);
    }

    #[test]
    fn addresses_come_in_turn_and_once() {
        let given = [
            "1.0.0.1", "1.0.0.2", "1.0.0.1", "2a00::1", "1.0.0.3", "2a00::2",
        ];
        let given = given.iter().map(|text| text.parse::<IpAddr>().unwrap());
        let turned: Vec<String> = in_turn(given).iter().map(ToString::to_string).collect();
        assert_eq!(
            turned,
            ["2a00::1", "1.0.0.1", "2a00::2", "1.0.0.2", "1.0.0.3"]
        );
    }
}
