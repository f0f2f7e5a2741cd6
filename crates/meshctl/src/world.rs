//! What a verdict is judged against: rules, quarantines and services, from files or from the live mesh.
//!
//! Invariant: the judge is `policy`'s own; here its inputs are gathered and nothing is decided.

use std::collections::BTreeMap;

use jiff::Timestamp;
use weft_catalog::Protocol;
use weft_identity::{ServicePort, TrustDomain, WorkloadName};
use weft_policy::{
    Explanation, HttpRequest, Question, Reason, ServiceFacts, Source, World, explain,
};
use weft_wire::{Kind, Resource, Spec, encoded_slashes, v1};

use crate::client::{Client, refused};

/// The world that some resources make.
pub(crate) fn world<'r>(
    trust_domain: &TrustDomain,
    resources: impl IntoIterator<Item = &'r Resource>,
) -> World {
    let mut world = World {
        trust_domain: trust_domain.clone(),
        rules: Vec::new(),
        quarantines: Vec::new(),
        learning: BTreeMap::new(),
        services: BTreeMap::new(),
    };
    for resource in resources {
        match &resource.spec {
            Spec::Mesh(_) => {}
            Spec::Service(service) => {
                let facts = ServiceFacts {
                    workloads: service.workloads.clone(),
                    ports: service.ports.iter().map(|port| port.name.clone()).collect(),
                    opaque_ports: service
                        .ports
                        .iter()
                        .filter(|port| port.protocol == Protocol::Tcp)
                        .map(|port| port.name.clone())
                        .collect(),
                    encoded_slashes: encoded_slashes(service.encoded_slashes),
                };
                world.services.insert(service.name.clone(), facts);
            }
            Spec::Allow(rule) => world.rules.push(std::sync::Arc::clone(rule)),
            Spec::Quarantine(quarantine) => world.quarantines.push(quarantine.clone()),
            Spec::NamespaceSettings(settings) => {
                let until = settings.learn_until();
                let namespace = settings.namespace.clone();
                world.learning.extend(until.map(|until| (namespace, until)));
            }
        }
    }
    world
}

/// One question put to a world.
pub(crate) struct Asked<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) target: &'a ServicePort,
    pub(crate) http: Option<HttpRequest<'a>>,
    pub(crate) now: Timestamp,
}

/// Explains what a world says, as a sidecar in it would decide.
pub(crate) fn explain_in(world: &World, asked: &Asked<'_>) -> Explanation {
    let service = &asked.target.service;
    let facts = world.services.get(service);
    let mut known: Vec<WorkloadName> = world
        .services
        .values()
        .flat_map(|facts| facts.workloads.clone())
        .collect();
    known.sort();
    known.dedup();
    let question = Question {
        trust_domain: &world.trust_domain,
        source: asked.source,
        target: asked.target,
        quarantined: world.is_quarantined(asked.source, service),
        learn_until: world.learn_until(service),
        http: asked.http,
        encoded_slashes: facts.map(|facts| facts.encoded_slashes).unwrap_or_default(),
        now: asked.now,
        folded: None,
        known_workloads: &known,
    };
    let explanation = explain(&world.rules, &question);
    let is_served = world.services.is_empty()
        || facts.is_some_and(|facts| facts.ports.contains(&asked.target.port));
    if is_served {
        return explanation;
    }
    Explanation {
        allowed: false,
        rule: None,
        reason: Some(Reason::UnknownTarget),
        learn_until: None,
        suggested_yaml: None,
        hints: vec![format!("no service offers {}", asked.target)],
        ..explanation
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
