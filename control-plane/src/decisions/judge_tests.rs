use super::*;
use crate::fixture::{Mesh, allow, allow_spec, quarantine, resource};

fn request(source: &str, target: &str) -> v1::ExplainRequest {
    v1::ExplainRequest {
        source: source.to_owned(),
        target: target.to_owned(),
        method: "GET".to_owned(),
        path: "/orders/1?x=1".to_owned(),
        ..Default::default()
    }
}

fn judged(mesh: &Mesh, source: &str, target: &str) -> v1::Explanation {
    explain(&ground(&mesh.views.world()), &request(source, target)).unwrap()
}

fn ground(world: &World) -> Ground<'_> {
    Ground {
        world,
        joined: &[],
        now: Timestamp::now(),
    }
}

#[tokio::test]
async fn an_allowed_call_names_its_rule_by_port_name_and_by_number() {
    let mesh = Mesh::shop().await;
    for target in ["shop/api:http", "shop/api:80"] {
        let judged = judged(&mesh, "shop/web", target);
        assert!(judged.allowed, "{judged:?}");
        assert_eq!(judged.rule, "shop/web-api");
    }
}

#[tokio::test]
async fn a_refused_call_names_the_nearest_rule_and_what_would_allow_it() {
    let mesh = Mesh::shop().await;
    let judged = judged(&mesh, "shop/intruder", "shop/api:http");
    assert!(!judged.allowed);
    assert_eq!(judged.reason(), v1::Reason::NoRule);
    assert_eq!(judged.nearest[0].name, "shop/web-api");
    assert_eq!(judged.nearest[0].failed_condition, "source");
    assert!(
        judged.suggested_yaml.contains("shop/intruder"),
        "{}",
        judged.suggested_yaml
    );
}

#[tokio::test]
async fn unknown_services_and_ports_are_hinted_at() {
    let mesh = Mesh::shop().await;
    let service = judged(&mesh, "shop/web", "shop/apis:http");
    assert_eq!(service.reason(), v1::Reason::UnknownTarget);
    assert!(
        service.hints[0].contains("did you mean shop/api?"),
        "{:?}",
        service.hints
    );
    let port = judged(&mesh, "shop/web", "shop/api:grpc");
    assert!(port.hints[0].contains("http, admin"), "{:?}", port.hints);
}

#[tokio::test]
async fn quarantine_of_either_end_and_revocation_beat_every_rule() {
    let mut mesh = Mesh::shop().await;
    mesh.put([quarantine("q", "shop/web")]).await;
    assert_eq!(
        judged(&mesh, "shop/web", "shop/api:http").reason(),
        v1::Reason::Quarantined
    );
    assert_eq!(
        judged(&mesh, "shop/api", "shop/orders:http").rule,
        "shop/api-orders"
    );
    mesh.put([quarantine("q", "shop/orders")]).await;
    assert_eq!(
        judged(&mesh, "shop/api", "shop/orders:http").reason(),
        v1::Reason::Quarantined
    );
    mesh.revoke("web").await;
    assert_eq!(
        judged(&mesh, "shop/web", "shop/api:http").reason(),
        v1::Reason::Revoked
    );
}

#[tokio::test]
async fn a_question_is_judged_at_the_time_that_it_asks_about() {
    let mut mesh = Mesh::new();
    let mut spec = allow_spec("api", &["shop/web"]);
    spec.expires = Some(prost_types::Timestamp {
        seconds: 2_000_000_000,
        nanos: 0,
    });
    mesh.put([
        crate::fixture::service("api", &["shop/api"]),
        resource("brief", v1::resource::Spec::Allow(spec)),
    ])
    .await;
    let at = |seconds| {
        let at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let request = v1::ExplainRequest {
            at,
            ..request("shop/web", "shop/api:http")
        };
        explain(&ground(&mesh.views.world()), &request)
            .unwrap()
            .allowed
    };
    assert!(at(1_999_999_999));
    assert!(!at(2_000_000_000));
}

#[tokio::test]
async fn a_decision_is_explained_by_the_rules_of_now() {
    let mut mesh = Mesh::shop().await;
    let decision = v1::Decision {
        source: "spiffe://weft.local/ns/shop/sa/intruder".to_owned(),
        service: "shop/api".to_owned(),
        port: "80".to_owned(),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        ..Default::default()
    };
    let explained =
        |mesh: &Mesh| explain_decision(&ground(&mesh.views.world()), &decision).unwrap();
    assert!(!explained(&mesh).allowed);
    mesh.put([allow("intruder", "api", &["shop/intruder"])])
        .await;
    assert!(explained(&mesh).allowed);
    assert_eq!(explained(&mesh).hints.len(), 1);
    let unauthenticated = v1::Decision {
        source: String::new(),
        ..decision.clone()
    };
    assert!(explain_decision(&ground(&mesh.views.world()), &unauthenticated).is_none());
}

#[tokio::test]
async fn a_decision_that_knows_only_the_shape_of_a_path_suggests_that_shape() {
    let mesh = Mesh::shop().await;
    let decision = v1::Decision {
        source: "spiffe://weft.local/ns/shop/sa/intruder".to_owned(),
        service: "shop/api".to_owned(),
        port: "http".to_owned(),
        method: "GET".to_owned(),
        path: "/orders/{number}/items".to_owned(),
        ..Default::default()
    };
    let explained = explain_decision(&ground(&mesh.views.world()), &decision).unwrap();
    assert!(!explained.allowed);
    assert!(
        explained
            .suggested_yaml
            .contains(r#"paths: ["/orders/*/items"]"#),
        "{}",
        explained.suggested_yaml
    );
}

#[tokio::test]
async fn a_decision_about_an_upgrade_is_judged_with_it() {
    let mut mesh = Mesh::new();
    let mut spec = allow_spec("api", &["shop/web"]);
    spec.http = Some(v1::HttpMatch {
        r#match: Some(v1::http_match::Match::Conditions(v1::HttpConditions {
            conditions: vec![only_get()],
        })),
    });
    mesh.put([
        crate::fixture::service("api", &["shop/api"]),
        resource("get", v1::resource::Spec::Allow(spec)),
    ])
    .await;
    let decision = v1::Decision {
        source: "spiffe://weft.local/ns/shop/sa/web".to_owned(),
        service: "shop/api".to_owned(),
        port: "http".to_owned(),
        method: "GET".to_owned(),
        path: "/chat".to_owned(),
        upgrade: "websocket".to_owned(),
        ..Default::default()
    };
    let explained = explain_decision(&ground(&mesh.views.world()), &decision).unwrap();
    assert!(!explained.allowed, "{explained:?}");
    assert_eq!(explained.reason(), v1::Reason::UpgradeNotAllowed);
    assert!(explained.suggested_yaml.contains("websocket"));
}

/// GET, and nothing else.
fn only_get() -> v1::HttpCondition {
    let any = || {
        Some(v1::StringMatch {
            r#match: Some(v1::string_match::Match::Any(v1::Any {})),
        })
    };
    v1::HttpCondition {
        methods: Some(v1::StringMatch {
            r#match: Some(v1::string_match::Match::Patterns(v1::NameList {
                names: vec!["GET".to_owned()],
            })),
        }),
        paths: any(),
        hosts: any(),
        headers: Vec::new(),
        upgrades: Vec::new(),
    }
}
