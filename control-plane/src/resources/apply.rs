//! What an apply or a delete would do: read all of it, then decide against what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tonic::Status;
use weft_catalog::{NamespaceSettings, Service};
use weft_identity::{DnsLabel, RuleName, ServiceName, TrustDomain};
use weft_policy::Rule;
use weft_wire::v1::change::Action;
use weft_wire::{Resource, ResourceKey, Spec, v1};

use super::read::{admit, check_count, read_preconditions, read_set, shown_name};
use crate::store::{StoreError, WriteTx};
use crate::world::World;

/// A request that is valid by itself.
#[derive(Debug, Default)]
pub(super) struct Edit {
    puts: BTreeMap<ResourceKey, Resource>,
    deletes: BTreeSet<ResourceKey>,
    /// Members of this set that are not among `puts` go.
    prunes: Option<DnsLabel>,
    preconditions: Vec<(ResourceKey, u64)>,
}

/// What to write, and what to answer.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// `None` deletes. Empty: nothing changes.
    pub(super) writes: Vec<(ResourceKey, Option<v1::Resource>)>,
    pub(super) changes: Vec<v1::Change>,
    pub(super) warnings: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("{key}: its revision is {found}, not {expected}: it was changed meanwhile")]
    Conflict {
        key: ResourceKey,
        expected: u64,
        found: u64,
    },
    #[error("there is no {0}")]
    Missing(ResourceKey),
    #[error(
        "Allow/{rule}: spec.to.ports: service {service} has no port `{port}`; its ports are {ports}"
    )]
    NoSuchPort {
        rule: RuleName,
        service: ServiceName,
        port: DnsLabel,
        ports: String,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApplyError {
    pub(super) fn into_status(self) -> Status {
        match self {
            Self::Conflict { .. } => Status::aborted(self.to_string()),
            Self::Missing(_) => Status::not_found(self.to_string()),
            Self::NoSuchPort { .. } => Status::invalid_argument(self.to_string()),
            Self::Store(error) => crate::hub::internal(error),
        }
    }
}

impl Edit {
    /// Reads every resource or none.
    pub(super) fn read_apply(
        trust_domain: &TrustDomain,
        request: v1::ApplyRequest,
    ) -> Result<Self, Status> {
        check_count("resources", request.resources.len())?;
        let set = read_set(&request.set)?;
        if request.prune && set.is_none() {
            return Err(Status::invalid_argument(
                "prune: needs a set, as only members of a set are pruned",
            ));
        }
        let mut edit = Self {
            preconditions: read_preconditions(&request.preconditions)?,
            ..Self::default()
        };
        for (i, message) in request.resources.iter().enumerate() {
            let mut resource = Resource::try_from(message).map_err(|error| {
                Status::invalid_argument(format!("{}: {error}", shown_name(i, message)))
            })?;
            admit(&resource, trust_domain, Timestamp::now()).map_err(|problem| {
                Status::invalid_argument(format!("{}: {problem}", resource.key()))
            })?;
            resource.revision = 0;
            resource.set = set.clone();
            let key = resource.key();
            if edit.puts.insert(key.clone(), resource).is_some() {
                return Err(Status::invalid_argument(format!(
                    "{key}: appears twice in one request"
                )));
            }
        }
        edit.prunes = set.filter(|_| request.prune);
        Ok(edit)
    }

    pub(super) fn read_delete(request: v1::DeleteRequest) -> Result<Self, Status> {
        check_count("keys", request.keys.len())?;
        let preconditions = read_preconditions(&request.preconditions)?;
        let deletes = request.keys.iter().enumerate().map(|(i, key)| {
            ResourceKey::try_from(key)
                .map_err(|error| Status::invalid_argument(format!("keys[{i}].{error}")))
        });
        Ok(Self {
            deletes: deletes.collect::<Result<_, _>>()?,
            preconditions,
            ..Self::default()
        })
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.puts
            .values()
            .filter_map(|resource| match &resource.spec {
                Spec::Allow(rule) => Some(rule),
                Spec::Mesh(_)
                | Spec::Service(_)
                | Spec::Quarantine(_)
                | Spec::NamespaceSettings(_) => None,
            })
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &NamespaceSettings> {
        self.puts
            .values()
            .filter_map(|resource| match &resource.spec {
                Spec::NamespaceSettings(settings) => Some(settings),
                Spec::Mesh(_) | Spec::Service(_) | Spec::Allow(_) | Spec::Quarantine(_) => None,
            })
    }

    pub(super) fn service(&self, name: &ServiceName) -> Option<&Service> {
        match self
            .puts
            .get(&ResourceKey::service(name))
            .map(|resource| &resource.spec)?
        {
            Spec::Service(service) => Some(service),
            Spec::Mesh(_) | Spec::Allow(_) | Spec::Quarantine(_) | Spec::NamespaceSettings(_) => {
                None
            }
        }
    }

    pub(super) fn puts_rule(&self, name: &RuleName) -> bool {
        self.puts.contains_key(&ResourceKey::allow(name))
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.puts
            .values()
            .filter_map(|resource| match &resource.spec {
                Spec::Service(service) => Some(service),
                Spec::Mesh(_)
                | Spec::Allow(_)
                | Spec::Quarantine(_)
                | Spec::NamespaceSettings(_) => None,
            })
    }

    /// The linter's word on the mesh as it would be. Advice, so a world that is a moment old is good enough.
    pub(super) fn warnings(&self, world: &World, now: Timestamp) -> Vec<String> {
        let stored = world
            .services()
            .filter(|(_, entry)| entry.service.is_some())
            .map(|(name, _)| name);
        let services: BTreeSet<&ServiceName> = stored
            .chain(self.services().map(|service| &service.name))
            .collect();
        let services: Vec<ServiceName> = services.into_iter().cloned().collect();
        let own: BTreeSet<&RuleName> = self.rules().map(|rule| &rule.name).collect();
        let touched: BTreeSet<&ServiceName> = self.rules().map(|rule| &rule.service).collect();
        let siblings = touched
            .into_iter()
            .filter_map(|name| world.entry(name))
            .flat_map(|entry| entry.rules.values());
        let siblings = siblings.filter(|rule| !own.contains(&rule.name));
        let rules: Vec<Arc<Rule>> = self.rules().chain(siblings).cloned().collect();
        let linted = weft_policy::lint(&rules, Some(&services), now);
        let about_own = linted.iter().filter(|warning| own.contains(&warning.rule));
        about_own
            .map(ToString::to_string)
            .chain(self.dangling(world))
            .chain(self.advice(world))
            .chain(self.namespaces().filter_map(|it| learning(it, now)))
            .collect()
    }

    /// Stored rules that name a port which their service would no longer have.
    fn dangling<'a>(&'a self, world: &'a World) -> impl Iterator<Item = String> + 'a {
        self.services().flat_map(move |service| {
            let rules = world
                .entry(&service.name)
                .into_iter()
                .flat_map(|entry| entry.rules.values());
            let stored =
                rules.filter(|rule| !self.puts.contains_key(&ResourceKey::allow(&rule.name)));
            let ports =
                stored.flat_map(|rule| rule.ports.listed().iter().map(move |port| (rule, port)));
            let missing = ports.filter(|(_, port)| service.port(port).is_none());
            missing.map(|(rule, port)| {
                format!(
                    "Allow/{}: names port `{port}`, which {} would not have",
                    rule.name, service.name
                )
            })
        })
    }
}

/// What whoever lets a namespace learn should know.
fn learning(settings: &NamespaceSettings, now: Timestamp) -> Option<String> {
    let (key, namespace) = (
        ResourceKey::namespace_settings(&settings.namespace),
        &settings.namespace,
    );
    let until = settings.learn_until()?;
    Some(if until <= now {
        format!("{key}: learn mode ended at {until}; {namespace} is strict")
    } else {
        format!(
            "{key}: everything passes in {namespace} until {until}, and every workload sees its services and their endpoints"
        )
    })
}

/// Compares the request with what is stored. Nothing is written here.
pub(super) fn decide(edit: &Edit, tx: &WriteTx<'_>) -> Result<Outcome, ApplyError> {
    for (key, expected) in &edit.preconditions {
        let found = tx
            .resource(&key.into())?
            .map_or(0, |resource| resource.revision);
        if found != *expected {
            return Err(ApplyError::Conflict {
                key: key.clone(),
                expected: *expected,
                found,
            });
        }
    }
    let mut outcome = Outcome::default();
    for (key, resource) in &edit.puts {
        put(key, resource, tx, &mut outcome)?;
    }
    for key in &edit.deletes {
        let stored = tx
            .resource(&key.into())?
            .ok_or_else(|| ApplyError::Missing(key.clone()))?;
        outcome.delete(key.clone(), stored);
    }
    if let Some(set) = &edit.prunes {
        prune(edit, set, tx, &mut outcome)?;
    }
    check_ports(edit, tx)?;
    Ok(outcome)
}

fn put(
    key: &ResourceKey,
    resource: &Resource,
    tx: &WriteTx<'_>,
    outcome: &mut Outcome,
) -> Result<(), ApplyError> {
    let mut wanted = v1::Resource::from(resource);
    let stored = tx.resource(&key.into())?;
    if let Some(stored) = &stored {
        // Applied without a set, a resource stays where it is: nobody leaves a set unasked.
        if wanted.set.is_empty() {
            wanted.set.clone_from(&stored.set);
        } else if !stored.set.is_empty() && stored.set != wanted.set {
            outcome.warnings.push(format!(
                "{key} moves from set `{}` to `{}`",
                stored.set, wanted.set
            ));
        }
    }
    let is_same = stored.as_ref().is_some_and(|stored| {
        v1::Resource {
            revision: 0,
            ..stored.clone()
        } == wanted
    });
    let action = match (&stored, is_same) {
        (Some(_), true) => Action::Unchanged,
        (Some(_), false) => Action::Updated,
        (None, _) => Action::Created,
    };
    outcome.changes.push(v1::Change {
        key: Some(key.into()),
        action: action.into(),
        before: stored,
    });
    if !is_same {
        outcome.writes.push((key.clone(), Some(wanted)));
    }
    Ok(())
}

fn prune(
    edit: &Edit,
    set: &DnsLabel,
    tx: &WriteTx<'_>,
    outcome: &mut Outcome,
) -> Result<(), ApplyError> {
    let members = tx
        .resources()?
        .into_iter()
        .filter(|resource| resource.set == set.as_str());
    for member in members {
        let Ok(key) = weft_wire::key_of(&member) else {
            continue;
        };
        if !edit.puts.contains_key(&key) {
            outcome.delete(key, member);
        }
    }
    Ok(())
}

/// A rule may come before its service, but it may not name a port that its service lacks.
fn check_ports(edit: &Edit, tx: &WriteTx<'_>) -> Result<(), ApplyError> {
    for rule in edit.rules() {
        let Some(ports) = ports_of(edit, &rule.service, tx)? else {
            continue;
        };
        if let Some(port) = rule
            .ports
            .listed()
            .iter()
            .find(|port| !ports.iter().any(|name| name == port.as_str()))
        {
            return Err(ApplyError::NoSuchPort {
                rule: rule.name.clone(),
                service: rule.service.clone(),
                port: port.clone(),
                ports: ports.join(", "),
            });
        }
    }
    Ok(())
}

/// The names of a service's ports as they would be; `None`: there would be no such service.
fn ports_of(
    edit: &Edit,
    service: &ServiceName,
    tx: &WriteTx<'_>,
) -> Result<Option<Vec<String>>, ApplyError> {
    let key = ResourceKey::service(service);
    if let Some(Spec::Service(service)) = edit.puts.get(&key).map(|resource| &resource.spec) {
        return Ok(Some(
            service
                .ports
                .iter()
                .map(|port| port.name.to_string())
                .collect(),
        ));
    }
    let stored = tx.resource(&(&key).into())?;
    Ok(stored
        .and_then(|resource| resource.spec)
        .and_then(|spec| match spec {
            v1::resource::Spec::Service(service) => {
                Some(service.ports.into_iter().map(|port| port.name).collect())
            }
            v1::resource::Spec::Mesh(_)
            | v1::resource::Spec::Allow(_)
            | v1::resource::Spec::Quarantine(_)
            | v1::resource::Spec::NamespaceSettings(_) => None,
        }))
}

impl Outcome {
    fn delete(&mut self, key: ResourceKey, stored: v1::Resource) {
        let action = Action::Deleted.into();
        self.changes.push(v1::Change {
            key: Some((&key).into()),
            action,
            before: Some(stored),
        });
        self.writes.push((key, None));
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
