//! What `check` looks at: the operator's certificate and the control plane's account of the mesh.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weft_catalog::Mesh;
use weft_identity::{Purpose, RuleName, verify_svid};
use weft_policy::Judged;
use weft_wire::{Resource, Spec, v1};

use super::rules::ends_soon;

use crate::client::{Client, refused};
use crate::context::Context;
use crate::moments::moment;
use crate::traffic::{Scope, recorded};
use crate::world::live;

pub(super) struct Facts {
    /// By this host's clock.
    pub(super) now: Timestamp,
    pub(super) api: String,
    pub(super) operator: String,
    pub(super) operator_expires: Timestamp,
    /// Whether this context can renew its certificate by itself.
    pub(super) operator_renews: bool,
    pub(super) status: v1::StatusResponse,
    /// By the control plane's clock, when half of the question's way was gone.
    pub(super) their_now: Option<Timestamp>,
    pub(super) mesh: Mesh,
    pub(super) sidecars: Vec<v1::Sidecar>,
    pub(super) endpoints: Vec<v1::CatalogEndpoint>,
    pub(super) frozen: Vec<String>,
    pub(super) resources: Vec<Resource>,
    /// What each rule that ends soon let through in the last day; `None`: not known, or there is no such rule.
    pub(super) carried: Option<BTreeMap<RuleName, u64>>,
}

pub(super) async fn gather(context: &Context) -> anyhow::Result<Facts> {
    let own = verify_svid(
        &context.chain,
        &context.bundle,
        Purpose::ClientAuth,
        Timestamp::now(),
    )?;
    let client = Client::connect(context).await?;
    let mut operations = client.operations();
    let asked = Timestamp::now();
    let status = operations
        .status(v1::StatusRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    let now = Timestamp::now();
    // The answer took some time: their clock is compared with the middle of it.
    let travelled = now.duration_since(asked) / 2;
    let their_now = moment(status.now).and_then(|theirs| theirs.checked_add(travelled).ok());
    let mesh = match &status.mesh {
        Some(mesh) => Mesh::try_from(mesh)?,
        None => Mesh::default(),
    };
    let sidecars = operations
        .list_sidecars(v1::ListSidecarsRequest {})
        .await
        .map_err(refused)?
        .into_inner()
        .sidecars;
    let everywhere = v1::ListEndpointsRequest {
        service: String::new(),
    };
    let endpoints = operations
        .list_endpoints(everywhere)
        .await
        .map_err(refused)?
        .into_inner()
        .endpoints;
    let resources = live(&client, None, "").await?;
    Ok(Facts {
        now,
        carried: carried(&client, &resources, now).await,
        api: context.settings.api.clone(),
        operator: context.settings.operator.to_string(),
        operator_expires: own.not_after,
        operator_renews: context
            .settings
            .operator_socket
            .as_deref()
            .is_some_and(std::path::Path::exists),
        status,
        their_now,
        mesh,
        sidecars,
        endpoints,
        frozen: frozen(&client).await?,
        resources,
    })
}

/// Asked only where a rule ends, for it is much to read.
async fn carried(
    client: &Client,
    resources: &[Resource],
    now: Timestamp,
) -> Option<BTreeMap<RuleName, u64>> {
    let ending = resources
        .iter()
        .filter_map(|resource| match &resource.spec {
            Spec::Allow(rule) => ends_soon(rule, now).then(|| rule.name.clone()),
            Spec::Mesh(_) | Spec::Service(_) | Spec::Quarantine(_) | Spec::NamespaceSettings(_) => {
                None
            }
        });
    let mut carried: BTreeMap<RuleName, u64> = ending.map(|name| (name, 0)).collect();
    let namespace = &carried.keys().next()?.namespace;
    let scope = if carried.keys().all(|name| name.namespace == *namespace) {
        Scope::Namespace(namespace.clone())
    } else {
        Scope::Mesh
    };
    let since = now.saturating_sub(DAY).ok()?;
    // a check goes on without it
    let traffic = recorded(client, since, &scope).await.ok()??;
    for flow in &traffic.flows {
        if let Judged::Allowed(rule) = &flow.key.judged
            && let Some(count) = carried.get_mut(rule)
        {
            *count = count.saturating_add(flow.count);
        }
    }
    Some(carried)
}

/// Identities with a lineage that froze because two holders used it.
async fn frozen(client: &Client) -> anyhow::Result<Vec<String>> {
    let mut frozen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListIdentitiesRequest {
            page_token,
            ..Default::default()
        };
        let page = client
            .operations()
            .list_identities(request)
            .await
            .map_err(refused)?
            .into_inner();
        for identity in page.identities {
            if identity
                .lineages
                .iter()
                .any(|lineage| lineage.state() == v1::lineage::State::Frozen)
            {
                frozen.push(identity.spiffe_id);
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(frozen);
        }
        page_token = page.next_page_token;
    }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);
