//! The delta xDS protocol of one stream, without the stream: requests and views in, responses out.
//!
//! Invariant: `sent` is what the client has been given and has not given back. A name is acknowledged when the newest
//! response that carried it was; a view is, when every name of it is and no response is open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_catalog::view::diff;
use weft_wire::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use crate::views::{Item, Kind, View};

/// The state of one stream.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    subscriptions: BTreeMap<Kind, Subscription>,
    /// Responses without an answer yet, oldest first.
    open: BTreeMap<u64, OpenResponse>,
    /// Of the names in them.
    open_bytes: usize,
    last_nonce: u64,
    /// The view that has been sent in full.
    current: u64,
    acknowledged: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    is_wildcard: bool,
    names: BTreeSet<String>,
    /// What is kept because the client said it: its names, and what it came with.
    said_bytes: usize,
    sent: BTreeMap<String, String>,
    /// Names that the client could not read, as it said itself.
    refused: BTreeMap<String, Arc<str>>,
    /// Names that were asked for anew: they are answered whatever was sent before.
    asked: BTreeSet<String>,
    /// The first request for a kind is answered even when there is nothing to say.
    owes_answer: bool,
}

#[derive(Debug)]
struct OpenResponse {
    kind: Kind,
    names: Vec<String>,
    /// What had been sent in full before it; 0 for the first of its kind, before which nothing was.
    previous: u64,
}

/// Why a stream cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("`{0}` is not a type of this server")]
    UnknownType(String),
    #[error("more than {NAMES_LIMIT} names in one subscription")]
    TooManyNames,
    #[error("a resource name is longer than {NAME_BYTES} bytes")]
    LongName,
    #[error("the version of a resource is longer than {VERSION_BYTES} bytes")]
    LongVersion,
    #[error("more than {SAID_BYTES} bytes of names and versions in one stream")]
    TooMuch,
}

impl Exchange {
    /// Takes one request: an ACK, a NACK, a change of the subscription, or both.
    pub(super) fn receive(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), ExchangeError> {
        let kind =
            Kind::of_type_url(&request.type_url).ok_or_else(|| unknown_type(&request.type_url))?;
        self.settle(kind, request);
        let is_first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        if is_first {
            subscription.begin(request)?;
        }
        subscription.change(request)?;
        let subscriptions = self.subscriptions.values();
        let said: usize = subscriptions
            .map(|subscription| subscription.said_bytes)
            .sum();
        if said > SAID_BYTES {
            return Err(ExchangeError::TooMuch);
        }
        Ok(())
    }

    /// Everything that the client must hear to have this view: what takes away before what gives.
    pub(super) fn answer(&mut self, view: &View) -> Vec<DeltaDiscoveryResponse> {
        if self.open.len() >= OPEN_RESPONSES || self.open_bytes >= OPEN_BYTES {
            return Vec::new();
        }
        let mut differences: Vec<(Kind, Difference)> = self
            .subscriptions
            .iter_mut()
            .filter_map(|(kind, subscription)| {
                Some((*kind, subscription.difference(view.of(*kind))?))
            })
            .collect();
        differences.sort_by_key(|(kind, difference)| {
            (
                *kind != Kind::Revocations,
                difference.removed.is_empty(),
                *kind,
            )
        });
        let before = self.current;
        self.current = view.revision;
        let mut responses = Vec::new();
        for (kind, difference) in differences {
            let previous = if difference.is_first { 0 } else { before };
            for part in difference.split() {
                responses.push(self.respond(kind, part, view.revision, previous));
            }
        }
        self.settle_view();
        responses
    }

