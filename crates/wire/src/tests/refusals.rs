//! What a reader refuses: each case spoils one field of a valid message and names the field that the error must name.

use prost::Message;
use weft_identity::document::Origin;

use crate::{Resource, ResourceKey, text, type_url, unpack, v1};

fn valid() -> v1::Outbound {
    let any = || {
        Some(v1::StringMatch {
            r#match: Some(v1::string_match::Match::Any(v1::Any {})),
        })
    };
    let condition = v1::HttpCondition {
        methods: Some(v1::StringMatch {
            r#match: Some(v1::string_match::Match::Patterns(v1::NameList {
                names: vec!["GET".into()],
            })),
        }),
        paths: any(),
        hosts: any(),
        headers: vec![],
        upgrades: vec![],
    };
    let allow = v1::AllowSpec {
        schema: 1,
        service: "api".into(),
        ports: Some(v1::PortMatch {
            r#match: Some(v1::port_match::Match::Any(v1::Any {})),
        }),
        from: vec!["shop/web".into()],
        from_addresses: vec![],
        http: Some(v1::HttpMatch {
            r#match: Some(v1::http_match::Match::Conditions(v1::HttpConditions {
                conditions: vec![condition],
            })),
        }),
        expires: None,
        mode: v1::Mode::Enforce.into(),
    };
    v1::Outbound {
        schema: 1,
        service: "shop/api".into(),
        ports: vec![v1::ServicePort {
            name: "http".into(),
            port: 80,
            target_port: 8080,
            protocol: 1,
        }],
        endpoints: vec![v1::Endpoint {
            address: "127.0.0.1:15006".into(),
            identity: "spiffe://weft.local/ns/shop/sa/api".into(),
            health: 1,
            instance: "api-1".into(),
        }],
        rules: vec![v1::NamedRule {
            name: "shop/web-reads".into(),
            allow: Some(allow),
        }],
        keep_encoded_slashes: false,
        external: None,
        learn_until: None,
    }
}

fn outside(view: &mut v1::Outbound) -> &mut v1::External {
    view.endpoints.clear();
    view.ports[0].target_port = view.ports[0].port;
    view.external.insert(v1::External {
        hosts: vec!["a.example".into()],
        allow_addresses: vec![],
    })
}

fn allow(view: &mut v1::Outbound) -> &mut v1::AllowSpec {
    view.rules[0].allow.as_mut().unwrap()
}

fn conditions(view: &mut v1::Outbound) -> &mut Vec<v1::HttpCondition> {
    match allow(view).http.as_mut().unwrap().r#match.as_mut().unwrap() {
        v1::http_match::Match::Conditions(list) => &mut list.conditions,
        v1::http_match::Match::Any(_) => unreachable!("the valid message has conditions"),
    }
}

type Spoil = fn(&mut v1::Outbound);

