//! What is proposed, and how it reads.

use super::*;

#[test]
fn reads_and_writes_are_rules_with_readable_names() {
    let flows = [
        request("web", "shop/api:http", "GET", "/orders/{number}"),
        request("web", "shop/api:http", "HEAD", "/orders/{number}"),
        request("web", "shop/api:http", "GET", "/orders"),
        request("web", "shop/api:http", "POST", "/orders"),
    ];
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &flows)),
        [
            "web-to-api api:http shop/web | GET /orders | GET,HEAD /orders/*",
            "web-to-api-write api:http shop/web | POST /orders",
        ]
    );
}

#[test]
fn a_rule_tells_its_evidence_in_comments_and_can_be_read_again() {
    let mut many = request("web", "shop/api:http", "GET", "/orders/{number}");
    many.count = 812;
    let flows = [many, request("web", "shop/api:http", "GET", "/orders")];
    let text = yaml(&propose_in(&world(Vec::new()), &flows));
    assert_eq!(
        text,
        "# Seen 813 times, first 2026-09-21T14:13:20Z, last 2026-09-21T14:14:20Z, 2 different paths:
#   812 × GET /orders/{number}
#   1 × GET /orders
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web-to-api, namespace: shop}
spec:
  to: {service: api, ports: [http]}
  from: [shop/web]
  http:
    - methods: [GET]
      paths: [\"/orders\", \"/orders/*\"]
"
    );
}

#[test]
fn sources_that_ask_for_the_same_share_a_rule() {
    let of = |source| request(source, "shop/api:http", "GET", "/orders");
    let two = propose_in(&world(Vec::new()), &[of("web"), of("batch")]);
    assert_eq!(
        lines(&two),
        ["batch-and-web-to-api api:http shop/batch,shop/web | GET /orders"]
    );
    let more = [
        of("web"),
        of("batch"),
        of("cron"),
        request("cron", "shop/api:http", "PUT", "/orders"),
    ];
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &more)),
        [
            "cron-to-api-write api:http shop/cron | PUT /orders",
            "many-to-api api:http shop/batch,shop/cron,shop/web | GET /orders",
        ]
    );
}

#[test]
fn a_foreign_source_is_named_in_full() {
    let mut flow = request("web", "shop/api:http", "GET", "/orders");
    flow.key.source = "spiffe://partner.example/ns/crm/sa/sync".parse().unwrap();
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &[flow])),
        ["partner-crm-sync-to-api api:http spiffe://partner.example/ns/crm/sa/sync | GET /orders"]
    );
}

#[test]
fn bytes_and_connect_need_a_rule_without_http_and_never_widen_requests() {
    let flows = [
        bytes("web", "shop/db:sql"),
        bytes("web", "shop/db:replica"),
        connect("web", "shop/egress:proxy"),
    ];
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &flows)),
        [
            "web-to-db db:replica,sql shop/web",
            "web-to-egress egress:proxy shop/web",
        ]
    );
    let mixed = [
        request("web", "shop/api:http", "GET", "/orders"),
        connect("web", "shop/api:http"),
        bytes("web", "shop/api:http"),
    ];
    let proposal = propose_in(&world(Vec::new()), &mixed);
    assert_eq!(
        lines(&proposal),
        ["web-to-api api:http shop/web | GET /orders"]
    );
    assert_eq!(
        reasons(&proposal),
        [
            NotProposed::WholeBesideRequests,
            NotProposed::WholeBesideRequests
        ]
    );
}

#[test]
fn an_upgrade_is_named_where_it_was_seen() {
    let flows = [
        with(request("web", "shop/api:http", "GET", "/live"), |r| {
            r.upgrade = Some("websocket".into());
        }),
        request("web", "shop/api:http", "GET", "/orders"),
    ];
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &flows)),
        ["web-to-api api:http shop/web | GET /orders | GET /live ^websocket"]
    );
}

