//! What the mesh would say to a call, judged as the sidecars at both ends judge it: by the same evaluator, with the
//! rules that each of them has.

use std::net::{AddrParseError, IpAddr};
use std::sync::Arc;

use jiff::Timestamp;
use weft_catalog::{Port, Service};
use weft_identity::{NameError, ServiceName, ServicePort, SpiffeId, WorkloadName};
use weft_policy::{
    Condition, FoldedPath, HeaderLookup, HeaderValue, HostPort, HttpRequest, Leads, MeshName,
    OwnedSource, Question, Rule, Source, Target, TargetError,
};
use weft_wire::{ConversionError, OutsideServices, encoded_slashes, read_timestamp, v1};

use crate::views::{local_workload, rules_for};
use crate::world::{Entry, World};

/// What a question is judged on.
pub(super) struct Ground<'a> {
    pub(super) world: &'a World,
    /// Workloads that have joined the mesh, whether or not they offer a service.
    pub(super) joined: &'a [WorkloadName],
    pub(super) now: Timestamp,
}

/// Why a question cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    #[error("source: {0}")]
    Source(NameError),
    #[error("target: {0}")]
    Target(TargetError),
    #[error("target: {0}")]
    MeshName(#[from] MeshName),
    #[error("address: {0}")]
    Address(#[from] AddrParseError),
    #[error("at: {0}")]
    At(ConversionError),
}

/// Judges one question.
pub(super) fn explain(
    ground: &Ground<'_>,
    request: &v1::ExplainRequest,
) -> Result<v1::Explanation, QuestionError> {
    let read = read_source(ground.world, &request.source).map_err(QuestionError::Source)?;
    judge(ground, read.borrowed(), request, None)
}

fn judge(
    ground: &Ground<'_>,
    source: Source<'_>,
    request: &v1::ExplainRequest,
    folded: Option<&FoldedPath>,
) -> Result<v1::Explanation, QuestionError> {
    let world = ground.world;
    let target: Target = request.target.parse().map_err(QuestionError::Target)?;
    let address = Some(request.address.as_str()).filter(|text| !text.is_empty());
    let address = address.map(str::parse::<IpAddr>).transpose()?;
    let at = request
        .at
        .as_ref()
        .map(read_timestamp)
        .transpose()
        .map_err(QuestionError::At)?;
    let services = world.services().filter_map(|(_, it)| it.service.clone());
    let asked = Asked {
        ground,
        source,
        outside: &OutsideServices::of(services),
        host: target.host(),
        address,
        now: at.unwrap_or(ground.now),
        folded,
    };
    let (target, mut explanation) = match &target {
        Target::Service(target) => asked.explain(target, request),
        Target::Host(host) => match asked.find(host)? {
            Some(target) => asked.explain(&target, request),
            None => {
                let hint = format!("no external service has {host}");
                (host.to_string(), unknown_target(hint))
            }
        },
    };
    explanation.source = source.to_string();
    explanation.target = target;
    Ok(explanation)
}

/// What the rules say now about a call that was refused; `None`: too little of it is known.
pub(super) fn explain_decision(
    ground: &Ground<'_>,
    decision: &v1::Decision,
) -> Option<v1::Explanation> {
    if decision.service.is_empty() || decision.port.is_empty() {
        return None;
    }
    // Whoever was not verified is in no decision as a source: that its handshake failed is no matter of rules.
    let source: SpiffeId = decision.source.parse().ok()?;
    // Only the shape of the path was recorded: an instance of it is judged, the shape shown and suggested.
    let folded: Option<FoldedPath> = decision.path.parse().ok();
    let instance = folded.as_ref().and_then(FoldedPath::instance);
    let request = v1::ExplainRequest {
        target: format!("{}:{}", decision.service, decision.port),
        method: decision.method.clone(),
        path: instance.unwrap_or_else(|| decision.path.clone()),
        host: decision.host.clone(),
        upgrade: decision.upgrade.clone(),
        ..v1::ExplainRequest::default()
    };
    let mut explanation =
        judge(ground, Source::Identity(&source), &request, folded.as_ref()).ok()?;
    for near in &mut explanation.nearest {
        if near.failed_condition == Condition::Header.as_str() {
            near.got = "headers are not part of a decision".to_owned();
        }
    }
    if explanation.allowed && is_about_form(decision.reason()) {
        explanation.hints.push(format!(
            "the rules allow this call; it was refused for what it was: {}",
            decision.detail
        ));
    } else if explanation.learn_until.is_some() {
        explanation.hints.push(
            "learn mode lets this call pass now; before, the namespace was strict, or the sidecar had not heard of it"
                .to_owned(),
        );
    } else if explanation.allowed {
        explanation.hints.push("the rules of now allow this call; they were others, or the sidecar had not heard of them".to_owned());
    }
    Some(explanation)
}

/// What no rule decides: where the name led, or what came under it.
fn is_about_form(reason: v1::Reason) -> bool {
    matches!(
        reason,
        v1::Reason::Misdirected | v1::Reason::WrongProtocol | v1::Reason::ForbiddenAddress
    )
}

/// A question, its target apart.
struct Asked<'a> {
    ground: &'a Ground<'a>,
    source: Source<'a>,
    outside: &'a OutsideServices,
    /// The host outside that it asks for.
    host: Option<&'a HostPort>,
    address: Option<IpAddr>,
    now: Timestamp,
    /// What the path is one instance of.
    folded: Option<&'a FoldedPath>,
}

