//! Arbitrary valid models.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::collection::{btree_map, hash_set, vec};
use proptest::option;
use proptest::prelude::*;
use weft_catalog::{
    EncodedSlashes, Endpoint, Health, HealthSpec, HttpProbeSpec, Length, Mesh, MeshSpec,
    NamespaceMode, NamespaceSettings, PortSpec, Protocol, Service, ServiceSpec, ServiceType,
    TcpProbeSpec,
};
use weft_identity::{
    DnsLabel, Revocations, RuleName, Serial, ServiceName, ServicePort, SpiffeId, WorkloadName,
};
use weft_policy::{
    EncodedSlashes as Slashes, Flow, FlowHost, FlowKey, FlowRequest, FoldedPath, HeaderCondition,
    HeaderSeen, HeaderTest, HttpCondition, Judged, Match, Mode, NonEmpty, Quarantine, Reason, Rule,
    Sources,
};

use crate::{InboundView, OutboundView, Resource, Spec};

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    let spec = prop_oneof![
        mesh().prop_map(Spec::Mesh),
        service().prop_map(Spec::Service),
        external().prop_map(Spec::Service),
        rule().prop_map(|rule| Spec::Allow(Arc::new(rule))),
        quarantine().prop_map(Spec::Quarantine),
        namespace_settings().prop_map(Spec::NamespaceSettings),
    ];
    let labels = btree_map("[a-z./-]{1,10}", "[ -~]{0,10}", 0..3);
    (spec, labels, any::<u64>(), option::of(label())).prop_map(|(spec, labels, revision, set)| {
        Resource {
            revision,
            set,
            ..Resource::new(spec, labels).unwrap()
        }
    })
}

pub(super) fn mesh() -> impl Strategy<Value = Mesh> {
    (
        60_000u64..604_800_000,
        1_000u64..30_000,
        1_000u64..604_800_000,
    )
        .prop_map(|(ttl, renew_every, max_stale)| {
            let length = |millis| Some(Length::from_millis(millis));
            let spec = MeshSpec {
                ttl: length(ttl),
                renew_every: length(renew_every),
                max_stale: length(max_stale),
            };
            Mesh::from_spec(&spec).unwrap()
        })
}

pub(super) fn service() -> impl Strategy<Value = Service> {
    let workloads = prop::collection::btree_set(name("svc"), 1..4);
    (
        name("svc"),
        workloads,
        ports(),
        option::of(health()),
        any::<bool>(),
    )
        .prop_map(|(service, workloads, ports, health, keep)| {
            let spec = ServiceSpec {
                workloads: workloads
                    .into_iter()
                    .map(|name| name.parse().unwrap())
                    .collect(),
                ports,
                health,
                encoded_slashes: if keep {
                    EncodedSlashes::Keep
                } else {
                    EncodedSlashes::Refuse
                },
                kind: ServiceType::Mesh,
                hosts: Vec::new(),
                allow_addresses: Vec::new(),
            };
            Service::from_spec(service.parse().unwrap(), &spec).unwrap()
        })
}

pub(super) fn external() -> impl Strategy<Value = Service> {
    let hosts = btree_map(
        "(\\*\\.)?[a-z]{1,5}\\.[a-z]{2,5}\\.[a-z]{2,5}",
        Just(()),
        1..4,
    );
    let ranges = prop::sample::subsequence(vec!["10.0.0.0/8", "::1/128", "fd00::/8"], 0..3);
    (name("ext"), hosts, ranges, ports()).prop_map(|(service, hosts, ranges, ports)| {
        let ports = ports.into_iter().map(|port| PortSpec {
            target_port: None,
            ..port
        });
        let spec = ServiceSpec {
            kind: ServiceType::External,
            workloads: Vec::new(),
            hosts: hosts.keys().map(|host| host.parse().unwrap()).collect(),
            allow_addresses: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            ports: ports.collect(),
            health: None,
            encoded_slashes: EncodedSlashes::Keep,
        };
        Service::from_spec(service.parse().unwrap(), &spec).unwrap()
    })
}

/// The first speaks HTTP, so that any probe has a port.
fn ports() -> impl Strategy<Value = Vec<PortSpec>> {
    let protocol = prop::sample::select(vec![
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tcp,
    ]);
    btree_map(1u16.., (1u16.., protocol), 1..4).prop_map(|ports| {
        let ports = ports.into_iter().enumerate();
        let port = |(i, (port, (target, protocol)))| PortSpec {
            name: format!("p{i}").parse().unwrap(),
            port,
            target_port: Some(target),
            protocol: if i == 0 { Protocol::Http } else { protocol },
        };
        ports.map(port).collect()
    })
}