#[test]
fn one_unreadable_field_refuses_the_whole_view_and_is_named() {
    assert!(crate::OutboundView::try_from(&valid()).is_ok());
    let cases: &[(&str, Spoil)] = &[
        ("schema", |view| view.schema = 0),
        ("schema", |view| view.schema = crate::SCHEMA + 1),
        ("service", |view| view.service = "api".into()),
        ("ports", |view| view.ports.clear()),
        ("ports[0].port", |view| view.ports[0].port = 65_536),
        ("ports[0].targetPort", |view| view.ports[0].target_port = 0),
        ("ports[0].protocol", |view| view.ports[0].protocol = 0),
        ("ports[0].protocol", |view| view.ports[0].protocol = 99),
        ("ports[0].protocol", |view| view.ports[0].protocol = 5),
        ("external.hosts", |view| outside(view).hosts.clear()),
        ("external.hosts[0]", |view| {
            outside(view).hosts = vec!["*".into()]
        }),
        ("external.allowAddresses[0]", |view| {
            outside(view).allow_addresses = vec!["10.0.0.1/8".into()]
        }),
        ("ports[0].targetPort", |view| {
            outside(view);
            view.ports[0].target_port = 1;
        }),
        ("endpoints", |view| {
            let endpoints = view.endpoints.clone();
            outside(view);
            view.endpoints = endpoints;
        }),
        ("endpoints[0].address", |view| {
            view.endpoints[0].address = "api:80".into()
        }),
        ("endpoints[0].address", |view| {
            view.endpoints[0].address = "127.0.0.1:0".into()
        }),
        ("endpoints[0].identity", |view| {
            view.endpoints[0].identity = String::new()
        }),
        ("endpoints[0].health", |view| view.endpoints[0].health = 0),
        ("endpoints[0].instance", |view| {
            view.endpoints[0].instance = "a b".into()
        }),
        ("rules[0].name", |view| {
            view.rules[0].name = "web-reads".into()
        }),
        ("rules[0].allow", |view| view.rules[0].allow = None),
        ("rules[0].allow.service", |view| {
            allow(view).service = "orders".into()
        }),
        ("rules[0].allow.schema", |view| allow(view).schema = 0),
        ("rules[0].allow.schema", |view| {
            allow(view).schema = crate::SCHEMA + 1
        }),
        ("rules[0].allow.ports", |view| allow(view).ports = None),
        ("rules[0].allow.ports", |view| {
            let none = v1::NameList { names: vec![] };
            allow(view).ports = Some(v1::PortMatch {
                r#match: Some(v1::port_match::Match::Names(none)),
            });
        }),
        ("rules[0].allow.from", |view| allow(view).from.clear()),
        ("rules[0].allow.fromAddresses[1]", |view| {
            allow(view).schema = weft_policy::ADDRESSES_SCHEMA;
            allow(view).from_addresses = vec!["10.1.0.0/16".into(), "10.1.2.3/16".into()]
        }),
        // a reader of that schema would not know the field
        ("rules[0].allow.schema", |view| {
            allow(view).schema = weft_policy::ADDRESSES_SCHEMA - 1;
            allow(view).from_addresses = vec!["10.1.0.0/16".into()]
        }),
        ("rules[0].allow.from[1]", |view| {
            allow(view).from.push("nobody".into())
        }),
        ("rules[0].allow.http", |view| allow(view).http = None),
        ("rules[0].allow.http", |view| {
            allow(view).http = Some(v1::HttpMatch { r#match: None })
        }),
        ("rules[0].allow.http", |view| conditions(view).clear()),
        ("rules[0].allow.http.conditions[0].paths", |view| {
            conditions(view)[0].paths = None
        }),
        ("rules[0].allow.http.conditions[0]", |view| {
            conditions(view)[0].methods = conditions(view)[0].paths.clone()
        }),
        (
            "rules[0].allow.http.conditions[0].headers[0].match",
            |view| {
                conditions(view)[0].headers.push(v1::HeaderMatch {
                    name: "x-a".into(),
                    r#match: None,
                });
            },
        ),
        ("rules[0].allow.http.conditions[0].upgrades[0]", |view| {
            conditions(view)[0].upgrades.push("a b".into())
        }),
        ("rules[0].allow.expires", |view| {
            allow(view).expires = Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            });
        }),
        ("rules[0].allow.mode", |view| allow(view).mode = 0),
        ("learnUntil", |view| {
            view.learn_until = Some(prost_types::Timestamp {
                seconds: 0,
                nanos: -1,
            });
        }),
    ];
    for (path, spoil) in cases {
        let mut view = valid();
        spoil(&mut view);
        let error = crate::OutboundView::try_from(&view).unwrap_err();
        assert_eq!(error.path, *path, "{error}");
    }
}

