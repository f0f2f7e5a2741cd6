//! Policies of other meshes → `Allow` rules, with a note on everything that has no equal.
//!
//! Invariant: what is written allows nothing that the source refuses. Where the source says more than a rule can, the rule
//! says less, and a note says why. Conversion knows only what it was given: the policies, and the workloads, namespaces and
//! services that they select.

mod cluster;
mod companions;
mod grants;
mod istio;
mod kubernetes;
mod linkerd;
mod meta;
mod notes;
mod paths;
mod read;
mod rules;
mod sources;
mod text;

use weft_identity::{TrustDomain, document::Origin};

use crate::rule::Rule;

pub use cluster::{MeshPort, MeshService};
pub use notes::{Note, NoteKind};
pub use read::{ReadError, api_version};

use cluster::Cluster;
use companions::Companion;
use read::Foreign;

/// What the documents do not say themselves.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The trust domain that the rules will be read in.
    pub trust_domain: TrustDomain,
    /// The trust domain of the other mesh, whose workloads become those of ours.
    pub foreign_trust_domain: String,
    /// The namespace of objects that name none.
    pub default_namespace: String,
    /// Where Linkerd's control plane runs, which its identities name.
    pub control_plane_namespace: String,
    /// Where Istio's policies for the whole mesh stand.
    pub root_namespace: String,
}

/// The three sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Kubernetes,
    Istio,
    Linkerd,
}

/// What an import gives: a section for each policy that says something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// About the whole input.
    pub notes: Vec<Note>,
    pub sections: Vec<Section>,
}

/// One policy with the rules that it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `AuthorizationPolicy shop/api (file:line)`.
    pub title: String,
    pub notes: Vec<Note>,
    pub rules: Vec<Rule>,
}

impl Import {
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.sections.iter().flat_map(|section| &section.rules)
    }

    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let of_sections = self.sections.iter().flat_map(|section| &section.notes);
        self.notes.iter().chain(of_sections)
    }
}

/// Collects documents, then converts them together.
#[derive(Debug, Default)]
pub struct Importer {
    networks: Vec<Placed<kubernetes::NetworkObject>>,
    istio: Vec<Placed<istio::AuthorizationObject>>,
    linkerd: Vec<Placed<linkerd::Object>>,
    companions: Vec<Companion>,
    services: Vec<MeshService>,
}

/// A document and where it begins.
#[derive(Debug)]
struct Placed<T> {
    at: String,
    value: T,
}

/// Why an input as a whole cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("{at}: {problem}")]
    Document { at: String, problem: String },
    #[error(
        "policies of both Istio and Linkerd: a request would have to pass both; import them one after the other, each with its own workloads"
    )]
    TwoMeshes,
}

impl Importer {
    /// Takes one document of another mesh or of Kubernetes.
    pub fn read(&mut self, text: &str, origin: &Origin) -> Result<(), ReadError> {
        for foreign in read::read(text, origin)? {
            let at = format!("{}:{}", origin.file, origin.first_line);
            match foreign {
                Foreign::Network(value) => self.networks.push(Placed { at, value }),
                Foreign::Istio(value) => self.istio.push(Placed { at, value }),
                Foreign::Linkerd(value) => self.linkerd.push(Placed { at, value }),
                Foreign::Companion(companion) => self.companions.push(companion),
            }
        }
        Ok(())
    }

    /// Takes a service of ours.
    pub fn add_service(&mut self, service: MeshService) {
        self.services.push(service);
    }

    /// The sources of which there are policies.
    pub fn sources(&self) -> Vec<Source> {
        let found = [
            (Source::Kubernetes, self.networks.is_empty()),
            (Source::Istio, self.istio.is_empty()),
            (Source::Linkerd, self.linkerd.is_empty()),
        ];
        found
            .into_iter()
            .filter(|(_, none)| !none)
            .map(|(source, _)| source)
            .collect()
    }

    pub fn convert(self, options: &ImportOptions) -> Result<Import, ImportError> {
        if !self.istio.is_empty() && !self.linkerd.is_empty() {
            return Err(ImportError::TwoMeshes);
        }
        let cluster = Cluster::new(self.companions, &self.services, &options.default_namespace);
        let networks = kubernetes::Networks::new(self.networks, options)?;
        let context = Context {
            options,
            cluster: &cluster,
            networks: &networks,
        };
        let mut import = Import::default();
        // what a mesh's policy covers, a NetworkPolicy alone does not open
        let covered = match (self.istio.is_empty(), self.linkerd.is_empty()) {
            (false, _) => istio::convert(self.istio, &context, &mut import)?,
            (_, false) => linkerd::convert(self.linkerd, &context, &mut import)?,
            (true, true) => Default::default(),
        };
        networks.convert(&context, &covered, &mut import);
        notes::about_the_whole(&context, &covered, &mut import);
        rules::name_apart(&mut import);
        Ok(import)
    }
}

/// What every conversion asks.
#[derive(Clone, Copy)]
struct Context<'c> {
    options: &'c ImportOptions,
    cluster: &'c Cluster,
    networks: &'c kubernetes::Networks,
}
