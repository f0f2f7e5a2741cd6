//! The corpus as the library reads it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_catalog::Service;
use weft_identity::ServicePort;
use weft_identity::document::{Origin, read, read_envelope};
use weft_policy::{Case, POLICY_TEST, PolicyTestSpec, World};
use weft_wire::{OutsideServices, Spec, service_facts};

pub(super) const TRUST_DOMAIN: &str = "weft.local";

/// One file: its resources, and the cases about them.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// What can be applied to a mesh.
    pub(super) resources: String,
    pub(super) services: Vec<Service>,
    pub(super) world: World,
    pub(super) cases: Vec<Case>,
}

pub(super) fn files() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/policy");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.into_iter().map(File::read).collect()
}

/// What a case that stays in the mesh is asked of.
pub(super) fn target(case: &Case) -> &ServicePort {
    case.to.service().expect("a service of the mesh")
}

impl File {
    /// Whether its cases lead out of the mesh, past every sidecar but the caller's.
    pub(super) fn leads_outside(&self) -> bool {
        self.services
            .iter()
            .all(|service| service.external.is_some())
    }

    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).expect("a file");
        let mut file = Self {
            text: text.clone(),
            resources: String::new(),
            services: Vec::new(),
            world: World::empty(TRUST_DOMAIN.parse().expect("a trust domain")),
            cases: Vec::new(),
            path,
        };
        for document in text.split("\n---\n") {
            file.add(document);
        }
        let services = file.services.iter().cloned().map(Arc::new);
        file.world.outside = Some(Arc::new(OutsideServices::of(services)));
        file
    }

    fn add(&mut self, document: &str) {
        let origin = Origin {
            file: self.path.display().to_string(),
            first_line: 1,
        };
        let envelope = read_envelope(document, &origin).unwrap_or_else(|error| panic!("{error}"));
        if envelope.kind == POLICY_TEST {
            let test = read::<PolicyTestSpec>(document, &origin, POLICY_TEST)
                .unwrap_or_else(|error| panic!("{error}"));
            self.cases.extend(test.spec.cases.into_vec());
            return;
        }
        self.resources.push_str(&format!("---\n{document}\n"));
        let resource =
            weft_wire::text::read(document, &origin).unwrap_or_else(|error| panic!("{error}"));
        match resource.spec {
            Spec::Mesh(_) => {}
            Spec::Service(service) => {
                let facts = service_facts(&service);
                self.world.services.insert(service.name.clone(), facts);
                self.services.push(service);
            }
            Spec::Allow(rule) => self.world.rules.push(Arc::clone(&rule)),
            Spec::Quarantine(quarantine) => self.world.quarantines.push(quarantine),
            Spec::NamespaceSettings(settings) => {
                let until = settings.learn_until().expect("it learns");
                self.world.learning.insert(settings.namespace, until);
            }
        }
    }
}