#[test]
fn hosts_are_stated_where_they_choose_what_is_reached() {
    let of = |source, host: &str, path| {
        with(request(source, "shop/api:http", "GET", path), |r| {
            r.host = FlowHost::Named(host.into());
        })
    };
    let own = [
        of("web", "api", "/a"),
        of("web", "api.shop", "/a"),
        of("web", "10.0.0.7", "/a"),
        of("web", "shop.example", "/a"),
    ];
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &own)),
        ["web-to-api api:http shop/web | GET /a"]
    );
    let several = [
        of("web", "shop.example", "/a"),
        of("web", "www.shop.example", "/a"),
        of("web", "admin.example", "/b"),
    ];
    assert_eq!(
        lines(&propose_in(&world(Vec::new()), &several)),
        [
            "web-to-api api:http shop/web | GET /b @admin.example | GET /a @shop.example @www.shop.example"
        ]
    );
}

#[test]
fn a_pair_needs_at_most_three_rules_also_with_many_ports() {
    let mut flows = vec![bytes("web", "shop/api:bytes")];
    for (port, path) in [("p1", "/a"), ("p2", "/b"), ("p3", "/c"), ("p4", "/d")] {
        flows.push(request("web", &format!("shop/api:{port}"), "GET", path));
    }
    let proposal = propose_in(&world(Vec::new()), &flows);
    assert!(proposal.rules.len() <= 3, "{:?}", lines(&proposal));
    assert!(proposal.left_out.is_empty());
}

/// A request of each method on each port.
fn on_ports(asked: &[(&str, &[&str])]) -> Vec<Flow> {
    let of_port = |(port, methods): &(&str, &[&str])| {
        let target = format!("shop/api:{port}");
        let path = format!("/{port}");
        let flows = methods
            .iter()
            .map(|method| request("web", &target, method, &path));
        flows.collect::<Vec<_>>()
    };
    asked.iter().flat_map(of_port).collect()
}

#[test]
fn sentence_83_ports_share_a_rule_for_the_methods_that_they_have_in_common() {
    let flows = on_ports(&[
        ("a", &["GET"]),
        ("b", &["GET", "POST"]),
        ("c", &["POST"]),
        ("d", &["GET", "POST", "PUT"]),
    ]);
    let proposal = propose_in(&world(Vec::new()), &flows);
    assert_eq!(
        lines(&proposal),
        [
            "web-to-api-a-b-d api:a,b,d shop/web | GET /a,/b,/d",
            "web-to-api-b-c-d api:b,c,d shop/web | POST /b,/c,/d",
            "web-to-api-d api:d shop/web | PUT /d",
        ]
    );
    assert!(proposal.crowded.is_empty() && proposal.left_out.is_empty());
}

#[test]
fn sentence_83_what_three_rules_cannot_say_has_more_and_is_told() {
    let mut flows = on_ports(&[
        ("a", &["GET"]),
        ("b", &["POST"]),
        ("c", &["PUT"]),
        ("d", &["DELETE"]),
    ]);
    flows.push(bytes("web", "shop/api:e"));
    let proposal = propose_in(&world(Vec::new()), &flows);
    assert_eq!(proposal.rules.len(), 5, "{:?}", lines(&proposal));
    let crowded = Crowded {
        source: "shop/web".parse().unwrap(),
        service: "shop/api".parse().unwrap(),
        rules: 5,
    };
    assert_eq!(proposal.crowded, [crowded]);
    assert!(proposal.left_out.is_empty());
}

#[test]
fn a_name_that_is_too_long_is_cut_and_stays_one_of_its_own() {
    let long = "a".repeat(63);
    let flows = [
        request(&long, "shop/api:http", "GET", "/orders"),
        request(&long, "shop/api:http", "POST", "/orders"),
    ];
    let names: Vec<_> = propose_in(&world(Vec::new()), &flows)
        .rules
        .iter()
        .map(|proposed| proposed.rule.name.name.as_str().to_owned())
        .collect();
    assert_eq!(names, [format!("{}-write", "a".repeat(57)), "a".repeat(63)]);
}

#[test]
fn control_characters_of_peers_do_not_end_a_comment() {
    let evidence = Evidence {
        examples: vec![Example {
            text: "GET /a\nkind: Allow".to_owned(),
            count: 1,
        }],
        ..Evidence::default()
    };
    let text = yaml::document(&rule("x", "shop/web", None), &evidence);
    assert!(text.contains("GET /a\\nkind: Allow\napiVersion"), "{text}");
}
