//! `meshctl endpoints`: who offers which service, and how they are.

use serde::Serialize;
use weft_identity::ServiceName;
use weft_wire::v1;

use crate::client::refused;
use crate::failure::Answer;
use crate::moments::{exact, moment, shown};
use crate::output::{FormatArg, Table};
use crate::session::Session;

/// Lists endpoints with their identity and health.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointsArgs {
    /// Only this service's, `namespace/service`.
    #[arg(value_name = "NAMESPACE/SERVICE")]
    service: Option<ServiceName>,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service: String,
    address: String,
    health: &'static str,
    identity: String,
    instance: String,
    /// Absent while the sidecar's registration lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_expires: Option<String>,
    #[serde(skip)]
    lease: String,
}

pub(crate) async fn run(args: EndpointsArgs, session: &Session) -> anyhow::Result<Answer> {
    let client = session.connect().await?;
    let service = args
        .service
        .map(|name| name.to_string())
        .unwrap_or_default();
    let answer = client
        .operations()
        .list_endpoints(v1::ListEndpointsRequest { service })
        .await
        .map_err(refused)?;
    let mut endpoints: Vec<Endpoint> = answer
        .into_inner()
        .endpoints
        .into_iter()
        .map(Endpoint::from)
        .collect();
    endpoints.sort_by(|a, b| {
        (&a.service, &a.instance, &a.address).cmp(&(&b.service, &b.instance, &b.address))
    });
    session.out.answer(args.format.format, &endpoints, |wide| {
        table(&endpoints, wide)
    })?;
    Ok(Answer::Yes)
}

fn table(endpoints: &[Endpoint], wide: bool) -> Table {
    let mut table = Table::new(["SERVICE", "INSTANCE", "ADDRESS", "HEALTH"]);
    if wide {
        table = table.with_columns(&["IDENTITY", "LEASE ENDS"]);
    }
    for endpoint in endpoints {
        let mut cells: Vec<String> = vec![
            endpoint.service.clone(),
            endpoint.instance.clone(),
            endpoint.address.clone(),
            endpoint.health.to_owned(),
        ];
        if wide {
            cells.extend([endpoint.identity.clone(), endpoint.lease.clone()]);
        }
        table.row(cells);
    }
    table
}

impl From<v1::CatalogEndpoint> for Endpoint {
    fn from(endpoint: v1::CatalogEndpoint) -> Self {
        let lease = moment(endpoint.lease_expires);
        Self {
            health: health_word(endpoint.health()),
            service: endpoint.service,
            address: endpoint.address,
            identity: endpoint.identity,
            instance: endpoint.instance,
            lease_expires: exact(lease),
            lease: shown(lease),
        }
    }
}

pub(crate) fn health_word(health: v1::Health) -> &'static str {
    match health {
        v1::Health::Unspecified => "unknown",
        v1::Health::Healthy => "healthy",
        v1::Health::Unhealthy => "unhealthy",
        v1::Health::Draining => "draining",
    }
}
