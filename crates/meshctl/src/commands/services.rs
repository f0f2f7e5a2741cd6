//! `meshctl services`: what is offered, by whom, and how many endpoints are healthy.

use std::collections::BTreeMap;

use serde::Serialize;
use weft_identity::DnsLabel;
use weft_wire::{Kind, Spec, v1};

use crate::client::refused;
use crate::failure::Answer;
use crate::output::{FormatArg, Table};
use crate::session::Session;
use crate::world::live;

/// List services with their ports and endpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct ServicesArgs {
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<DnsLabel>,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    service: String,
    ports: Vec<Port>,
    healthy: usize,
    endpoints: usize,
    workloads: Vec<String>,
    /// Of an external service.
    hosts: Vec<String>,
    /// How many Allows name it as their destination.
    rules: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: String,
    port: u16,
    target_port: u16,
    protocol: String,
}

pub(crate) async fn run(args: ServicesArgs, session: &Session) -> anyhow::Result<Answer> {
    let client = session.connect().await?;
    let namespace = args
        .namespace
        .map(|namespace| namespace.to_string())
        .unwrap_or_default();
    let resources = live(&client, None, &namespace).await?;
    let everywhere = v1::ListEndpointsRequest {
        service: String::new(),
    };
    let endpoints = client
        .operations()
        .list_endpoints(everywhere)
        .await
        .map_err(refused)?
        .into_inner()
        .endpoints;
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for endpoint in &endpoints {
        let (healthy, all) = counts.entry(&endpoint.service).or_default();
        *healthy += usize::from(endpoint.health() == v1::Health::Healthy);
        *all += 1;
    }
    let mut services = Vec::new();
    for resource in resources
        .iter()
        .filter(|resource| resource.kind() == Kind::Service)
    {
        let Spec::Service(service) = &resource.spec else {
            continue;
        };
        let name = service.name.to_string();
        let (healthy, all) = counts.get(name.as_str()).copied().unwrap_or_default();
        let rules = resources.iter().filter(
            |other| matches!(&other.spec, Spec::Allow(rule) if rule.service == service.name),
        );
        services.push(Service {
            service: name,
            ports: service.ports.iter().map(Port::of).collect(),
            healthy,
            endpoints: all,
            workloads: service.workloads.iter().map(ToString::to_string).collect(),
            hosts: service.external.as_ref().map_or_else(Vec::new, |external| {
                external.hosts().iter().map(ToString::to_string).collect()
            }),
            rules: rules.count(),
        });
    }
    session
        .out
        .answer(args.format.format, &services, |wide| table(&services, wide))?;
    Ok(Answer::Yes)
}

impl Port {
    fn of(port: &weft_catalog::Port) -> Self {
        Self {
            name: port.name.to_string(),
            port: port.port,
            target_port: port.target_port,
            protocol: port.protocol.to_string(),
        }
    }
}

fn table(services: &[Service], wide: bool) -> Table {
    let mut table = Table::new(["SERVICE", "PORTS", "HEALTHY", "RULES"]);
    if wide {
        table = table.with_columns(&["WORKLOADS"]);
    }
    for service in services {
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|port| format!("{}:{}/{}", port.name, port.port, port.protocol))
            .collect();
        let mut cells = vec![
            service.service.clone(),
            ports.join(" "),
            match service.hosts.is_empty() {
                true => format!("{}/{}", service.healthy, service.endpoints),
                false => "outside".to_owned(),
            },
            service.rules.to_string(),
        ];
        if wide {
            let offered_by = match service.hosts.is_empty() {
                true => &service.workloads,
                false => &service.hosts,
            };
            cells.push(offered_by.join(" "));
        }
        table.row(cells);
    }
    table
}