    /// The newest view that the client enforces in full; 0: none yet.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What the client could not read, for people; empty: nothing.
    pub(super) fn refused(&self) -> String {
        let refused = self
            .subscriptions
            .values()
            .flat_map(|subscription| subscription.refused.values());
        refused
            .collect::<BTreeSet<_>>()
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn respond(
        &mut self,
        kind: Kind,
        part: Difference,
        revision: u64,
        previous: u64,
    ) -> DeltaDiscoveryResponse {
        self.last_nonce += 1;
        let names: Vec<String> = part
            .changed
            .iter()
            .map(|(name, _)| name)
            .chain(&part.removed)
            .cloned()
            .collect();
        self.open_bytes += bytes_of(&names);
        self.open.insert(
            self.last_nonce,
            OpenResponse {
                kind,
                names,
                previous,
            },
        );
        let resources = part.changed.into_iter().map(|(name, item)| Resource {
            version: item.version.clone(),
            resource: Some(item.any.clone()),
            name,
            aliases: Vec::new(),
        });
        DeltaDiscoveryResponse {
            system_version_info: revision.to_string(),
            resources: resources.collect(),
            type_url: kind.type_url().to_owned(),
            nonce: self.last_nonce.to_string(),
            removed_resources: part.removed,
        }
    }

    /// Matches an answer with its response. A nonce that is not open is a client's mistake and means nothing.
    fn settle(&mut self, kind: Kind, request: &DeltaDiscoveryRequest) {
        let Ok(nonce) = request.response_nonce.parse::<u64>() else {
            return;
        };
        if self.open.get(&nonce).is_none_or(|open| open.kind != kind) {
            return;
        }
        let Some(open) = self.open.remove(&nonce) else {
            return;
        };
        self.open_bytes -= bytes_of(&open.names);
        let Some(subscription) = self.subscriptions.get_mut(&kind) else {
            return;
        };
        let reason = request
            .error_detail
            .as_ref()
            .map(|status| match status.message.as_str() {
                "" => Arc::from(UNEXPLAINED),
                message => Arc::from(shown(message)),
            });
        for name in open.names {
            match &reason {
                Some(reason) => subscription.refused.insert(name, Arc::clone(reason)),
                None => subscription.refused.remove(&name),
            };
        }
        self.settle_view();
    }

    fn settle_view(&mut self) {
        let is_refused = self
            .subscriptions
            .values()
            .any(|subscription| !subscription.refused.is_empty());
        let is_whole = ENFORCED
            .iter()
            .all(|kind| self.subscriptions.contains_key(kind));
        if is_refused || !is_whole {
            return;
        }
        // Not the oldest's: a kind that is followed since later has been answered with nothing before.
        let reached = self
            .open
            .values()
            .map(|open| open.previous)
            .min()
            .unwrap_or(self.current);
        self.acknowledged = self.acknowledged.max(reached);
    }
}

impl Subscription {
    /// A kind's first request says what the client still has from an earlier stream.
    fn begin(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), ExchangeError> {
        if request.initial_resource_versions.len() > NAMES_LIMIT {
            return Err(ExchangeError::TooManyNames);
        }
        for (name, version) in &request.initial_resource_versions {
            if name.len() > NAME_BYTES {
                return Err(ExchangeError::LongName);
            }
            if version.len() > VERSION_BYTES {
                return Err(ExchangeError::LongVersion);
            }
            self.said_bytes += name.len() + version.len();
        }
        self.is_wildcard = request.resource_names_subscribe.is_empty();
        self.owes_answer = true;
        self.sent = request
            .initial_resource_versions
            .clone()
            .into_iter()
            .collect();
        Ok(())
    }

    fn change(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), ExchangeError> {
        for name in &request.resource_names_subscribe {
            if name.len() > NAME_BYTES {
                return Err(ExchangeError::LongName);
            }
            match name.as_str() {
                WILDCARD => self.is_wildcard = true,
                name => {
                    if self.names.insert(name.to_owned()) {
                        self.said_bytes += name.len();
                    }
                    // What the client still has from an earlier stream is sent only if it differs.
                    if !request.initial_resource_versions.contains_key(name) {
                        self.asked.insert(name.to_owned());
                    }
                }
            }
        }
        for name in &request.resource_names_unsubscribe {
            match name.as_str() {
                WILDCARD => self.is_wildcard = false,
                name => {
                    if self.names.remove(name) {
                        self.said_bytes -= name.len();
                    }
                    self.asked.remove(name);
                }
            }
        }
        if self.names.len() > NAMES_LIMIT {
            return Err(ExchangeError::TooManyNames);
        }
        self.forget_unsubscribed();
        Ok(())
    }

