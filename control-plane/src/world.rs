//! What the mesh is right now: services with their rules and endpoints, who is distrusted, the bundle, the settings.
//!
//! A `World` is an immutable snapshot of the store at one revision, made from the one before it by one commit. What
//! cannot be read stops the control plane: a record that is skipped could be the one that cuts somebody off.

mod distrust;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weft_catalog::{Endpoint, Mesh, NamespaceSettings, Service};
use weft_identity::{DnsLabel, RuleName, Serial, ServiceName, SpiffeId, TrustDomain};
use weft_policy::{Quarantine, Rule};
use weft_wire::{ConversionError, Resource, Spec, v1};

pub use distrust::{Distrust, Distrusted};

use crate::store::{Commit, Reader, RevocationTarget, StoreChange, StoreError, StoredEndpoints};

/// The mesh at one revision.
#[derive(Clone)]
pub struct World {
    pub revision: u64,
    pub trust_domain: TrustDomain,
    pub mesh: Mesh,
    /// Empty before the CA was made.
    pub bundle: Arc<v1::TrustBundle>,
    pub distrust: Arc<Distrust>,
    services: Arc<BTreeMap<ServiceName, Arc<Entry>>>,
    quarantines: BTreeMap<RuleName, Quarantine>,
    namespaces: BTreeMap<DnsLabel, NamespaceSettings>,
}

/// Everything about one service. Rules and endpoints may be there before the service is.
#[derive(Clone, Default)]
pub struct Entry {
    pub service: Option<Arc<Service>>,
    pub rules: BTreeMap<RuleName, Arc<Rule>>,
    /// By identity and instance.
    pub endpoints: BTreeMap<(SpiffeId, String), Endpoint>,
}

/// What one commit changed, as views need to know it.
#[derive(Default)]
pub struct Changes {
    pub services: Vec<Pair<Service>>,
    pub rules: Vec<Pair<Rule>>,
    /// Services whose endpoints changed, with the identities that came or went (`true`: came).
    pub endpoints: Vec<(ServiceName, SpiffeId, bool)>,
    /// Services of which an endpoint is another than before, without a change of identities.
    pub moved: BTreeSet<ServiceName>,
    /// Namespaces of which the settings came, went or changed.
    pub namespaces: BTreeSet<DnsLabel>,
    pub distrust: Distrusted,
    pub has_bundle_changed: bool,
    pub has_mesh_changed: bool,
}

/// Before and after.
pub type Pair<T> = (Option<Arc<T>>, Option<Arc<T>>);

/// Why a snapshot cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    #[error("the stored resource {name} cannot be understood")]
    Resource {
        name: String,
        #[source]
        source: ConversionError,
    },
    #[error("the stored endpoints of {owner} cannot be understood: {problem}")]
    Endpoints { owner: String, problem: String },
    #[error("the stored revocation of `{0}` cannot be understood")]
    Revocation(String),
    #[error("the store has closed")]
    Closed,
}

impl World {
    /// Reads everything.
    pub fn load(trust_domain: &TrustDomain, reader: &Reader) -> Result<Self, WorldError> {
        let mut world = Self {
            revision: reader.revision()?,
            trust_domain: trust_domain.clone(),
            mesh: Mesh::default(),
            bundle: Arc::new(reader.bundle()?.unwrap_or_default()),
            distrust: Arc::default(),
            services: Arc::default(),
            quarantines: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        };
        let mut changes = Changes::default();
        for resource in reader.resources()? {
            world.change_resource(None, Some(&resource), &mut changes)?;
        }
        for owned in reader.endpoints()? {
            world.change_endpoints(&owned.owner, None, Some(&owned.endpoints), &mut changes)?;
        }
        world.distrust = Arc::new(world.read_distrust(reader)?);
        Ok(world)
    }

