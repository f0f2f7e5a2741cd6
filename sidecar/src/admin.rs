//! The pages for who runs this sidecar: `/ready`, `/live`, `/metrics`, and `/view`: what is enforced, without any secret.

use std::sync::Arc;

use serde_json::{Value, json};
use weft_daemon::Readiness;
use weft_daemon::admin::{Page, Routes};

use crate::Sidecar;
use crate::view::{Enforced, InboundService, OutboundService};

pub(crate) fn routes(sidecar: Arc<Sidecar>, readiness: Readiness) -> Routes {
    let metrics = sidecar.metrics.registry();
    Routes::standard(readiness, metrics)
        .page("/view", move || Page::json(view(&sidecar).to_string()))
}

fn view(sidecar: &Sidecar) -> Value {
    let enforced: Arc<Enforced> = sidecar.current.load_full();
    let svid = sidecar.identity.load();
    let unreadable = enforced
        .unreadable_inbound
        .union(&enforced.unreadable_outbound);
    let mut unreadable: Vec<String> = unreadable.map(ToString::to_string).collect();
    unreadable.sort_unstable();
    let mut inbound: Vec<Value> = enforced
        .inbound
        .values()
        .map(|service| inbound_service(service))
        .collect();
    inbound.sort_by_key(|service| service["service"].to_string());
    let mut outbound: Vec<Value> = enforced
        .outbound
        .values()
        .map(|service| outbound_service(service))
        .collect();
    outbound.sort_by_key(|service| service["service"].to_string());
    json!({
        "id": enforced.own_id,
        "instance": sidecar.config.instance,
        "revision": enforced.revision,
        "stale": enforced.stale,
        "svid": {"serial": svid.verified.serial.to_string(), "notAfter": svid.verified.not_after, "renewed": svid.renewed_revision},
        "bundleRevision": enforced.bundle.revision,
        "inbound": inbound,
        "outbound": outbound,
        "unreadable": unreadable,
        "live": sidecar.connections.len(),
    })
}

fn inbound_service(service: &InboundService) -> Value {
    json!({
        "service": service.view.service,
        "ports": ports(&service.view.ports),
        "rules": rules(&service.view.rules),
    })
}

fn outbound_service(service: &OutboundService) -> Value {
    let endpoints: Vec<Value> = service
        .view
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "address": endpoint.address,
                "identity": endpoint.identity,
                "health": endpoint.health.as_str(),
                "instance": endpoint.instance,
            })
        })
        .collect();
    json!({
        "service": service.view.service,
        "ports": ports(&service.view.ports),
        "rules": rules(&service.view.rules),
        "endpoints": endpoints,
        "hosts": service.view.external.as_ref().map(weft_catalog::External::hosts),
    })
}

fn ports(ports: &[weft_catalog::Port]) -> Value {
    ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol}))
        .collect()
}

fn rules(rules: &[Arc<weft_policy::Rule>]) -> Value {
    rules.iter().map(|rule| json!(rule.name)).collect()
}
