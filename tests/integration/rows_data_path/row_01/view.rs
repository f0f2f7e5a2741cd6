//! What the two sidecars are told: web may call every port of api.

use std::net::SocketAddr;

use weft_wire::{v1, xds};

/// The API as its own sidecar is told of it.
pub(super) fn inbound() -> xds::Resource {
    let message = v1::Inbound {
        schema: 1,
        service: "shop/api".to_owned(),
        ports: ports(),
        rules: vec![rule()],
        keep_encoded_slashes: false,
        health: None,
        learn_until: None,
    };
    resource(weft_wire::pack(&message))
}

/// The API as web's sidecar is told of it.
pub(super) fn outbound(address: SocketAddr) -> xds::Resource {
    let message = v1::Outbound {
        schema: 1,
        service: "shop/api".to_owned(),
        ports: ports(),
        endpoints: vec![v1::Endpoint {
            address: address.to_string(),
            identity: super::API.to_owned(),
            health: v1::Health::Healthy.into(),
            instance: "api-1".to_owned(),
        }],
        rules: vec![rule()],
        keep_encoded_slashes: false,
        external: None,
        learn_until: None,
    };
    resource(weft_wire::pack(&message))
}

fn resource(packed: prost_types::Any) -> xds::Resource {
    xds::Resource {
        version: "1".to_owned(),
        resource: Some(packed),
        name: "shop/api".to_owned(),
        aliases: Vec::new(),
    }
}

fn ports() -> Vec<v1::ServicePort> {
    [
        ("http", 80, v1::Protocol::Http),
        ("raw", 82, v1::Protocol::Tcp),
    ]
    .map(|(name, port, protocol)| v1::ServicePort {
        name: name.to_owned(),
        port,
        target_port: 8000 + port,
        protocol: protocol.into(),
    })
    .to_vec()
}

/// web may call every port.
fn rule() -> v1::NamedRule {
    let any = v1::Any {};
    v1::NamedRule {
        name: "shop/web".to_owned(),
        allow: Some(v1::AllowSpec {
            schema: 1,
            service: "api".to_owned(),
            ports: Some(v1::PortMatch {
                r#match: Some(v1::port_match::Match::Any(any)),
            }),
            from: vec!["shop/web".to_owned()],
            from_addresses: Vec::new(),
            http: Some(v1::HttpMatch {
                r#match: Some(v1::http_match::Match::Any(any)),
            }),
            mode: v1::Mode::Enforce.into(),
            ..Default::default()
        }),
    }
}