    /// Takes one commit. What a commit does not carry is read from the store, which may be ahead of it by then.
    pub fn apply(
        &mut self,
        commit: &Commit,
        reader: impl Fn() -> Result<Reader, StoreError>,
    ) -> Result<Changes, WorldError> {
        let mut changes = Changes::default();
        let mut has_distrust_changed = false;
        for change in &commit.changes {
            match change {
                StoreChange::Resource { before, after, key } => {
                    has_distrust_changed |= key.kind == "Quarantine";
                    self.change_resource(before.as_deref(), after.as_deref(), &mut changes)?;
                }
                StoreChange::Endpoints {
                    owner,
                    before,
                    after,
                    ..
                } => {
                    self.change_endpoints(
                        owner,
                        before.as_deref(),
                        after.as_deref(),
                        &mut changes,
                    )?;
                }
                StoreChange::Revocations => has_distrust_changed = true,
                StoreChange::Bundle => {
                    self.bundle = Arc::new(reader()?.bundle()?.unwrap_or_default());
                    changes.has_bundle_changed = true;
                }
            }
        }
        if has_distrust_changed {
            let distrust = self.read_distrust(&reader()?)?;
            changes.distrust = self.distrust.difference(&distrust);
            self.distrust = Arc::new(distrust);
        }
        self.revision = commit.revision;
        Ok(changes)
    }

    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &Arc<Entry>)> {
        self.services.iter()
    }

    pub fn entry(&self, name: &ServiceName) -> Option<&Arc<Entry>> {
        self.services.get(name)
    }

    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.entry(name)?.service.as_ref()
    }

    /// Namespaces in learn mode, with its end, whether or not that is over.
    pub fn learning(&self) -> impl Iterator<Item = (&DnsLabel, Timestamp)> {
        let ends = |settings: &NamespaceSettings| settings.learn_until();
        self.namespaces
            .iter()
            .filter_map(move |(namespace, settings)| Some((namespace, ends(settings)?)))
    }

    /// Until when a namespace learns, whether or not that is over; `None`: it is strict.
    pub fn learn_until(&self, namespace: &DnsLabel) -> Option<Timestamp> {
        self.namespaces.get(namespace)?.learn_until()
    }

    fn change_resource(
        &mut self,
        before: Option<&v1::Resource>,
        after: Option<&v1::Resource>,
        changes: &mut Changes,
    ) -> Result<(), WorldError> {
        let before = before.map(read_resource).transpose()?;
        let after = after.map(read_resource).transpose()?;
        // A key names its kind, so both are of one.
        match (before, after) {
            (_, Some(Spec::Mesh(mesh))) => self.change_mesh(mesh, changes),
            (Some(Spec::Mesh(_)), None) => self.change_mesh(Mesh::default(), changes),
            (before, Some(Spec::Service(after))) => {
                let before = before.and_then(service_of);
                self.change_service((before, Some(Arc::new(after))), changes);
            }
            (Some(Spec::Service(before)), None) => {
                self.change_service((Some(Arc::new(before)), None), changes)
            }
            (before, Some(Spec::Allow(after))) => {
                self.change_rule((before.and_then(rule_of), Some(after)), changes)
            }
            (Some(Spec::Allow(before)), None) => self.change_rule((Some(before), None), changes),
            (_, Some(Spec::Quarantine(after))) => {
                drop(self.quarantines.insert(after.name.clone(), after))
            }
            (Some(Spec::Quarantine(before)), None) => drop(self.quarantines.remove(&before.name)),
            (_, Some(Spec::NamespaceSettings(after))) => {
                changes.namespaces.insert(after.namespace.clone());
                self.namespaces.insert(after.namespace.clone(), after);
            }
            (Some(Spec::NamespaceSettings(before)), None) => {
                self.namespaces.remove(&before.namespace);
                changes.namespaces.insert(before.namespace);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn change_mesh(&mut self, mesh: Mesh, changes: &mut Changes) {
        changes.has_mesh_changed |= self.mesh != mesh;
        self.mesh = mesh;
    }

    fn change_service(&mut self, pair: Pair<Service>, changes: &mut Changes) {
        if let Some(service) = pair.1.as_ref().or(pair.0.as_ref()) {
            self.change_entry(&service.name, |entry| entry.service.clone_from(&pair.1));
        }
        changes.services.push(pair);
    }

    fn change_rule(&mut self, pair: Pair<Rule>, changes: &mut Changes) {
        if let Some(before) = &pair.0 {
            self.change_entry(&before.service, |entry| {
                drop(entry.rules.remove(&before.name))
            });
        }
        if let Some(after) = &pair.1 {
            self.change_entry(&after.service, |entry| {
                drop(entry.rules.insert(after.name.clone(), Arc::clone(after)))
            });
        }
        changes.rules.push(pair);
    }

    fn change_endpoints(
        &mut self,
        owner: &str,
        before: Option<&StoredEndpoints>,
        after: Option<&StoredEndpoints>,
        changes: &mut Changes,
    ) -> Result<(), WorldError> {
        let before = read_endpoints(owner, before)?;
        let after = read_endpoints(owner, after)?;
        for (service, endpoint) in &before {
            if after.get(service) == Some(endpoint) {
                continue;
            }
            let key = (endpoint.identity.clone(), endpoint.instance.clone());
            self.change_entry(service, |entry| drop(entry.endpoints.remove(&key)));
            match after.contains_key(service) {
                true => drop(changes.moved.insert(service.clone())),
                false => {
                    changes
                        .endpoints
                        .push((service.clone(), endpoint.identity.clone(), false))
                }
            }
        }
        for (service, endpoint) in after {
            if !before.contains_key(&service) {
                changes
                    .endpoints
                    .push((service.clone(), endpoint.identity.clone(), true));
            }
            let key = (endpoint.identity.clone(), endpoint.instance.clone());
            self.change_entry(&service, |entry| {
                drop(entry.endpoints.insert(key, endpoint))
            });
        }
        Ok(())
    }

    fn change_entry(&mut self, name: &ServiceName, change: impl FnOnce(&mut Entry)) {
        let services = Arc::make_mut(&mut self.services);
        let entry = Arc::make_mut(services.entry(name.clone()).or_default());
        change(entry);
        if entry.service.is_none() && entry.rules.is_empty() && entry.endpoints.is_empty() {
            services.remove(name);
        }
    }

    fn read_distrust(&self, reader: &Reader) -> Result<Distrust, WorldError> {
        let quarantined = self
            .quarantines
            .values()
            .map(|quarantine| &quarantine.workload);
        let mut distrust = Distrust {
            quarantined: quarantined
                .map(|workload| SpiffeId::for_workload(&self.trust_domain, workload))
                .collect(),
            ..Distrust::default()
        };
        for revocation in reader.revocations()? {
            let unreadable = |text: &str| WorldError::Revocation(text.to_owned());
            let identity = match &revocation.identity {
                Some(id) => Some(id.parse::<SpiffeId>().map_err(|_| unreadable(id))?),
                None => None,
            };
            if let RevocationTarget::Identity(id) = &revocation.target {
                distrust
                    .identities
                    .insert(id.parse().map_err(|_| unreadable(id))?);
            }
            for serial in &revocation.serials {
                let read = serial.parse::<Serial>().map_err(|_| unreadable(serial))?;
                distrust.serials.insert(read, identity.clone());
            }
        }
        Ok(distrust)
    }
}

fn service_of(spec: Spec) -> Option<Arc<Service>> {
    match spec {
        Spec::Service(service) => Some(Arc::new(service)),
        Spec::Mesh(_) | Spec::Allow(_) | Spec::Quarantine(_) | Spec::NamespaceSettings(_) => None,
    }
}

fn rule_of(spec: Spec) -> Option<Arc<Rule>> {
    match spec {
        Spec::Allow(rule) => Some(rule),
        Spec::Mesh(_) | Spec::Service(_) | Spec::Quarantine(_) | Spec::NamespaceSettings(_) => None,
    }
}

fn read_resource(resource: &v1::Resource) -> Result<Spec, WorldError> {
    match Resource::try_from(resource) {
        Ok(resource) => Ok(resource.spec),
        Err(source) => {
            let name = resource
                .metadata
                .as_ref()
                .map(|metadata| format!("{}/{}", metadata.namespace, metadata.name));
            Err(WorldError::Resource {
                name: name.unwrap_or_default(),
                source,
            })
        }
    }
}

/// One registration by service: an instance offers a service once.
fn read_endpoints(
    owner: &str,
    endpoints: Option<&StoredEndpoints>,
) -> Result<BTreeMap<ServiceName, Endpoint>, WorldError> {
    let read = |endpoint: &v1::CatalogEndpoint| {
        let service = endpoint
            .service
            .parse::<ServiceName>()
            .map_err(|error| error.to_string())?;
        Endpoint::try_from(&wire_endpoint(endpoint))
            .map(|endpoint| (service, endpoint))
            .map_err(|error| error.to_string())
    };
    endpoints
        .into_iter()
        .flatten()
        .map(|endpoint| {
            read(endpoint).map_err(|problem| WorldError::Endpoints {
                owner: owner.to_owned(),
                problem,
            })
        })
        .collect()
}

fn wire_endpoint(endpoint: &v1::CatalogEndpoint) -> v1::Endpoint {
    v1::Endpoint {
        address: endpoint.address.clone(),
        identity: endpoint.identity.clone(),
        health: endpoint.health,
        instance: endpoint.instance.clone(),
    }
}
