//! Patterns with their methods, as the fewest conditions.
//!
//! Hosts: a rule is about a service, and `Host` is what a client typed, in one of the service's many spellings; as a condition it
//! would cut whoever spells it otherwise and protect nothing. Only where a port answers to several names that are not the
//! service's own does the name choose what is reached; there each host is stated with the paths that were asked of it.

use std::collections::{BTreeMap, BTreeSet};

use weft_identity::ServiceName;

use super::gather::offered;
use super::instance::host_of;
use super::tree::Tree;
use crate::flow::Flow;
use crate::http::{HostPattern, HttpCondition};
use crate::lists::{Match, NonEmpty};

/// A condition in an order of its own. Empty hosts: any; empty upgrades: none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    pub(super) hosts: BTreeSet<Box<str>>,
    pub(super) methods: BTreeSet<Box<str>>,
    pub(super) upgrades: BTreeSet<Box<str>>,
    pub(super) paths: BTreeSet<Box<str>>,
}

pub(super) type Conditions = BTreeSet<Condition>;

/// One method of one pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) host: Option<Box<str>>,
    pub(super) path: Box<str>,
    pub(super) method: Box<str>,
    pub(super) upgrades: BTreeSet<Box<str>>,
}

/// What one source asks of one port, as patterns.
pub(super) fn grants(flows: &[&Flow], hosts: &VirtualHosts) -> Vec<Grant> {
    let mut trees = BTreeMap::<Option<Box<str>>, Tree>::new();
    for flow in flows {
        let Some(request) = &flow.key.request else {
            continue;
        };
        let Some(path) = &request.path else {
            continue;
        };
        let host = hosts.stated(host_of(request));
        let upgrades: Vec<_> = offered(request).collect();
        let tree = trees.entry(host).or_default();
        tree.add(path, &request.method, &upgrades);
    }
    let mut grants = Vec::new();
    for (host, tree) in trees {
        for (path, verbs) in tree.patterns() {
            grants.extend(verbs.into_iter().map(|(method, upgrades)| Grant {
                host: host.clone(),
                path: path.as_str().into(),
                method,
                upgrades,
            }));
        }
    }
    grants
}

/// The fewest conditions that say just these grants.
pub(super) fn conditions<'g>(grants: impl IntoIterator<Item = &'g Grant>) -> Conditions {
    type Set = BTreeSet<Box<str>>;
    let mut methods = BTreeMap::<(&Option<Box<str>>, &Box<str>, &Set), Set>::new();
    for grant in grants {
        let same = methods.entry((&grant.host, &grant.path, &grant.upgrades));
        same.or_default().insert(grant.method.clone());
    }
    let mut paths = BTreeMap::<(&Option<Box<str>>, Set, &Set), Set>::new();
    for ((host, path, upgrades), methods) in methods {
        let same = paths.entry((host, methods, upgrades)).or_default();
        same.insert(path.clone());
    }
    let mut hosts = BTreeMap::<(bool, Set, &Set, Set), Set>::new();
    for ((host, methods, upgrades), paths) in paths {
        let same = hosts.entry((host.is_some(), methods, upgrades, paths));
        same.or_default().extend(host.clone());
    }
    hosts
        .into_iter()
        .map(|((_, methods, upgrades, paths), hosts)| Condition {
            hosts,
            methods,
            upgrades: upgrades.clone(),
            paths,
        })
        .collect()
}

impl Condition {
    /// `None` where a text is none that a rule can have; what was gathered has no such text.
    pub(super) fn to_http(&self) -> Option<HttpCondition> {
        let mut methods: Vec<_> = self.methods.iter().collect();
        methods.sort_by_key(|method| (rank(method), *method));
        Some(HttpCondition {
            methods: parsed(methods)?,
            paths: parsed(&self.paths)?,
            hosts: parsed(&self.hosts)?,
            headers: Match::Any,
            upgrades: parsed(&self.upgrades)?,
        })
    }

    pub(super) fn order(&self) -> impl Ord + use<> {
        let method = self.methods.iter().map(|method| rank(method)).min();
        (method, self.clone())
    }
}

fn parsed<'t, T: std::str::FromStr>(
    texts: impl IntoIterator<Item = &'t Box<str>>,
) -> Option<Match<T>> {
    let values: Result<Vec<T>, _> = texts.into_iter().map(|text| text.parse()).collect();
    Some(NonEmpty::new(values.ok()?).map_or(Match::Any, Match::OneOf))
}

/// Whether a method asks without changing anything (RFC 9110 §9.2.1).
pub(super) fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

/// The order in which people list methods.
fn rank(method: &str) -> usize {
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    let place = known.iter().position(|known| *known == method);
    place.unwrap_or(known.len())
}

/// The names by which a port is asked for, where they choose what is reached.
#[derive(Debug, Default)]
pub(super) struct VirtualHosts(BTreeSet<Box<str>>);

impl VirtualHosts {
    /// `flows`: all of the port, whoever sent them.
    pub(super) fn of(service: &ServiceName, flows: &[&Flow]) -> Self {
        let requests = flows.iter().filter_map(|flow| flow.key.request.as_ref());
        let hosts: BTreeSet<Box<str>> = requests
            .filter_map(host_of)
            .filter(|host| host.parse::<HostPattern>().is_ok() && !host.starts_with('*'))
            .map(Box::from)
            .collect();
        let foreign = hosts.iter().filter(|host| !is_own(host, service));
        if (2..=HOSTS_LIMIT).contains(&foreign.count()) && hosts.len() <= HOSTS_LIMIT {
            Self(hosts)
        } else {
            Self::default()
        }
    }

    /// The host that a rule states for a request; `None`: any.
    fn stated(&self, host: Option<&str>) -> Option<Box<str>> {
        host.and_then(|host| self.0.get(host)).cloned()
    }
}

/// Whether `host` is the service itself by one of its names, or an address.
fn is_own(host: &str, service: &ServiceName) -> bool {
    let mut labels = host.split('.');
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    is_address
        || host == "localhost"
        || labels.next() == Some(service.name.as_str())
            && labels
                .next()
                .is_none_or(|namespace| namespace == service.namespace.as_str())
}

/// More names than this are not chosen by the service: whoever calls makes them up.
const HOSTS_LIMIT: usize = 16;