fn valid_flow() -> v1::Flow {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let header = v1::FlowHeader {
        condition: Some(v1::HeaderMatch {
            name: "x-a".into(),
            r#match: Some(v1::header_match::Match::Present(true)),
        }),
        seen: v1::HeaderSeen::Absent.into(),
    };
    let request = v1::FlowRequest {
        method: "GET".into(),
        host: Some(v1::flow_request::Host::NamedHost("api.shop".into())),
        path: Some(v1::flow_request::Path::FoldedPath(
            "/orders/{number}".into(),
        )),
        headers: vec![header],
        upgrade: String::new(),
        connect: false,
    };
    v1::Flow {
        source: "spiffe://weft.local/ns/shop/sa/web".into(),
        service: "shop/api".into(),
        port: "http".into(),
        traffic: Some(v1::flow::Traffic::Request(request)),
        judged: Some(v1::flow::Judged::Allowed("shop/web-reads".into())),
        count: 1,
        first_seen: time(1),
        last_seen: time(2),
    }
}

#[test]
fn a_flow_that_says_what_no_rule_asks_is_refused_and_the_field_named() {
    fn request(flow: &mut v1::Flow) -> &mut v1::FlowRequest {
        match flow.traffic.as_mut().unwrap() {
            v1::flow::Traffic::Request(request) => request,
            v1::flow::Traffic::Connection(_) => unreachable!("the valid flow has a request"),
        }
    }
    fn path(flow: &mut v1::Flow, path: &str) {
        request(flow).path = Some(v1::flow_request::Path::FoldedPath(path.into()));
    }
    fn host(flow: &mut v1::Flow, host: &str) {
        request(flow).host = Some(v1::flow_request::Host::NamedHost(host.into()));
    }
    assert!(weft_policy::Flow::try_from(&valid_flow()).is_ok());
    type Spoil = fn(&mut v1::Flow);
    let cases: &[(&str, Spoil)] = &[
        ("source", |flow| flow.source.clear()),
        ("service", |flow| flow.service = "api".into()),
        ("port", |flow| flow.port = "80 ".into()),
        ("traffic", |flow| flow.traffic = None),
        ("request.method", |flow| request(flow).method.clear()),
        ("request.method", |flow| {
            request(flow).method = "G".repeat(33)
        }),
        ("request.method", |flow| request(flow).method = "G T".into()),
        ("request.host", |flow| request(flow).host = None),
        ("request.namedHost", |flow| host(flow, "API.shop")),
        ("request.namedHost", |flow| host(flow, "api.shop:80")),
        ("request.namedHost", |flow| host(flow, "api shop")),
        ("request.path", |flow| request(flow).path = None),
        ("request.foldedPath", |flow| path(flow, "/orders?card=4111")),
        ("request.foldedPath", |flow| path(flow, "/orders/{secret}")),
        ("request.noPath", |flow| {
            request(flow).path = Some(v1::flow_request::Path::NoPath(v1::Any {}))
        }),
        ("request.headers[0].condition", |flow| {
            request(flow).headers[0].condition = None
        }),
        ("request.headers[0].seen", |flow| {
            request(flow).headers[0].seen = 0
        }),
        ("request.headers", |flow| {
            let header = request(flow).headers[0].clone();
            request(flow).headers = vec![header; 33];
        }),
        ("request.upgrade", |flow| {
            request(flow).upgrade = "Websocket".into()
        }),
        ("judged", |flow| flow.judged = None),
        ("allowed", |flow| {
            flow.judged = Some(v1::flow::Judged::Allowed(String::new()))
        }),
        ("denied", |flow| {
            flow.judged = Some(v1::flow::Judged::Denied(0))
        }),
        ("learned", |flow| {
            flow.judged = Some(v1::flow::Judged::Learned(99))
        }),
        ("count", |flow| flow.count = 0),
        ("firstSeen", |flow| flow.first_seen = None),
        ("lastSeen", |flow| {
            flow.last_seen = Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 0,
            })
        }),
    ];
    for (path, spoil) in cases {
        let mut flow = valid_flow();
        spoil(&mut flow);
        let error = weft_policy::Flow::try_from(&flow).unwrap_err();
        assert_eq!(error.path, *path, "{error}");
    }
}