    /// The client drops by itself what it no longer subscribes to.
    fn forget_unsubscribed(&mut self) {
        if self.is_wildcard {
            return;
        }
        let names = &self.names;
        self.sent.retain(|name, _| names.contains(name));
        self.refused.retain(|name, _| names.contains(name));
    }

    /// What to send; `None`: nothing. From here on it counts as sent.
    fn difference(&mut self, now: &BTreeMap<String, Arc<Item>>) -> Option<Difference> {
        let wanted = |name: &str| self.is_wildcard || self.names.contains(name);
        let versions: BTreeMap<String, String> = now
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, item)| (name.clone(), item.version.clone()))
            .collect();
        let (mut changed, mut removed): (BTreeSet<String>, BTreeSet<String>) = {
            let difference = diff(&self.sent, &versions);
            (
                difference.changed.into_iter().cloned().collect(),
                difference.removed.into_iter().cloned().collect(),
            )
        };
        // A refused response is sent again in whole with the first change to it: only so can it be acknowledged.
        if self
            .refused
            .keys()
            .any(|name| changed.contains(name) || removed.contains(name))
        {
            self.asked.extend(self.refused.keys().cloned());
        }
        for name in std::mem::take(&mut self.asked) {
            match versions.contains_key(&name) {
                true => changed.insert(name),
                false => removed.insert(name),
            };
        }
        let owes_answer = std::mem::take(&mut self.owes_answer);
        if changed.is_empty() && removed.is_empty() && !owes_answer {
            return None;
        }
        self.sent = versions;
        let changed = changed
            .into_iter()
            .filter_map(|name| now.get(&name).cloned().map(|item| (name, item)));
        Some(Difference {
            changed: changed.collect(),
            removed: removed.into_iter().collect(),
            is_first: owes_answer,
        })
    }
}

/// What one or more responses of one kind carry.
struct Difference {
    changed: Vec<(String, Arc<Item>)>,
    removed: Vec<String>,
    /// Of its kind on this stream.
    is_first: bool,
}

impl Difference {
    /// Parts that each fit into a message; removals go with the first.
    fn split(self) -> Vec<Difference> {
        let mut parts = vec![Difference {
            changed: Vec::new(),
            removed: self.removed,
            is_first: self.is_first,
        }];
        let mut bytes = 0;
        for (name, item) in self.changed {
            bytes += name.len() + item.any.value.len();
            let is_full =
                bytes > RESPONSE_BYTES && parts.last().is_some_and(|part| !part.changed.is_empty());
            if is_full {
                bytes = name.len() + item.any.value.len();
                parts.push(Difference {
                    changed: Vec::new(),
                    removed: Vec::new(),
                    is_first: self.is_first,
                });
            }
            if let Some(part) = parts.last_mut() {
                part.changed.push((name, item));
            }
        }
        parts
    }
}

fn bytes_of(names: &[String]) -> usize {
    names.iter().map(String::len).sum()
}

fn unknown_type(type_url: &str) -> ExchangeError {
    ExchangeError::UnknownType(shown(type_url))
}

/// A peer's text, short and on one line.
fn shown(text: &str) -> String {
    crate::escape::line(text, SHOWN_CHARS)
}

const WILDCARD: &str = "*";
/// A client enforces nothing before it follows all of these.
const ENFORCED: [Kind; 3] = [Kind::Revocations, Kind::Inbound, Kind::Outbound];
/// Most responses that wait for an answer; what changes meanwhile is sent as one.
const OPEN_RESPONSES: usize = 64;
/// Most bytes of names in them, beyond which nothing is added to them.
const OPEN_BYTES: usize = 1 << 20;
const NAMES_LIMIT: usize = 10_000;
const NAME_BYTES: usize = 512;
/// Several times those of ours.
const VERSION_BYTES: usize = 128;
/// Names and versions that are kept for a client because it said them, of all kinds together.
const SAID_BYTES: usize = 4 << 20;
/// Well below what a gRPC client takes in one message by default.
const RESPONSE_BYTES: usize = 1 << 20;
const SHOWN_CHARS: usize = 300;
/// A refusal without words is one, too.
const UNEXPLAINED: &str = "it did not say why";

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
