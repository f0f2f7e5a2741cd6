//! A service of the world outside: which names it has, and which addresses they may lead to.
//!
//! Invariant: an `External` has at least one host, and no host or range twice.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_identity::{ServiceName, ServicePort, TrustDomain};

use crate::address::{AddressKind, Cidr, may_dial};
use crate::host::{HostName, HostPattern};
use crate::invalid::{Invalid, Problem};
use crate::service::{Port, Service, check_count};

/// Names outside of the mesh that one service stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    hosts: Vec<HostPattern>,
    allow_addresses: Vec<Cidr>,
}

impl External {
    /// Sorted, as their order means nothing and equal sets must be equal services. `path` is where the fields stand.
    pub fn new(path: &str, hosts: &[HostPattern], ranges: &[Cidr]) -> Result<Self, Invalid> {
        let at = |field: &str| match path {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        };
        check_count(&at("hosts"), hosts.len(), HOSTS_LIMIT)?;
        if !ranges.is_empty() {
            check_count(&at("allowAddresses"), ranges.len(), RANGES_LIMIT)?;
        }
        Ok(Self {
            hosts: distinct(&at("hosts"), hosts)?,
            allow_addresses: distinct(&at("allowAddresses"), ranges)?,
        })
    }

    pub fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    pub fn allow_addresses(&self) -> &[Cidr] {
        &self.allow_addresses
    }

    /// How precisely it names this host; none: not at all.
    pub fn precision(&self, host: &HostName) -> Option<usize> {
        let matching = self.hosts.iter().filter(|pattern| pattern.matches(host));
        matching.map(HostPattern::precision).max()
    }

    pub fn names(&self, host: &HostName) -> bool {
        self.precision(host).is_some()
    }

    /// The host that is meant where a client names none.
    pub fn only_host(&self) -> Option<&HostName> {
        match self.hosts.as_slice() {
            [HostPattern::Exact(host)] => Some(host),
            _ => None,
        }
    }

    /// Whether one of its names may lead there.
    pub fn may_dial(&self, address: IpAddr) -> Result<(), AddressKind> {
        may_dial(address, &self.allow_addresses)
    }

    /// Checks that no host is a name of the mesh, whose services a host must never hide. `is_namespace` says which ones the mesh has.
    pub fn check_not_mesh(
        &self,
        trust_domain: &TrustDomain,
        is_namespace: impl Fn(&str) -> bool,
    ) -> Result<(), Invalid> {
        for pattern in &self.hosts {
            let name = pattern.name().as_str();
            let domain = trust_domain.as_str();
            let is_below = |outer: &str| {
                name.strip_suffix(outer)
                    .is_some_and(|rest| rest.ends_with('.'))
            };
            let is_full = name == domain || is_below(domain);
            // `api.shop` is a mesh name where there is a namespace `shop`; `example.com` is none where there is no `com`.
            let is_short = matches!(pattern, HostPattern::Exact(_))
                && name
                    .split_once('.')
                    .is_some_and(|(_, rest)| !rest.contains('.') && is_namespace(rest));
            if is_full || is_short {
                let problem = Problem::MeshHost(pattern.to_string());
                return Err(Invalid::at("spec.hosts", problem));
            }
        }
        Ok(())
    }
}

/// The port that a host and a number name: of several services the one that names the host most precisely, then the first by name.
pub fn named<'s>(
    services: impl Iterator<Item = (&'s ServiceName, &'s External, &'s [Port])>,
    host: &HostName,
    number: u16,
) -> Option<ServicePort> {
    let naming = services.filter_map(|(service, external, ports)| {
        let precision = external.precision(host)?;
        let port = ports.iter().find(|port| port.port == number)?;
        Some((precision, service, port))
    });
    let (_, service, port) = naming
        .min_by(|(one, first, _), (two, second, _)| two.cmp(one).then_with(|| first.cmp(second)))?;
    Some(ServicePort {
        service: service.clone(),
        port: port.name.clone(),
    })
}

/// Hosts and ports that two external services share: at the proxy, the more precise one is meant.
pub fn overlaps(one: &Service, other: &Service) -> Vec<(HostPattern, HostPattern, u16)> {
    let (Some(outer), Some(inner)) = (&one.external, &other.external) else {
        return Vec::new();
    };
    let numbers = |ports: &[Port]| ports.iter().map(|port| port.port).collect::<BTreeSet<_>>();
    let theirs = numbers(&other.ports);
    let Some(shared) = numbers(&one.ports)
        .into_iter()
        .find(|port| theirs.contains(port))
    else {
        return Vec::new();
    };
    let pairs = outer
        .hosts
        .iter()
        .flat_map(|one| inner.hosts.iter().map(move |two| (one, two)));
    pairs
        .filter(|(one, two)| one.overlaps(two))
        .map(|(one, two)| (one.clone(), two.clone(), shared))
        .collect()
}

fn distinct<T: Ord + Clone + ToString>(path: &str, elements: &[T]) -> Result<Vec<T>, Invalid> {
    let mut seen = BTreeSet::new();
    for (i, element) in elements.iter().enumerate() {
        if !seen.insert(element) {
            return Err(Invalid::at(
                format!("{path}[{i}]"),
                Problem::Duplicate(element.to_string()),
            ));
        }
    }
    Ok(seen.into_iter().cloned().collect())
}

const HOSTS_LIMIT: usize = 100;
const RANGES_LIMIT: usize = 100;
