//! Requests that name their own targets: those that come to the HTTP proxy.

use std::sync::Arc;

use weft_catalog::{Port, Protocol};
use weft_identity::{DnsLabel, ServiceName, ServicePort, is_mesh_host, parse_mesh_host};
use weft_policy::{Reason, host_of};

use super::request::Way;
use crate::enforce::Refusal;
use crate::external;
use crate::listener::Shared;
use crate::view::Enforced;

/// Finds each request's way by the host that it names.
pub struct Guide {
    shared: Arc<Shared>,
}

impl Guide {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }

    /// The way of a request, unless it is that of the last one.
    pub fn way(&self, authority: Option<&str>, last: &Way) -> Option<Way> {
        let target = {
            let enforced = self.shared.current.load();
            authority.and_then(|authority| named(&enforced, authority))
        };
        match target {
            Some(target) if last.target.as_ref().ok() == Some(&target) => None,
            Some(target) => Some(Way::by_request(&self.shared, target)),
            None => Some(Way::unknown(
                &self.shared,
                Refusal::new(Reason::UnknownTarget),
            )),
        }
    }
}

/// The service port that an authority names: `<service>.<namespace>[.<trust domain>][:<port>]`, or a host of an external service.
fn named(enforced: &Enforced, authority: &str) -> Option<ServicePort> {
    let is_mesh = is_mesh_name(enforced, host_of(authority));
    let outside = || {
        let (host, number) = external::read_authority(authority)?;
        external::named(enforced, &host, number.unwrap_or(DEFAULT_PORT))
    };
    match is_mesh {
        true => mesh_named(enforced, authority),
        false => outside().or_else(|| mesh_named(enforced, authority)),
    }
}

/// What can only be a name of the mesh never leads out of it.
fn is_mesh_name(enforced: &Enforced, host: &str) -> bool {
    let is_namespace =
        |text: &str| enforced.knows_namespace(|known| known.as_str().eq_ignore_ascii_case(text));
    is_mesh_host(host, &enforced.trust_domain, is_namespace)
}

fn mesh_named(enforced: &Enforced, authority: &str) -> Option<ServicePort> {
    let authority = authority.to_ascii_lowercase();
    let (host, number) = match authority.rsplit_once(':') {
        Some((host, number)) => (host, number.parse().ok()?),
        None => (authority.as_str(), DEFAULT_PORT),
    };
    let service = parse_mesh_host(host, &enforced.trust_domain)?;
    let port = port_of(enforced, &service, |port| port.port == number);
    let name: DnsLabel = match port {
        Some(port) => port.name.clone(),
        // A port that is not seen is refused under its number.
        None => number.to_string().parse().ok()?,
    };
    Some(ServicePort {
        service,
        port: name,
    })
}

/// What a service port speaks, if this workload may know it.
pub fn declared(enforced: &Enforced, target: &ServicePort) -> Option<Protocol> {
    port_of(enforced, &target.service, |port| port.name == target.port).map(|port| port.protocol)
}

fn port_of<'e>(
    enforced: &'e Enforced,
    service: &ServiceName,
    is_it: impl Fn(&Port) -> bool,
) -> Option<&'e Port> {
    let ports = &enforced.outbound.get(service)?.view.ports;
    ports.iter().find(|port| is_it(port))
}

const DEFAULT_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_catalog::External;
    use weft_policy::{EncodedSlashes, PolicySet};
    use weft_wire::OutboundView;

    use super::*;
    use crate::fixture::{received, trust_domain};
    use crate::view::OutboundService;

    /// A view in which an external service claims these hosts on port 80.
    fn claiming(hosts: &[&str]) -> Enforced {
        let hosts: Vec<_> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let view = OutboundView {
            service: "out/side".parse().unwrap(),
            ports: vec![Port {
                name: "http".parse().unwrap(),
                port: 80,
                target_port: 80,
                protocol: Protocol::Http,
            }],
            endpoints: Vec::new(),
            external: Some(External::new("", &hosts, &[]).unwrap()),
            rules: Vec::new(),
            learn_until: None,
            encoded_slashes: EncodedSlashes::Refuse,
        };
        let policy = PolicySet::compile(trust_domain(), &view.service, [], view.encoded_slashes);
        let service = Arc::new(OutboundService { view, policy });
        let mut enforced = received(Vec::new()).enforced(false);
        enforced.external.push(Arc::clone(&service));
        enforced
            .outbound
            .insert(service.view.service.clone(), service);
        enforced
    }

    #[test]
    fn row_03_a_name_of_the_mesh_never_leads_out_of_it() {
        // What admission refuses must not work either.
        let hosts = [
            "api.shop",
            "api.example",
            "a.b.weft.local",
            "*.shop.weft.local",
            "*.example.com",
        ];
        let enforced = claiming(&hosts);
        for (authority, target) in [
            ("api.example", Some("out/side:http")),
            ("API.example:80", Some("out/side:http")),
            ("x.example.com", Some("out/side:http")),
            ("x.example.com:81", None),
            ("api.shop", Some("shop/api:80")),
            ("API.SHOP.:80", Some("shop/api:80")),
            ("a.b.weft.local", Some("b/a:80")),
            ("x.shop.weft.local", Some("shop/x:80")),
            ("x.y.shop.weft.local", None),
            ("weft.local", Some("local/weft:80")),
            ("api.other", Some("other/api:80")),
            ("a.b.c", None),
        ] {
            let found = named(&enforced, authority).map(|found| found.to_string());
            assert_eq!(found.as_deref(), target, "{authority}");
        }
    }
}