fn health() -> impl Strategy<Value = HealthSpec> {
    let port = || option::of(Just("p0".parse::<DnsLabel>().unwrap()));
    let probe = prop_oneof![
        ("/[a-z?=/]{0,10}", port())
            .prop_map(|(path, port)| (Some(HttpProbeSpec { path, port }), None)),
        port().prop_map(|port| (None, Some(TcpProbeSpec { port }))),
    ];
    (probe, 100u64..3_600_000).prop_map(|((http, tcp), interval)| HealthSpec {
        http,
        tcp,
        interval: Some(Length::from_millis(interval)),
    })
}

pub(super) fn rule() -> impl Strategy<Value = Rule> {
    let expires = option::of((0i64..4_000_000_000, 0i32..1_000_000_000));
    (
        name("rule"),
        label(),
        one_of(label()),
        sources(),
        one_of(condition()),
        expires,
        any::<bool>(),
    )
        .prop_map(|(name, service, ports, from, http, expires, audit)| {
            let name: RuleName = name.parse().unwrap();
            Rule {
                service: ServiceName {
                    namespace: name.namespace.clone(),
                    name: service,
                },
                name,
                ports,
                from,
                http,
                expires: expires.map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap()),
                mode: if audit { Mode::Audit } else { Mode::Enforce },
            }
        })
}

fn sources() -> impl Strategy<Value = Sources> {
    let pattern = prop_oneof![
        Just("*".to_owned()),
        name("w"),
        Just("shop/batch-*".to_owned()),
        Just("spiffe://partner.example/ns/crm/sa/sync".to_owned()),
    ];
    let range = prop::sample::select(vec!["10.1.0.0/16", "10.1.2.3", "fd00::/8", "::/0"]);
    (vec(pattern, 0..4), vec(range, 0..3)).prop_filter_map(
        "a rule names somebody",
        |(patterns, ranges)| {
            let patterns = patterns.iter().map(|text| text.parse().unwrap());
            let ranges = ranges.iter().map(|text| text.parse().unwrap());
            Sources::new(patterns.collect(), ranges.collect())
        },
    )
}

fn condition() -> impl Strategy<Value = HttpCondition> {
    (
        one_of(
            prop::sample::select(vec!["GET", "HEAD", "POST"])
                .prop_map(|text| text.parse().unwrap()),
        ),
        one_of(
            prop::sample::select(vec!["/", "/a", "/a/*", "/a/**"])
                .prop_map(|text| text.parse().unwrap()),
        ),
        one_of(
            prop::sample::select(vec!["a.example", "*.example"])
                .prop_map(|text| text.parse().unwrap()),
        ),
        one_of(header()),
        one_of(Just("websocket").prop_map(|text| text.parse().unwrap())),
    )
        .prop_map(|(methods, paths, hosts, headers, upgrades)| HttpCondition {
            methods,
            paths,
            hosts,
            headers,
            upgrades,
        })
        .prop_filter("a condition states something", |condition| {
            !condition.is_empty()
        })
}

fn header() -> impl Strategy<Value = HeaderCondition> {
    let test = prop_oneof![
        "[ -~]{0,8}".prop_map(HeaderTest::Exact),
        "[ -~]{1,8}".prop_map(HeaderTest::Prefix),
        Just(HeaderTest::Present),
    ];
    ("x-[a-z]{1,5}", test).prop_map(|(name, test)| HeaderCondition {
        name: name.parse().unwrap(),
        test,
    })
}

pub(super) fn flow() -> impl Strategy<Value = Flow> {
    let reason = || {
        prop::sample::select(vec![
            Reason::NoRule,
            Reason::PathNotCanonical,
            Reason::Revoked,
        ])
    };
    let judged = prop_oneof![
        name("rule").prop_map(|rule| Judged::Allowed(rule.parse().unwrap())),
        reason().prop_map(Judged::Learned),
        reason().prop_map(Judged::Denied),
    ];
    let target = (name("svc"), label()).prop_map(|(service, port)| ServicePort {
        service: service.parse().unwrap(),
        port,
    });
    let moments = (0i64..4_000_000_000, 0i64..1_000_000);
    (
        (id(), target, option::of(flow_request()), judged),
        1u64..,
        moments,
    )
        .prop_map(
            |((source, target, request, judged), count, (first, lasted))| Flow {
                key: FlowKey {
                    source,
                    target,
                    request,
                    judged,
                },
                count,
                first_seen: Timestamp::from_second(first).unwrap(),
                last_seen: Timestamp::from_second(first + lasted).unwrap(),
            },
        )
}

fn flow_request() -> impl Strategy<Value = FlowRequest> {
    let host = prop_oneof![
        Just(FlowHost::None),
        Just(FlowHost::Folded),
        "[a-z0-9.-]{0,20}[a-z]".prop_map(|host| FlowHost::Named(host.into())),
    ];
    let path = "(/[a-zA-Z0-9]{1,12}){1,5}"
        .prop_map(|path: String| FoldedPath::fold(&path, Slashes::Refuse, |_| false));
    let seen = prop::sample::select(vec![
        HeaderSeen::Matched,
        HeaderSeen::Differed,
        HeaderSeen::Absent,
        HeaderSeen::Many,
    ]);
    (
        "[A-Z]{1,8}",
        host,
        option::of(path),
        vec((header(), seen), 0..3),
        option::of("[a-z][a-z, /0-9]{0,12}"),
    )
        .prop_map(|(method, host, path, headers, upgrade)| FlowRequest {
            method: method.into(),
            host,
            connect: path.is_none(),
            path,
            headers,
            upgrade: upgrade.map(Into::into),
        })
}