impl Asked<'_> {
    fn find(&self, host: &HostPort) -> Result<Option<ServicePort>, MeshName> {
        let world = self.ground.world;
        let is_namespace = |text: &str| {
            let mut services = world.services();
            services.any(|(name, _)| name.namespace.as_str() == text)
        };
        let is_open = |target: &ServicePort| self.is_open(target);
        host.find(&world.trust_domain, is_namespace, self.outside, is_open)
    }

    /// Whether the source has the port in its view.
    fn is_open(&self, target: &ServicePort) -> bool {
        let world = self.ground.world;
        let Some(id) = self.source.identity() else {
            return false;
        };
        let learns = world.learn_until(&target.service.namespace);
        let by_learning =
            learns.is_some_and(|until| self.now < until) && local_workload(world, id).is_some();
        let by_rule = |entry: &Arc<Entry>| {
            let rules = rules_for(world, entry, id, self.now);
            rules.iter().any(|rule| rule.matches_port(&target.port))
        };
        by_learning || world.entry(&target.service).is_some_and(by_rule)
    }

    /// What is said about a target, by its name.
    fn explain(
        &self,
        target: &ServicePort,
        request: &v1::ExplainRequest,
    ) -> (String, v1::Explanation) {
        let world = self.ground.world;
        let known = |service: &Arc<Service>| {
            let port = service.port_called(target.port.as_str())?;
            Some((Arc::clone(service), port.clone()))
        };
        match world.service(&target.service).map(known) {
            None => {
                let hint = unknown_service(world, &target.service);
                (target.to_string(), unknown_target(hint))
            }
            Some(None) => {
                let hint = unknown_port(world, target);
                (target.to_string(), unknown_target(hint))
            }
            Some(Some((service, port))) => {
                let target = ServicePort {
                    service: target.service.clone(),
                    port: port.name.clone(),
                };
                let judged = self.judge((&service, &port), &target, request);
                (target.to_string(), judged)
            }
        }
    }

    fn judge(
        &self,
        (service, port): (&Service, &Port),
        target: &ServicePort,
        request: &v1::ExplainRequest,
    ) -> v1::Explanation {
        let distrust = &self.ground.world.distrust;
        let identity = self.source.identity();
        if identity.is_some_and(|id| distrust.identities.contains(id)) {
            return refused(
                v1::Reason::Revoked,
                vec![format!("{} is revoked", self.source)],
            );
        }
        let headers = Headers(&request.headers);
        let path = request
            .path
            .split('?')
            .next()
            .filter(|path| !path.is_empty())
            .unwrap_or("/");
        let stated = Some(request.host.as_str()).filter(|host| !host.is_empty());
        let host = self.host.map(|asked| &*asked.host);
        let outside = Leads::of(self.outside, target, host, stated, self.address);
        let authority = match stated {
            Some(stated) => Some(stated.to_owned()),
            None => outside.authority(target),
        };
        // A tunnel to a port that is not HTTP is asked for by CONNECT, outside of the mesh.
        let is_http = port.protocol.is_http() || service.external.is_some();
        let http = (is_http && !request.method.is_empty()).then(|| HttpRequest {
            method: &request.method,
            path,
            authority: authority.as_deref(),
            headers: &headers,
            upgrade: Some(request.upgrade.as_str()).filter(|upgrade| !upgrade.is_empty()),
            connect: request.method == "CONNECT",
        });
        let question = Question {
            trust_domain: &self.ground.world.trust_domain,
            source: self.source,
            target,
            quarantined: self.is_quarantined(service),
            learn_until: self.ground.world.learn_until(&target.service.namespace),
            http,
            encoded_slashes: encoded_slashes(service.encoded_slashes),
            now: self.now,
            folded: self.folded,
            outside: Some(outside),
            known_workloads: &known_workloads(self.ground),
        };
        let Some(entry) = self.ground.world.entry(&target.service) else {
            return unknown_target(unknown_service(self.ground.world, &target.service));
        };
        self.both_sides(entry, &question)
    }

    /// The server's side is the authority; the client's must agree where the client is one of ours.
    fn both_sides(&self, entry: &Entry, question: &Question<'_>) -> v1::Explanation {
        let inbound: Vec<Arc<Rule>> = entry.rules.values().cloned().collect();
        let judged = weft_policy::explain(&inbound, question);
        let world = self.ground.world;
        let identity = self.source.identity();
        let local = identity.filter(|id| local_workload(world, id).is_some());
        if let Some(caller) = local.filter(|_| judged.allowed) {
            let outbound = rules_for(world, entry, caller, self.now);
            let client = weft_policy::explain(&outbound, question);
            if (client.allowed, &client.rule) != (judged.allowed, &judged.rule) {
                return (&client).into();
            }
        }
        (&judged).into()
    }

    /// Either end: a service is cut off when everyone who answers for it is, as sidecars judge it; without endpoints, everyone who may.
    fn is_quarantined(&self, service: &Service) -> bool {
        let world = self.ground.world;
        let quarantined = &world.distrust.quarantined;
        let identity = self.source.identity();
        if identity.is_some_and(|id| quarantined.contains(id)) {
            return true;
        }
        if service.external.is_some() {
            return false;
        }
        let endpoints = world
            .entry(&service.name)
            .map(|entry| &entry.endpoints)
            .filter(|endpoints| !endpoints.is_empty());
        match endpoints {
            Some(endpoints) => endpoints.keys().all(|(id, _)| quarantined.contains(id)),
            None => service.workloads.iter().all(|workload| {
                quarantined.contains(&SpiffeId::for_workload(&world.trust_domain, workload))
            }),
        }
    }
}

