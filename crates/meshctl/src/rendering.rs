//! Resources as documents again: what `get` and `edit` show and `diff` compares.
//!
//! Invariant: what is printed as YAML or JSON can be applied again and changes nothing.

use serde::Serialize;
use weft_identity::document::Metadata;
use weft_policy::Rule;
use weft_wire::{Resource, Spec};

/// A document with its envelope, in the order in which people write one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Printed {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: serde_json::Value,
}

/// The resource as a value to print.
pub(crate) fn printed(resource: &Resource) -> anyhow::Result<Printed> {
    let spec = match &resource.spec {
        Spec::Mesh(mesh) => serde_json::to_value(mesh.to_spec()),
        Spec::Service(service) => serde_json::to_value(service.to_spec()),
        Spec::Allow(rule) => serde_json::to_value(rule.to_document().spec),
        Spec::Quarantine(quarantine) => serde_json::to_value(quarantine.to_document().spec),
        Spec::NamespaceSettings(settings) => serde_json::to_value(settings.to_spec()),
    }?;
    Ok(Printed {
        api_version: API_VERSION,
        kind: resource.kind().as_str(),
        metadata: resource.metadata(),
        spec,
    })
}

/// The resource as a YAML document, its fields in the order of their definition.
pub(crate) fn yaml(resource: &Resource) -> anyhow::Result<String> {
    let metadata = resource.metadata();
    let kind = resource.kind().as_str();
    let text = match &resource.spec {
        Spec::Mesh(mesh) => document(kind, &metadata, &mesh.to_spec()),
        Spec::Service(service) => document(kind, &metadata, &service.to_spec()),
        Spec::Allow(rule) => document(kind, &metadata, &rule.to_document().spec),
        Spec::Quarantine(quarantine) => document(kind, &metadata, &quarantine.to_document().spec),
        Spec::NamespaceSettings(settings) => document(kind, &metadata, &settings.to_spec()),
    }?;
    Ok(format!("{}\n", text.trim_end()))
}

fn document(kind: &str, metadata: &Metadata, spec: &impl Serialize) -> anyhow::Result<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole<'a, S> {
        api_version: &'a str,
        kind: &'a str,
        metadata: &'a Metadata,
        spec: &'a S,
    }
    Ok(serde_saphyr::to_string(&Whole {
        api_version: API_VERSION,
        kind,
        metadata,
        spec,
    })?)
}

/// One line that says what the resource does.
pub(crate) fn summary(resource: &Resource) -> String {
    match &resource.spec {
        Spec::Mesh(mesh) => format!(
            "ttl {}, renewed every {}, stale after {}",
            seconds(mesh.ttl()),
            seconds(mesh.renew_every()),
            seconds(mesh.max_stale())
        ),
        Spec::Service(service) => {
            let ports = service.ports.iter().map(|port| {
                format!(
                    "{} {}→{} {}",
                    port.name, port.port, port.target_port, port.protocol
                )
            });
            let ports = listed(ports);
            match &service.external {
                Some(external) => {
                    format!("{ports}; outside, at {}", listed(external.hosts().iter()))
                }
                None => format!("{ports}; offered by {}", listed(service.workloads.iter())),
            }
        }
        Spec::Allow(rule) => rule_summary(rule),
        Spec::Quarantine(quarantine) if quarantine.reason.is_empty() => {
            format!("cuts {}", quarantine.workload)
        }
        Spec::Quarantine(quarantine) => {
            format!("cuts {}: {}", quarantine.workload, quarantine.reason)
        }
        Spec::NamespaceSettings(settings) => match settings.learn_until() {
            Some(until) => format!("learns until {until}: what no rule allows passes"),
            None => "strict: what no rule allows is refused".to_owned(),
        },
    }
}

fn rule_summary(rule: &Rule) -> String {
    let ports = listed(rule.ports.listed());
    let mut text = format!("{} → {}", listed(rule.from.texts()), rule.service.name);
    if !ports.is_empty() {
        text.push_str(&format!(":{ports}"));
    }
    for (index, condition) in rule.http.listed().iter().enumerate() {
        text.push_str(if index == 0 { " " } else { " or " });
        let parts = [
            listed(condition.methods.listed()),
            listed(condition.paths.listed()),
            listed(condition.hosts.listed()),
            listed(condition.headers.listed()),
            listed(condition.upgrades.listed()),
        ];
        text.push_str(
            &parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
        );
    }
    if !rule.mode.is_enforce() {
        text.push_str(" (audit only)");
    }
    if let Some(expires) = rule.expires {
        text.push_str(&format!(" until {expires}"));
    }
    text
}

fn listed(values: impl IntoIterator<Item = impl ToString>) -> String {
    values
        .into_iter()
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn seconds(duration: std::time::Duration) -> String {
    jiff::SignedDuration::try_from(duration).map_or_else(|_| "-".to_owned(), crate::moments::rough)
}

const API_VERSION: &str = "weft.dev/v1";
