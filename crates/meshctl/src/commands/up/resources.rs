//! The resources that a mesh file names: read before anything starts, applied once the control plane runs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use jiff::Timestamp;
use weft_catalog::Service;
use weft_identity::{SpiffeId, TrustDomain};
use weft_policy::{Match, Rule, SourcePattern, World};
use weft_wire::{Resource, Spec, v1};

use crate::client::{Client, refused};
use crate::documents;
use crate::world::world;

/// Everything that the resource files say.
#[derive(Debug)]
pub(super) struct MeshResources {
    pub(super) services: Vec<Service>,
    rules: Vec<Arc<Rule>>,
    all: Vec<Resource>,
}

impl MeshResources {
    /// Reads the files; all their problems are told together.
    pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Self> {
        let named: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let read = documents::load(&named)?;
        let mut resources = Self {
            services: Vec::new(),
            rules: Vec::new(),
            all: Vec::new(),
        };
        for placed in read.resources {
            match &placed.value.spec {
                Spec::Service(service) => resources.services.push(service.clone()),
                Spec::Allow(rule) => resources.rules.push(Arc::clone(rule)),
                Spec::Mesh(_) | Spec::Quarantine(_) | Spec::NamespaceSettings(_) => {}
            }
            resources.all.push(placed.value);
        }
        Ok(resources)
    }

    /// Applies them; what was applied by an earlier start and has left the files goes.
    pub(super) async fn apply(&self, client: &Client) -> anyhow::Result<v1::ApplyResponse> {
        let request = v1::ApplyRequest {
            resources: self.all.iter().map(Into::into).collect(),
            dry_run: false,
            set: SET.to_owned(),
            prune: true,
            preconditions: Vec::new(),
        };
        let answer = client
            .resources()
            .apply(request)
            .await
            .map_err(refused)?
            .into_inner();
        Ok(answer)
    }

    /// The service ports that rules in force open to an identity, and the services of namespaces that learn.
    pub(super) fn may_call(&self, id: &SpiffeId, trust_domain: &TrustDomain) -> Vec<String> {
        let now = Timestamp::now();
        let mut open: Vec<String> = self.learning(id, trust_domain, now).collect();
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.is_in_force(now) && rule.matches_source(id, trust_domain))
        {
            let service = &rule.service;
            match &rule.ports {
                Match::Any => open.push(service.to_string()),
                Match::OneOf(ports) => {
                    open.extend(ports.iter().map(|port| format!("{service}:{port}")))
                }
            }
        }
        open.sort();
        open.dedup();
        open
    }

    fn learning(
        &self,
        id: &SpiffeId,
        trust_domain: &TrustDomain,
        now: Timestamp,
    ) -> impl Iterator<Item = String> {
        let world = self.world(trust_domain);
        let is_open = move |service: &&Service| {
            SourcePattern::AnyLocal.matches(id, trust_domain)
                && world
                    .learn_until(&service.name)
                    .is_some_and(|until| now < until)
        };
        let open = self.services.iter().filter(is_open);
        open.map(|service| service.name.to_string())
    }

    /// What verdicts about this mesh are judged against.
    pub(super) fn world(&self, trust_domain: &TrustDomain) -> World {
        world(trust_domain, &self.all)
    }

    /// Each upstream that a workload lists must be a port of a service.
    pub(super) fn check(&self, mesh: &super::mesh_file::MeshFile) -> anyhow::Result<()> {
        for workload in &mesh.workloads {
            for upstream in &workload.upstreams {
                let known = self
                    .services
                    .iter()
                    .find(|service| service.name == upstream.service);
                match known {
                    None => bail!(
                        "{} lists the upstream {upstream}, but no resource file has that service",
                        workload.name
                    ),
                    Some(service) if service.port(&upstream.port).is_none() => {
                        bail!(
                            "{} lists the upstream {upstream}, but that service has no such port",
                            workload.name
                        )
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// What `up` applies is one set: a resource that leaves the files leaves the mesh at the next start.
const SET: &str = "up";
