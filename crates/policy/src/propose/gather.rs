//! Sorts flows: those that rules are to be made for, those that need none, and those that no rule should be made for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use weft_identity::{ServiceName, ServicePort, SpiffeId};

use super::judge::set_of;
use super::{Basis, LeftOut, NotProposed, order, verdict_of};
use crate::flow::{Flow, FlowRequest, Judged};
use crate::fold::{FoldedPath, FoldedSegment};
use crate::http::{Method, Upgrade};
use crate::request::Reason;
use crate::set::PolicySet;

pub(super) struct Gathered<'f> {
    /// To be allowed by rules that are to be made.
    pub(super) taught: Vec<&'f Flow>,
    /// The rules allow them already.
    pub(super) allowed: Vec<&'f Flow>,
    /// Refused by the rules, and not asked for.
    pub(super) denied: Vec<&'f Flow>,
    pub(super) left_out: Vec<LeftOut>,
}

impl<'f> Gathered<'f> {
    pub(super) fn leave_out(&mut self, flows: Vec<(&'f Flow, NotProposed)>) {
        let gone: HashSet<*const Flow> = flows
            .iter()
            .map(|(flow, _)| std::ptr::from_ref(*flow))
            .collect();
        let stays = |flow: &&Flow| !gone.contains(&std::ptr::from_ref(*flow));
        self.taught.retain(stays);
        self.allowed.retain(stays);
        self.left_out
            .extend(flows.into_iter().map(|(flow, why)| LeftOut {
                flow: flow.clone(),
                why,
            }));
    }
}

pub(super) fn gather<'f>(flows: &'f [Flow], basis: &Basis<'_>) -> Gathered<'f> {
    let mut gathered = Gathered {
        taught: Vec::new(),
        allowed: Vec::new(),
        denied: Vec::new(),
        left_out: Vec::new(),
    };
    let known = Known::new(flows, basis);
    let mut sorted: Vec<&Flow> = flows.iter().collect();
    sorted.sort_by_cached_key(|flow| order(flow));
    for flow in sorted {
        match known.place(flow, basis) {
            Place::Taught => gathered.taught.push(flow),
            Place::Allowed => gathered.allowed.push(flow),
            Place::Denied => gathered.denied.push(flow),
            Place::LeftOut(why) => gathered.left_out.push(LeftOut {
                flow: flow.clone(),
                why,
            }),
        }
    }
    gathered
}

enum Place {
    Taught,
    Allowed,
    Denied,
    LeftOut(NotProposed),
}

/// What is asked of all flows before one is placed.
struct Known<'f> {
    /// The rules as they are, by service.
    sets: HashMap<&'f ServiceName, PolicySet>,
    /// Who sends requests where.
    requests: HashSet<(&'f SpiffeId, &'f ServicePort)>,
}

impl<'f> Known<'f> {
    fn new(flows: &'f [Flow], basis: &Basis<'_>) -> Self {
        let services: BTreeSet<_> = flows.iter().map(|flow| &flow.key.target.service).collect();
        let passed_as_request = |flow: &&Flow| {
            let is_request = flow
                .key
                .request
                .as_ref()
                .is_some_and(|request| !request.connect);
            is_request && (basis.lesson.denied || !matches!(flow.key.judged, Judged::Denied(_)))
        };
        Self {
            sets: services
                .into_iter()
                .map(|service| (service, set_of(basis.world, service, &basis.world.rules)))
                .collect(),
            requests: flows
                .iter()
                .filter(passed_as_request)
                .map(|flow| (&flow.key.source, &flow.key.target))
                .collect(),
        }
    }

    fn place(&self, flow: &'f Flow, basis: &Basis<'_>) -> Place {
        if !basis.world.has_port(&flow.key.target) {
            return Place::LeftOut(NotProposed::UnknownTarget);
        }
        if basis
            .world
            .is_quarantined(&flow.key.source, &flow.key.target.service)
        {
            return Place::LeftOut(NotProposed::Quarantined);
        }
        let is_denied = match flow.key.judged {
            Judged::Denied(reason) => {
                if !is_liftable(reason) && basis.lesson.denied {
                    return Place::LeftOut(NotProposed::Refused(reason));
                }
                true
            }
            Judged::Allowed(_) | Judged::Learned(_) => false,
        };
        if is_denied && !basis.lesson.denied {
            return Place::Denied;
        }
        if !basis.lesson.from_scratch && self.is_allowed(flow, basis) {
            return Place::Allowed;
        }
        match self.teach(flow, basis) {
            Ok(()) => Place::Taught,
            Err(why) => Place::LeftOut(why),
        }
    }

