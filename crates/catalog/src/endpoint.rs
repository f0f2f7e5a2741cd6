//! One address of a service, bound to the identity that must answer there.

use std::fmt;
use std::net::SocketAddr;

use weft_identity::SpiffeId;

/// One address of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where the inbound mTLS listener of the workload's sidecar is reached.
    pub address: SocketAddr,
    /// Who must answer there. A reused address fails this check and is never a policy denial.
    pub identity: SpiffeId,
    pub health: Health,
    /// Names the replica across reconnects of its sidecar.
    pub instance: String,
}

/// Whether an endpoint takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    /// Its application does not answer its probe: used only when nothing better is left.
    Unhealthy,
    /// It is going away and takes no new requests.
    Draining,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an endpoint's instance or address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    #[error("an instance is 1 to {INSTANCE_LIMIT} visible ASCII characters")]
    Name,
    #[error("must be an address of one host with a port, not 0")]
    Address,
}

/// Checks the name of a replica.
pub fn check_instance(name: &str) -> Result<(), InstanceError> {
    let is_visible = name.bytes().all(|byte| byte.is_ascii_graphic());
    if name.is_empty() || name.len() > INSTANCE_LIMIT || !is_visible {
        return Err(InstanceError::Name);
    }
    Ok(())
}

/// Checks that a peer can dial this address.
pub fn check_address(address: &SocketAddr) -> Result<(), InstanceError> {
    let ip = address.ip();
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Err(InstanceError::Address);
    }
    Ok(())
}

const INSTANCE_LIMIT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_short_and_visible() {
        assert_eq!(check_instance("api-1"), Ok(()));
        for name in ["", "api 1", "api\n1", "äpi", &"a".repeat(129)] {
            assert_eq!(check_instance(name), Err(InstanceError::Name), "{name:?}");
        }
    }

    #[test]
    fn an_address_that_nobody_can_dial_is_refused() {
        assert_eq!(check_address(&"127.0.0.1:1".parse().unwrap()), Ok(()));
        for address in ["0.0.0.0:80", "[::]:80", "127.0.0.1:0", "224.0.0.1:80"] {
            assert_eq!(
                check_address(&address.parse().unwrap()),
                Err(InstanceError::Address),
                "{address}"
            );
        }
    }
}