/// No identity can be read as an address: each has a `/`.
fn read_source(world: &World, text: &str) -> Result<OwnedSource, NameError> {
    if let Ok(address) = text.parse() {
        return Ok(OwnedSource::Address(address));
    }
    if text.starts_with("spiffe://") {
        return text.parse().map(OwnedSource::Identity);
    }
    let workload: WorkloadName = text.parse()?;
    let id = SpiffeId::for_workload(&world.trust_domain, &workload);
    Ok(OwnedSource::Identity(id))
}

/// Whoever offers a service or has joined: only another name is likely to be a typo.
fn known_workloads(ground: &Ground<'_>) -> Vec<WorkloadName> {
    let services = ground
        .world
        .services()
        .filter_map(|(_, entry)| entry.service.as_ref());
    let mut workloads: Vec<WorkloadName> = services
        .flat_map(|service| service.workloads.iter().cloned())
        .chain(ground.joined.iter().cloned())
        .collect();
    workloads.sort();
    workloads.dedup();
    workloads
}

fn unknown_service(world: &World, name: &ServiceName) -> String {
    let known = world
        .services()
        .filter(|(_, entry)| entry.service.is_some())
        .map(|(name, _)| name.to_string());
    match nearest(&name.to_string(), known) {
        Some(near) => format!("there is no service {name}; did you mean {near}?"),
        None => format!("there is no service {name}"),
    }
}

fn unknown_port(world: &World, target: &ServicePort) -> String {
    let ports = world
        .service(&target.service)
        .map(|service| service.ports.as_slice())
        .unwrap_or_default();
    let ports: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    format!(
        "service {} has no port `{}`; its ports are {}",
        target.service,
        target.port,
        ports.join(", ")
    )
}

fn nearest(text: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let near = known.map(|name| (strsim::damerau_levenshtein(text, &name), name));
    near.min()
        .filter(|(distance, _)| *distance <= TYPO_DISTANCE)
        .map(|(_, name)| name)
}

fn unknown_target(hint: String) -> v1::Explanation {
    refused(v1::Reason::UnknownTarget, vec![hint])
}

fn refused(reason: v1::Reason, hints: Vec<String>) -> v1::Explanation {
    v1::Explanation {
        allowed: false,
        reason: reason.into(),
        hints,
        ..v1::Explanation::default()
    }
}

/// The headers of a question.
struct Headers<'a>(&'a [v1::Header]);

impl HeaderLookup for Headers<'_> {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        let mut values = self
            .0
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => HeaderValue::Absent,
            (Some(one), None) => HeaderValue::One(one.value.as_bytes()),
            (Some(_), Some(_)) => HeaderValue::Many,
        }
    }
}

/// Letters by which a mistyped name differs from the one that was meant.
const TYPO_DISTANCE: usize = 3;

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