    /// The rules decide, and where the record is too coarse for them, what they decided then.
    fn is_allowed(&self, flow: &Flow, basis: &Basis<'_>) -> bool {
        let Some(set) = self.sets.get(&flow.key.target.service) else {
            return false;
        };
        match verdict_of(set, flow, basis.now) {
            Ok(_) => true,
            Err(Reason::NoRule) => still_granted(set, flow, basis),
            Err(_) => false,
        }
    }

    fn teach(&self, flow: &'f Flow, basis: &Basis<'_>) -> Result<(), NotProposed> {
        let key = &flow.key;
        let is_whole = match &key.request {
            None => {
                let is_opaque = basis.world.is_opaque(&key.target);
                if matches!(key.judged, Judged::Denied(_)) && !is_opaque {
                    return Err(NotProposed::ConnectionOnly);
                }
                true
            }
            Some(request) if request.connect => true,
            Some(request) => {
                sayable(request)?;
                false
            }
        };
        if is_whole && self.requests.contains(&(&key.source, &key.target)) {
            return Err(NotProposed::WholeBesideRequests);
        }
        match key.judged {
            Judged::Learned(reason) if !is_liftable(reason) => Err(NotProposed::Refused(reason)),
            Judged::Learned(_) | Judged::Allowed(_) | Judged::Denied(_) => Ok(()),
        }
    }
}

/// Whether the rule that allowed it then is in force still, for the same source, port and method: its path is recorded by its
/// shape alone, so that a pattern such as `/v*/x` cannot be asked again.
pub(crate) fn still_granted(set: &PolicySet, flow: &Flow, basis: &Basis<'_>) -> bool {
    let Judged::Allowed(name) = &flow.key.judged else {
        return false;
    };
    set.rules().iter().any(|rule| {
        rule.name == *name
            && rule.is_in_force(basis.now)
            && rule.matches_port(&flow.key.target.port)
            && rule.matches_source(&flow.key.source, &basis.world.trust_domain)
            && flow.key.request.as_ref().is_some_and(|request| {
                let folds = request.path.as_ref().is_some_and(FoldedPath::is_folded);
                let same_method = rule.http.listed().iter().any(|condition| {
                    condition
                        .methods
                        .admits(|method| method.as_str() == &*request.method)
                });
                folds && same_method
            })
    })
}

/// Whether rules can say this request without saying nearly everything.
fn sayable(request: &FlowRequest) -> Result<(), NotProposed> {
    request
        .method
        .parse::<Method>()
        .map_err(|_| NotProposed::Method)?;
    for upgrade in offered(request) {
        upgrade
            .parse::<Upgrade>()
            .map_err(|_| NotProposed::Upgrade)?;
    }
    let path = request.path.as_ref().ok_or(NotProposed::Path)?;
    if path.is_not_canonical() {
        return Err(NotProposed::NotCanonical);
    }
    if path.pattern().is_none() {
        return Err(NotProposed::Path);
    }
    let is_word = |segment| matches!(segment, FoldedSegment::Literal(word) if !word.is_empty());
    if path.as_str() != "/" && !path.segments().any(is_word) {
        return Err(NotProposed::CatchAll(path.clone()));
    }
    Ok(())
}

/// The protocols that `Upgrade` names.
pub(super) fn offered(request: &FlowRequest) -> impl Iterator<Item = &str> {
    let value = request.upgrade.as_deref();
    value
        .into_iter()
        .flat_map(|value| value.split(',').map(|name| name.trim_matches([' ', '\t'])))
}

/// Whether a rule could have prevented it.
fn is_liftable(reason: Reason) -> bool {
    match reason {
        Reason::NoRule | Reason::UpgradeNotAllowed => true,
        // a path that is canonical now was not refused for it; the paths are looked at by themselves
        Reason::PathNotCanonical => true,
        Reason::Quarantined
        | Reason::Malformed
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::PolicyUnreadable
        | Reason::Stale
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => false,
    }
}

/// Flows by who calls what, and at which port.
pub(super) type Pairs<'f> =
    BTreeMap<(&'f ServiceName, &'f SpiffeId), BTreeMap<&'f weft_identity::DnsLabel, Vec<&'f Flow>>>;

pub(super) fn pairs<'f>(flows: &[&'f Flow]) -> Pairs<'f> {
    let mut pairs = Pairs::new();
    for flow in flows {
        let ServicePort { service, port } = &flow.key.target;
        let pair = pairs.entry((service, &flow.key.source)).or_default();
        pair.entry(port).or_default().push(flow);
    }
    pairs
}
