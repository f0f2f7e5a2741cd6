//! Which service a name means, and where it may lead, under one view.

use std::sync::Arc;

use weft_catalog::{Endpoint, Health, Port, Protocol};
use weft_policy::{EncodedSlashes, PolicySet};
use weft_wire::OutboundView;

use super::*;
use crate::fixture::{id, received, trust_domain};
use crate::view::OutboundService;

/// A view of these external services: name, hosts, port.
fn enforced(services: &[(&str, &[&str], u16)]) -> Enforced {
    let mut enforced = received(Vec::new()).enforced(false);
    for (name, hosts, number) in services {
        let hosts: Vec<_> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let ranges = ["127.0.0.0/8".parse().unwrap()];
        let view = OutboundView {
            service: name.parse().unwrap(),
            ports: vec![Port {
                name: "https".parse().unwrap(),
                port: *number,
                target_port: *number,
                protocol: Protocol::Tls,
            }],
            endpoints: Vec::new(),
            external: Some(External::new("", &hosts, &ranges).unwrap()),
            rules: Vec::new(),
            learn_until: None,
            encoded_slashes: EncodedSlashes::Refuse,
        };
        put(&mut enforced, view);
    }
    enforced
}

fn put(enforced: &mut Enforced, view: OutboundView) {
    let policy = PolicySet::compile(trust_domain(), &view.service, [], view.encoded_slashes);
    let service = Arc::new(OutboundService { view, policy });
    let name = service.view.service.clone();
    if service.view.external.is_some() {
        enforced.external.push(Arc::clone(&service));
    }
    enforced.outbound.insert(name, service);
}

#[test]
fn row_03_the_most_precise_host_is_meant_and_the_first_name_among_equals() {
    let enforced = enforced(&[
        ("shop/wide", &["*.example.com"], 443),
        ("shop/below", &["*.a.example.com"], 443),
        ("shop/exact", &["x.a.example.com"], 443),
        ("shop/again", &["*.a.example.com"], 443),
        ("shop/elsewhere", &["y.a.example.com"], 444),
    ]);
    for (host, number, service) in [
        ("x.a.example.com", 443, Some("shop/exact")),
        ("X.a.example.com", 443, Some("shop/exact")),
        ("y.a.example.com", 443, Some("shop/again")),
        ("a.example.com", 443, Some("shop/wide")),
        ("y.a.example.com", 444, Some("shop/elsewhere")),
        ("x.a.example.com", 444, None),
        ("example.com", 443, None),
        ("xa.example.org", 443, None),
    ] {
        let found = named(&enforced, &host.parse().unwrap(), number);
        let found = found.map(|found| found.service.to_string());
        assert_eq!(found.as_deref(), service, "{host}:{number}");
    }
}

#[test]
fn row_13_an_endpoint_of_the_mesh_is_not_outside_under_any_notation() {
    let mut enforced = enforced(&[("shop/out", &["a.example.com"], 443)]);
    let target: ServicePort = "shop/out:https".parse().unwrap();
    let view = OutboundView {
        service: "shop/api".parse().unwrap(),
        ports: Vec::new(),
        endpoints: vec![Endpoint {
            address: "127.0.0.1:443".parse().unwrap(),
            identity: id("shop/api"),
            health: Health::Healthy,
            instance: "one".to_owned(),
        }],
        external: None,
        rules: Vec::new(),
        learn_until: None,
        encoded_slashes: EncodedSlashes::Refuse,
    };
    let admits = |enforced: &Enforced, address: &str| {
        admit_address(enforced, &target, address.parse().unwrap()).is_ok()
    };
    assert!(admits(&enforced, "127.0.0.1:443"));
    put(&mut enforced, view);
    for (address, expected) in [
        ("127.0.0.1:443", false),
        ("[::ffff:127.0.0.1]:443", false),
        ("127.0.0.1:444", true),
        ("127.0.0.2:443", true),
        ("10.0.0.1:443", false),
        ("1.1.1.1:443", true),
    ] {
        assert_eq!(admits(&enforced, address), expected, "{address}");
    }
    // What is no longer outside leads nowhere.
    let other: ServicePort = "shop/api:https".parse().unwrap();
    assert!(admit_address(&enforced, &other, "1.1.1.1:443".parse().unwrap()).is_err());
}

#[test]
fn row_03_an_authority_names_one_host_and_at_most_one_port() {
    for (authority, expected) in [
        ("a.example", Some(("a.example", None))),
        ("A.example.:80", Some(("a.example", Some(80)))),
        ("a.example:", None),
        ("a.example:99999", None),
        ("10.0.0.1", None),
        ("[::1]:80", None),
        ("::1", None),
        ("a.example%2d", None),
    ] {
        let read = read_authority(authority);
        let read = read.as_ref().map(|(host, port)| (host.as_str(), *port));
        assert_eq!(read, expected, "{authority}");
    }
}
