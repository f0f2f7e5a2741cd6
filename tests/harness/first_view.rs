//! How soon a sidecar is ready once it is told its first view.

use std::time::{Duration, Instant};

use weft_wire::{type_url, v1, xds};

use crate::{FakeControlPlane, Mesh, eventually};

/// Starts sidecars one after another, tells each its first view (a hundred services with a rule each) when it waits for nothing else, and
/// measures until `/ready` says yes. The median of so many: a busy machine spoils some.
pub async fn ready_after_first_view(sidecars: usize) -> Duration {
    let mesh = Mesh::start().await;
    let view: Vec<xds::Resource> = (0..100)
        .map(|number| inbound(&format!("shop/service-{number}"), "shop/client", 1))
        .collect();
    let mut took = Vec::new();
    for number in 0..sidecars {
        let fake =
            FakeControlPlane::start_silent(mesh.trust_domain(), (type_url::INBOUND, view.clone()))
                .await;
        let spec = fake
            .joining(&mesh, "shop/api")
            .instance(&format!("api-{number}"));
        let sidecar = mesh.sidecar_unready(spec).await;
        let url = format!("http://{}/ready", sidecar.admin);
        eventually("it listens and is not ready", || async {
            let status = crate::get(&url).await.map(|answer| answer.status);
            let waits = matches!(status, Ok(503)) && fake.is_asked();
            waits.then_some(()).ok_or(status)
        })
        .await;
        fake.speak();
        let told = Instant::now();
        while !crate::get(&url)
            .await
            .is_ok_and(|answer| answer.status == 200)
        {
            assert!(told.elapsed() < Duration::from_secs(10), "never ready");
        }
        took.push(told.elapsed());
    }
    took.sort_unstable();
    took.get(sidecars / 2).copied().expect("at least one")
}

/// A service with one port and one rule, of this schema.
pub fn inbound(service: &str, from: &str, schema: u32) -> xds::Resource {
    let (_, name) = service.split_once('/').expect("namespace/name");
    let message = v1::Inbound {
        schema,
        service: service.to_owned(),
        ports: vec![v1::ServicePort {
            name: "http".to_owned(),
            port: 80,
            target_port: 8080,
            protocol: v1::Protocol::Http.into(),
        }],
        rules: vec![v1::NamedRule {
            name: "shop/only".to_owned(),
            allow: Some(v1::AllowSpec {
                schema: 1,
                service: name.to_owned(),
                ports: Some(v1::PortMatch {
                    r#match: Some(v1::port_match::Match::Any(v1::Any {})),
                }),
                from: vec![from.to_owned()],
                from_addresses: Vec::new(),
                http: Some(v1::HttpMatch {
                    r#match: Some(v1::http_match::Match::Any(v1::Any {})),
                }),
                mode: v1::Mode::Enforce.into(),
                ..Default::default()
            }),
        }],
        keep_encoded_slashes: false,
        health: None,
        learn_until: None,
    };
    xds::Resource {
        version: format!("{from}-{schema}"),
        resource: Some(weft_wire::pack(&message)),
        name: service.to_owned(),
        aliases: Vec::new(),
    }
}