fn quarantine() -> impl Strategy<Value = Quarantine> {
    (name("q"), name("w"), "\\PC{0,12}").prop_map(|(name, workload, reason)| Quarantine {
        name: name.parse().unwrap(),
        workload: workload.parse().unwrap(),
        reason,
    })
}

fn namespace_settings() -> impl Strategy<Value = NamespaceSettings> {
    (label(), end()).prop_map(|(namespace, end)| NamespaceSettings {
        namespace,
        mode: end.map_or(NamespaceMode::Strict, |until| NamespaceMode::Learn {
            until,
        }),
    })
}

fn end() -> impl Strategy<Value = Option<Timestamp>> {
    option::of((0i64..4_000_000_000, 0i32..1_000_000_000))
        .prop_map(|end| end.map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap()))
}

pub(super) fn outbound() -> impl Strategy<Value = OutboundView> {
    let parts = (service(), vec(endpoint(), 0..4), vec(rule(), 0..3), end());
    parts.prop_map(|(service, endpoints, rules, learn_until)| OutboundView {
        rules: for_service(rules, &service.name),
        encoded_slashes: crate::encoded_slashes(service.encoded_slashes),
        service: service.name,
        ports: service.ports,
        endpoints,
        external: None,
        learn_until,
    })
}

pub(super) fn outbound_outside() -> impl Strategy<Value = OutboundView> {
    (external(), vec(rule(), 0..3), end()).prop_map(|(service, rules, learn_until)| OutboundView {
        learn_until,
        rules: for_service(rules, &service.name),
        encoded_slashes: crate::encoded_slashes(service.encoded_slashes),
        service: service.name,
        ports: service.ports,
        endpoints: Vec::new(),
        external: service.external,
    })
}

pub(super) fn inbound() -> impl Strategy<Value = InboundView> {
    (service(), vec(rule(), 0..3), end()).prop_map(|(service, rules, learn_until)| InboundView {
        rules: for_service(rules, &service.name),
        encoded_slashes: crate::encoded_slashes(service.encoded_slashes),
        service: service.name,
        ports: service.ports,
        health: service.health,
        learn_until,
    })
}

fn for_service(rules: Vec<Rule>, service: &ServiceName) -> Vec<Arc<Rule>> {
    let belonging = |rule: Rule| Rule {
        name: RuleName {
            namespace: service.namespace.clone(),
            name: rule.name.name,
        },
        service: service.clone(),
        ..rule
    };
    rules
        .into_iter()
        .map(|rule| Arc::new(belonging(rule)))
        .collect()
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let health = prop::sample::select(vec![Health::Healthy, Health::Unhealthy, Health::Draining]);
    (
        1u8..=223,
        any::<u8>(),
        1u16..,
        id(),
        health,
        "[a-z0-9-]{1,12}",
    )
        .prop_map(|(first, last, port, identity, health, instance)| Endpoint {
            address: SocketAddr::from((Ipv4Addr::new(first, 0, 0, last), port)),
            identity,
            health,
            instance,
        })
}

pub(super) fn revocations() -> impl Strategy<Value = Revocations> {
    let serial = vec(any::<u8>(), 1..20).prop_map(|bytes| Serial::new(&bytes));
    (
        hash_set(id(), 0..4),
        hash_set(serial, 0..4),
        hash_set(id(), 0..4),
    )
        .prop_map(|(identities, serials, quarantined)| Revocations {
            identities,
            serials,
            quarantined,
        })
}

fn id() -> impl Strategy<Value = SpiffeId> {
    name("w").prop_map(|name| {
        let workload: WorkloadName = name.parse().unwrap();
        SpiffeId::for_workload(&"weft.local".parse().unwrap(), &workload)
    })
}

/// `namespace/name`, never in the mesh's own namespace.
fn name(prefix: &'static str) -> impl Strategy<Value = String> {
    ("[a-c]{1,2}", "[a-z0-9]{1,6}")
        .prop_map(move |(namespace, name)| format!("{namespace}/{prefix}{name}"))
}

fn label() -> impl Strategy<Value = DnsLabel> {
    "[a-z][a-z0-9]{0,6}".prop_map(|text| text.parse().unwrap())
}

fn one_of<S: Strategy>(strategy: S) -> impl Strategy<Value = Match<S::Value>>
where
    S::Value: Clone,
{
    vec(strategy, 0..3).prop_map(|values| NonEmpty::new(values).map_or(Match::Any, Match::OneOf))
}
