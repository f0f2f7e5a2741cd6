//! What an edit would do to live traffic: the flows of the record, judged against the mesh as it is and as it would be.
//!
//! It is worked out here and not by the control plane: pipelines need the same answer without one, the record and the rules of a
//! namespace are no more than a few pages, and what an operator asks costs nobody else anything.

mod report;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use weft_identity::{DnsLabel, SpiffeId, TrustDomain};
use weft_policy::{Side, preview};
use weft_wire::{Kind, Resource, ResourceKey, v1};

pub(crate) use report::Report;

use crate::client::{Client, refused};
use crate::documents::{Documents, Placed};
use crate::traffic::{self, Scope, Traffic};
use crate::world::{live, world};

/// What shall be different.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    pub(crate) put: Vec<Resource>,
    pub(crate) delete: BTreeSet<ResourceKey>,
    /// Identities that are revoked only after the edit.
    pub(crate) revoke: BTreeSet<SpiffeId>,
    /// What of `put` stands already, and did not before.
    pub(crate) made: BTreeSet<ResourceKey>,
    /// The time to look at instead of now.
    pub(crate) at: Option<Timestamp>,
}

impl Edit {
    /// What an apply would change, as its dry run told.
    pub(crate) fn of_apply(
        resources: &[Placed<Resource>],
        changes: &[v1::Change],
    ) -> anyhow::Result<Self> {
        let mut edit = Self::default();
        let mut changed = BTreeSet::new();
        for change in changes {
            let key = ResourceKey::try_from(&change.key.clone().unwrap_or_default())?;
            match change.action() {
                v1::change::Action::Unchanged => continue,
                v1::change::Action::Deleted => edit.delete.insert(key),
                v1::change::Action::Created
                | v1::change::Action::Updated
                | v1::change::Action::Unspecified => changed.insert(key),
            };
        }
        let put = resources.iter().map(|placed| &placed.value);
        edit.put
            .extend(put.filter(|it| changed.contains(&it.key())).cloned());
        Ok(edit)
    }

    pub(crate) fn of_documents(documents: &Documents) -> Self {
        let resources = documents.resources.iter();
        Self {
            put: resources.map(|placed| placed.value.clone()).collect(),
            ..Self::default()
        }
    }

    /// A cut that has been made already: the mesh before it is the one without it.
    pub(crate) fn cut_by(quarantine: Resource) -> Self {
        Self {
            made: BTreeSet::from([quarantine.key()]),
            put: vec![quarantine],
            ..Self::default()
        }
    }

    /// Whether any verdict could rest on what it changes.
    pub(crate) fn decides(&self) -> bool {
        let puts = self.put.iter().map(Resource::kind);
        let mut kinds = puts.chain(self.delete.iter().map(|key| key.kind));
        !self.revoke.is_empty() || self.at.is_some() || kinds.any(|kind| kind != Kind::Mesh)
    }

    /// Rules, services and settings concern the services of their own namespace; a cut concerns everything.
    fn scope(&self) -> Scope {
        let puts = self.put.iter().map(Resource::key);
        let mut namespaces = BTreeSet::<DnsLabel>::new();
        for key in puts.chain(self.delete.iter().cloned()) {
            match (key.kind, key.namespace) {
                (Kind::Mesh, _) => {}
                (Kind::Quarantine, _) | (_, None) => return Scope::Mesh,
                (Kind::Service | Kind::Allow | Kind::NamespaceSettings, Some(namespace)) => {
                    namespaces.insert(namespace);
                }
            }
        }
        let mut namespaces = namespaces.into_iter();
        match (namespaces.next(), namespaces.next()) {
            (Some(only), None) if self.revoke.is_empty() && self.at.is_none() => {
                Scope::Namespace(only)
            }
            _ => Scope::Mesh,
        }
    }

