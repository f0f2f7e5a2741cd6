//! Rules before they have names: what each source may ask of each service, and which sources may share a rule.

use std::collections::{BTreeMap, BTreeSet};

use weft_identity::{DnsLabel, ServiceName, SpiffeId};

use super::NotProposed;
use super::conditions::{Conditions, Grant, VirtualHosts, conditions, grants, is_read};
use super::gather::{Pairs, pairs};
use super::groups::groups;
use super::instance::path_of;
use crate::flow::Flow;
use crate::path::PathPattern;

/// What a rule says, its sources apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Draft {
    pub(super) service: ServiceName,
    pub(super) ports: BTreeSet<DnsLabel>,
    /// `None`: everything on those ports.
    pub(super) http: Option<Conditions>,
}

/// Who shares a draft, and how its rule's name may end.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) sources: BTreeSet<SpiffeId>,
    pub(super) endings: BTreeSet<String>,
}

pub(super) struct Drafted<'f> {
    pub(super) drafts: BTreeMap<Draft, Shared>,
    pub(super) too_many: Vec<(&'f Flow, NotProposed)>,
}

pub(super) fn draft<'f>(flows: &[&'f Flow]) -> Drafted<'f> {
    let mut drafted = Drafted {
        drafts: BTreeMap::new(),
        too_many: Vec::new(),
    };
    let pairs: Pairs<'f> = pairs(flows);
    let hosts = virtual_hosts(flows);
    for ((service, source), ports) in pairs {
        let mut whole = BTreeSet::new();
        let mut asked = Vec::new();
        for (port, flows) in ports {
            let requests = flows
                .iter()
                .filter(|flow| is_request(flow))
                .copied()
                .collect::<Vec<_>>();
            if requests.len() < flows.len() {
                whole.insert(port.clone());
            }
            if !requests.is_empty() {
                let nobody = VirtualHosts::default();
                let hosts = hosts.get(&(service, port)).unwrap_or(&nobody);
                let mut grants = grants(&requests, hosts);
                drafted.too_many.extend(shorten(&mut grants, &requests));
                asked.push((port.clone(), grants));
            }
        }
        for (draft, ending) in of_pair(service, whole, asked) {
            let shared = drafted.drafts.entry(draft).or_default();
            shared.sources.insert(source.clone());
            shared.endings.insert(ending);
        }
    }
    drafted
}

fn is_request(flow: &Flow) -> bool {
    flow.key
        .request
        .as_ref()
        .is_some_and(|request| !request.connect)
}

fn virtual_hosts<'f>(
    flows: &[&'f Flow],
) -> BTreeMap<(&'f ServiceName, &'f DnsLabel), VirtualHosts> {
    let mut by_port = BTreeMap::<_, Vec<&Flow>>::new();
    for flow in flows {
        let target = &flow.key.target;
        let of_port = by_port.entry((&target.service, &target.port)).or_default();
        of_port.push(flow);
    }
    by_port
        .into_iter()
        .map(|(port, flows)| (port, VirtualHosts::of(port.0, &flows)))
        .collect()
}

/// Keeps the patterns most used; tells the flows that only the others would allow.
fn shorten<'f>(grants: &mut Vec<Grant>, flows: &[&'f Flow]) -> Vec<(&'f Flow, NotProposed)> {
    let mut counts = BTreeMap::<Box<str>, u64>::new();
    for grant in grants.iter() {
        counts.insert(grant.path.clone(), 0);
    }
    if counts.len() <= PATTERNS_LIMIT {
        return Vec::new();
    }
    let patterns: Vec<(Box<str>, PathPattern)> = counts
        .keys()
        .filter_map(|text| Some((text.clone(), text.parse().ok()?)))
        .collect();
    let matching = |flow: &Flow| {
        let path = flow.key.request.as_ref().map(path_of).unwrap_or_default();
        patterns
            .iter()
            .filter(move |(_, pattern)| pattern.matches(&path))
            .map(|(text, _)| text.clone())
            .collect::<Vec<_>>()
    };
    for flow in flows {
        for text in matching(flow) {
            let count = counts.entry(text).or_default();
            *count = count.saturating_add(flow.count);
        }
    }
    let mut by_use: Vec<_> = counts.into_iter().collect();
    by_use.sort_by_key(|(text, count)| (std::cmp::Reverse(*count), text.clone()));
    let kept: BTreeSet<Box<str>> = by_use
        .into_iter()
        .take(PATTERNS_LIMIT)
        .map(|(text, _)| text)
        .collect();
    grants.retain(|grant| kept.contains(&grant.path));
    let is_lost = |flow: &&&Flow| !matching(flow).iter().any(|text| kept.contains(text));
    let why = NotProposed::TooManyPaths {
        limit: PATTERNS_LIMIT,
    };
    flows
        .iter()
        .filter(is_lost)
        .map(|flow| (*flow, why.clone()))
        .collect()
}

/// The rules of one source for one service, with how their names end: reads and writes apart, and what has no `http` apart.
fn of_pair(
    service: &ServiceName,
    whole: BTreeSet<DnsLabel>,
    asked: Vec<(DnsLabel, Vec<Grant>)>,
) -> Vec<(Draft, String)> {
    let draft = |ports, http| Draft {
        service: service.clone(),
        ports,
        http,
    };
    let room = RULES_OF_A_PAIR - usize::from(!whole.is_empty());
    let groups = groups(asked, room);
    let mut drafts = Vec::new();
    if let [(ports, grants)] = groups.as_slice() {
        let (reads, writes): (Vec<_>, Vec<_>) =
            grants.iter().partition(|grant| is_read(&grant.method));
        let ending = if reads.is_empty() { "" } else { "-write" };
        for (grants, ending) in [(reads, ""), (writes, ending)] {
            if !grants.is_empty() {
                let http = Some(conditions(grants));
                drafts.push((draft(ports.clone(), http), ending.to_owned()));
            }
        }
    } else {
        for (ports, grants) in &groups {
            let http = Some(conditions(grants));
            drafts.push((draft(ports.clone(), http), port_ending(ports)));
        }
    }
    if !whole.is_empty() {
        let ending = if drafts.is_empty() {
            String::new()
        } else {
            port_ending(&whole)
        };
        drafts.push((draft(whole, None), ending));
    }
    drafts
}

fn port_ending(ports: &BTreeSet<DnsLabel>) -> String {
    ports
        .iter()
        .map(|port| format!("-{}", port.as_str()))
        .collect()
}

/// What a reader takes in at once.
pub(super) const RULES_OF_A_PAIR: usize = 3;
/// What one can still read in a review.
const PATTERNS_LIMIT: usize = 100;
