//! What a verdict is judged against: rules, quarantines and services, from files or from the live mesh.
//!
//! Invariant: the judge is `policy`'s own; here its inputs are gathered and nothing is decided.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{ServicePort, TrustDomain, WorkloadName};
use weft_policy::{
    Explanation, HttpRequest, Leads, MeshName, Near, Question, Reason, Source, Target, World,
    explain,
};
use weft_wire::{Kind, OutsideServices, Resource, Spec, service_facts, v1};

use crate::client::{Client, refused};

/// The world that some resources make.
pub(crate) fn world<'r>(
    trust_domain: &TrustDomain,
    resources: impl IntoIterator<Item = &'r Resource>,
) -> World {
    let mut world = World::empty(trust_domain.clone());
    let mut services = Vec::new();
    for resource in resources {
        match &resource.spec {
            Spec::Mesh(_) => {}
            Spec::Service(service) => {
                let facts = service_facts(service);
                world.services.insert(service.name.clone(), facts);
                services.push(Arc::new(service.clone()));
            }
            Spec::Allow(rule) => world.rules.push(Arc::clone(rule)),
            Spec::Quarantine(quarantine) => world.quarantines.push(quarantine.clone()),
            Spec::NamespaceSettings(settings) => {
                let until = settings.learn_until();
                let namespace = settings.namespace.clone();
                world.learning.extend(until.map(|until| (namespace, until)));
            }
        }
    }
    world.outside = Some(Arc::new(OutsideServices::of(services)));
    world
}

/// One question put to a world.
pub(crate) struct Asked<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) target: &'a Target,
    pub(crate) http: Option<HttpRequest<'a>>,
    /// What a host outside leads to.
    pub(crate) address: Option<IpAddr>,
    pub(crate) now: Timestamp,
}

/// Explains what a world says, as a sidecar in it would decide; and which port it was about, if there is one.
pub(crate) fn explain_in(
    world: &World,
    asked: &Asked<'_>,
) -> Result<(Option<ServicePort>, Explanation), MeshName> {
    let Some(target) = world.find(asked.source, asked.target, asked.now)? else {
        let hint = format!("no external service has {}", asked.target);
        return Ok((None, unknown(Vec::new(), hint)));
    };
    let service = &target.service;
    let facts = world.services.get(service);
    let mut known: Vec<WorkloadName> = world
        .services
        .values()
        .flat_map(|facts| facts.workloads.clone())
        .collect();
    known.sort();
    known.dedup();
    let stated = asked.http.as_ref().and_then(|http| http.authority);
    let outside = world.outside.as_deref().map(|services| {
        let host = asked.target.host().map(|asked| &*asked.host);
        Leads::of(services, &target, host, stated, asked.address)
    });
    let authority = match (&outside, stated) {
        (Some(outside), None) => outside.authority(&target),
        (_, stated) => stated.map(str::to_owned),
    };
    let http = asked.http.map(|http| HttpRequest {
        authority: authority.as_deref(),
        ..http
    });
    let question = Question {
        trust_domain: &world.trust_domain,
        source: asked.source,
        target: &target,
        quarantined: world.is_quarantined(asked.source, service),
        learn_until: world.learn_until(service),
        http,
        encoded_slashes: facts.map(|facts| facts.encoded_slashes).unwrap_or_default(),
        now: asked.now,
        folded: None,
        outside,
        known_workloads: &known,
    };
    let explanation = explain(&world.rules, &question);
    if world.has_port(&target) {
        return Ok((Some(target), explanation));
    }
    let hint = format!("no service offers {target}");
    Ok((Some(target), unknown(explanation.nearest, hint)))
}

fn unknown(nearest: Vec<Near>, hint: String) -> Explanation {
    Explanation {
        allowed: false,
        rule: None,
        reason: Some(Reason::UnknownTarget),
        learn_until: None,
        nearest,
        suggested_yaml: None,
        hints: vec![hint],
    }
}

/// Every resource of the live mesh, of one kind or of all.
pub(crate) async fn live(
    client: &Client,
    kind: Option<Kind>,
    namespace: &str,
) -> anyhow::Result<Vec<Resource>> {
    let mut resources = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRequest {
            kind: kind.map(|kind| kind.to_string()).unwrap_or_default(),
            namespace: namespace.to_owned(),
            page_size: 0,
            page_token,
            set: String::new(),
        };
        let page = client
            .resources()
            .list(request)
            .await
            .map_err(refused)?
            .into_inner();
        for resource in &page.resources {
            resources.push(Resource::try_from(resource)?);
        }
        if page.next_page_token.is_empty() {
            return Ok(resources);
        }
        page_token = page.next_page_token;
    }
}