    fn applied_to(&self, resources: &[Resource]) -> Vec<Resource> {
        let mut edited: BTreeMap<ResourceKey, &Resource> = resources
            .iter()
            .map(|resource| (resource.key(), resource))
            .collect();
        edited.retain(|key, _| !self.delete.contains(key));
        edited.extend(self.put.iter().map(|resource| (resource.key(), resource)));
        edited.into_values().cloned().collect()
    }
}

/// The mesh as it is.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) resources: Vec<Resource>,
    /// Files tell of nobody.
    pub(crate) revoked: BTreeSet<SpiffeId>,
}

/// The preview of an edit of the live mesh; `None`: its control plane records no traffic.
pub(crate) async fn of_live(
    client: &Client,
    trust_domain: &TrustDomain,
    edit: &Edit,
    window: SignedDuration,
) -> anyhow::Result<Option<Report>> {
    let scope = edit.scope();
    let since = Timestamp::now().saturating_sub(window)?;
    let Some(traffic) = traffic::recorded(client, since, &scope).await? else {
        return Ok(None);
    };
    let standing = Standing {
        resources: resources_of(client, &scope).await?,
        revoked: revoked(client).await?,
    };
    Ok(Some(of_traffic(trust_domain, &standing, edit, &traffic)))
}

/// The whole mesh as it is.
pub(crate) async fn standing(client: &Client) -> anyhow::Result<Standing> {
    Ok(Standing {
        resources: resources_of(client, &Scope::Mesh).await?,
        revoked: revoked(client).await?,
    })
}

/// Who is revoked, wherever it belongs.
pub(crate) async fn revoked(client: &Client) -> anyhow::Result<BTreeSet<SpiffeId>> {
    let mut request = v1::ListIdentitiesRequest {
        revoked: true,
        ..Default::default()
    };
    let mut revoked = BTreeSet::new();
    loop {
        let page = client.operations().list_identities(request.clone()).await;
        let page = page.map_err(refused)?.into_inner();
        // a control plane that knows no such filter answers with everybody
        for identity in page.identities.iter().filter(|identity| identity.revoked) {
            revoked.insert(identity.spiffe_id.parse()?);
        }
        if page.next_page_token.is_empty() {
            return Ok(revoked);
        }
        request.page_token = page.next_page_token;
    }
}

/// What the verdicts about that traffic rest on.
async fn resources_of(client: &Client, scope: &Scope) -> anyhow::Result<Vec<Resource>> {
    let Scope::Namespace(namespace) = scope else {
        return live(client, None, "").await;
    };
    let mut resources = live(client, None, namespace.as_str()).await?;
    // a Quarantine cuts a workload of any namespace, wherever it stands
    let elsewhere = live(client, Some(Kind::Quarantine), "").await?;
    let is_elsewhere = |it: &Resource| it.key().namespace.as_ref() != Some(namespace);
    resources.extend(elsewhere.into_iter().filter(is_elsewhere));
    Ok(resources)
}

/// The same with everything at hand.
pub(crate) fn of_traffic(
    trust_domain: &TrustDomain,
    standing: &Standing,
    edit: &Edit,
    traffic: &Traffic,
) -> Report {
    let now = Timestamp::now();
    let resources: Vec<_> = standing
        .resources
        .iter()
        .filter(|it| !edit.made.contains(&it.key()))
        .cloned()
        .collect();
    let edited = edit.applied_to(&resources);
    let side = |resources: &[Resource], revoked: BTreeSet<SpiffeId>, at| Side {
        world: world(trust_domain, resources),
        revoked,
        at,
    };
    let before = side(&resources, standing.revoked.clone(), now);
    let revoked = standing.revoked.union(&edit.revoke).cloned().collect();
    let after = side(&edited, revoked, edit.at.unwrap_or(now));
    let concerned = |flow: &&weft_policy::Flow| match edit.scope() {
        Scope::Mesh => true,
        Scope::Namespace(namespace) => flow.key.target.service.namespace == namespace,
    };
    let flows = traffic.flows.iter().filter(concerned);
    Report::new(&preview(&before, &after, flows), trust_domain, traffic)
}