#[test]
fn a_message_of_another_type_is_not_unpacked() {
    let any = prost_types::Any {
        type_url: type_url::INBOUND.into(),
        value: valid().encode_to_vec(),
    };
    assert_eq!(unpack::<v1::Outbound>(&any).unwrap_err().path, "typeUrl");
    let any = prost_types::Any {
        type_url: type_url::OUTBOUND.into(),
        value: vec![0xff],
    };
    assert_eq!(unpack::<v1::Outbound>(&any).unwrap_err().path, "value");
}

#[test]
fn a_resource_names_what_is_wrong_with_it() {
    let service = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: api, namespace: shop}\nspec:\n  workloads: [shop/api]\n  ports: [{name: http, port: 80, protocol: http}]\n";
    let resource = text::read(service, &Origin::file("api.yaml")).unwrap();
    assert_eq!(
        resource.key(),
        "services/shop/api".parse::<ResourceKey>().unwrap()
    );
    let mut message = v1::Resource::from(&resource);
    message.metadata.as_mut().unwrap().namespace.clear();
    assert_eq!(
        Resource::try_from(&message).unwrap_err().path,
        "metadata.namespace"
    );
    message.spec = None;
    assert_eq!(Resource::try_from(&message).unwrap_err().path, "spec");
}

#[test]
fn a_document_that_is_no_resource_says_where_and_what() {
    for (document, said) in [
        (
            "apiVersion: weft.dev/v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n",
            "f.yaml:1: `Pod` is not a kind",
        ),
        (
            "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: other}\nspec: {}\n",
            "f.yaml:1: Mesh `other`: metadata.name: there is one Mesh",
        ),
        (
            "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {tttl: 24h}\n",
            "did you mean `ttl`?",
        ),
        (
            "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {ttl: 90s, renewEvery: 46s}\n",
            "spec.renewEvery: 46s is more than half of ttl, 90s",
        ),
        (
            "apiVersion: weft.dev/v1\nkind: NamespaceSettings\nmetadata: {name: settings, namespace: shop}\nspec: {mode: learn}\n",
            "f.yaml:1: NamespaceSettings `settings`: spec.learnUntil: learn mode needs an end",
        ),
        (
            "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a, namespace: s}\nspec: {workloads: [s/a], ports: [{name: p, port: 1, protocol: auto}]}\n",
            "transparent interception",
        ),
    ] {
        let error = text::read(document, &Origin::file("f.yaml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn namespace_settings_without_a_schema_a_mode_or_an_end_are_refused() {
    let learn = |until| {
        let learn = v1::LearnMode { until };
        Some(v1::namespace_settings_spec::Mode::Learn(learn))
    };
    let until = Some(prost_types::Timestamp::default());
    let no_time = Some(prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    });
    let read = |name: &str, schema, mode| {
        let spec = v1::NamespaceSettingsSpec { schema, mode };
        let resource = v1::Resource {
            metadata: Some(v1::Metadata {
                name: name.to_owned(),
                namespace: "shop".to_owned(),
                ..v1::Metadata::default()
            }),
            spec: Some(v1::resource::Spec::NamespaceSettings(spec)),
            ..v1::Resource::default()
        };
        Resource::try_from(&resource).map_err(|error| error.path)
    };
    assert!(read("settings", 2, learn(until)).is_ok());
    let refused = |path: &str| Err(path.to_owned());
    assert_eq!(read("other", 2, learn(until)), refused("metadata.name"));
    assert_eq!(read("settings", 0, learn(until)), refused("spec.schema"));
    assert_eq!(
        read("settings", crate::SCHEMA + 1, learn(until)),
        refused("spec.schema")
    );
    assert_eq!(read("settings", 2, None), refused("spec.mode"));
    assert_eq!(
        read("settings", 2, learn(None)),
        refused("spec.learn.until")
    );
    assert_eq!(
        read("settings", 2, learn(no_time)),
        refused("spec.learn.until")
    );
}
