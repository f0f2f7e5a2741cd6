//! What is not proposed, and how that is told.

use super::*;

#[test]
fn what_no_rule_can_say_narrowly_is_told_and_not_proposed() {
    let of = |method, path| request("web", "shop/api:http", method, path);
    let refused = |path| judged(of("GET", path), Judged::Learned(Reason::PathNotCanonical));
    let h2c = with(of("GET", "/a"), |r| r.upgrade = Some("h2c".into()));
    let catch_all = NotProposed::CatchAll("/{uuid}/{number}".parse().unwrap());
    for (flow, why) in [
        (of("GET", "/{uuid}/{number}"), catch_all),
        (of("get", "/a"), NotProposed::Method),
        (h2c, NotProposed::Upgrade),
        (refused("{notCanonical}"), NotProposed::NotCanonical),
        (
            judged(of("GET", "/a"), Judged::Learned(Reason::Malformed)),
            NotProposed::Refused(Reason::Malformed),
        ),
    ] {
        let proposal = propose_in(&world(Vec::new()), &[flow, of("GET", "/word")]);
        assert_eq!(reasons(&proposal), [why]);
        assert_eq!(
            lines(&proposal),
            ["web-to-api api:http shop/web | GET /word"]
        );
    }
}

#[test]
fn a_first_segment_with_endless_words_is_listed_up_to_a_limit() {
    let letters = "abcdefghijklmnopqrstuvwxyz";
    let mut flows: Vec<_> = letters
        .chars()
        .flat_map(|a| letters.chars().take(4).map(move |b| format!("/wo{a}{b}")))
        .map(|path| request("web", "shop/api:http", "GET", &path))
        .collect();
    flows[50].count = 7;
    let proposal = propose_in(&world(Vec::new()), &flows);
    assert_eq!(proposal.left_out.len(), 4);
    assert!(
        proposal.left_out.iter().all(
            |left| left.why == NotProposed::TooManyPaths { limit: 100 } && left.flow.count == 1
        )
    );
    let listed = proposal.rules[0].rule.http.listed()[0].paths.listed();
    assert_eq!(listed.len(), 100);
    assert!(listed.iter().all(|pattern| pattern.is_literal()));
}

#[test]
fn what_the_rules_allow_is_not_proposed_again_unless_from_scratch() {
    let world = world(vec![rule("web-to-api", "shop/web", Some("/orders/*"))]);
    let flows = [
        judged(
            request("web", "shop/api:http", "GET", "/orders/{number}"),
            Judged::Allowed("shop/web-to-api".parse().unwrap()),
        ),
        request("web", "shop/api:http", "GET", "/stock"),
    ];
    let learned = propose_in(&world, &flows);
    assert_eq!(
        lines(&learned),
        ["web-to-api-2 api:http shop/web | GET /stock"]
    );
    assert_eq!(learned.already_allowed, 1);
    let basis = Basis {
        world: &world,
        lesson: Lesson {
            from_scratch: true,
            denied: false,
        },
        now: time(10),
    };
    assert_eq!(
        lines(&propose(&flows, &basis)),
        ["web-to-api-2 api:http shop/web | GET /orders/*,/stock"]
    );
}

#[test]
fn what_a_pattern_of_a_rule_in_force_allowed_counts_as_allowed_although_its_path_is_folded() {
    let of = |path| {
        judged(
            request("web", "shop/api:http", "GET", path),
            Judged::Allowed("shop/css".parse().unwrap()),
        )
    };
    let flows = [of("/static/{text}")];
    let mut rule = rule("css", "shop/web", Some("/static/*.css"));
    let with_it = propose_in(&world(vec![rule.clone()]), &flows);
    assert_eq!((with_it.already_allowed, with_it.rules.len()), (1, 0));
    rule.expires = Some(time(5));
    let expired = propose_in(&world(vec![rule]), &flows);
    assert_eq!(
        lines(&expired),
        ["web-to-api api:http shop/web | GET /static/*"]
    );
}

#[test]
fn refused_flows_are_proposed_only_when_asked_for() {
    let denied = |flow| judged(flow, Judged::Denied(Reason::NoRule));
    let flows = [
        denied(request("eve", "shop/api:http", "GET", "/orders")),
        denied(bytes("eve", "shop/api:http")),
        denied(bytes("eve", "shop/api:auto")),
    ];
    let world = world(Vec::new());
    let silent = propose_in(&world, &flows);
    assert_eq!((silent.rules.len(), silent.denied), (0, 3));
    let basis = Basis {
        world: &world,
        lesson: Lesson {
            denied: true,
            from_scratch: false,
        },
        now: time(10),
    };
    let asked = propose(&flows, &basis);
    assert_eq!(
        lines(&asked),
        ["eve-to-api api:http shop/eve | GET /orders"]
    );
    assert_eq!(
        reasons(&asked),
        [NotProposed::ConnectionOnly, NotProposed::ConnectionOnly]
    );
}

#[test]
fn a_refused_flow_that_looks_like_what_is_proposed_is_told() {
    let flows = [
        request("web", "shop/api:http", "GET", "/users/{number}"),
        judged(
            request("web", "shop/api:http", "GET", "/users/admin"),
            Judged::Denied(Reason::NoRule),
        ),
        judged(
            request("eve", "shop/api:http", "GET", "/users/{number}"),
            Judged::Denied(Reason::NoRule),
        ),
    ];
    let proposal = propose_in(&world(Vec::new()), &flows);
    assert_eq!(proposal.opened, [flows[1].clone()]);
}

#[test]
fn quarantined_ends_and_ports_that_are_gone_teach_nothing() {
    let mut world = world(Vec::new());
    let facts = ServiceFacts {
        ports: vec!["http".parse().unwrap()],
        ..ServiceFacts::default()
    };
    world.services.insert("shop/api".parse().unwrap(), facts);
    world.quarantines.push(Quarantine {
        name: "shop/q".parse().unwrap(),
        workload: "shop/eve".parse().unwrap(),
        reason: String::new(),
    });
    let flows = [
        request("eve", "shop/api:http", "GET", "/orders"),
        request("web", "shop/api:gone", "GET", "/orders"),
    ];
    let proposal = propose_in(&world, &flows);
    assert!(proposal.rules.is_empty());
    assert_eq!(
        reasons(&proposal),
        [NotProposed::Quarantined, NotProposed::UnknownTarget]
    );
}

#[test]
fn traffic_that_the_proposal_would_cut_by_its_form_is_told() {
    // a rule without paths lets it pass today
    let mut open = rule("web", "shop/web", None);
    open.ports = Match::OneOf(NonEmpty::one("http".parse().unwrap()));
    let flows = [
        judged(
            request("web", "shop/api:http", "GET", "{notCanonical}"),
            Judged::Allowed(open.name.clone()),
        ),
        request("batch", "shop/api:http", "GET", "/orders"),
    ];
    let proposal = propose_in(&world(vec![open]), &flows);
    assert_eq!(reasons(&proposal), [NotProposed::NotCanonical]);
    assert_eq!(proposal.rules.len(), 1);
}

#[test]
fn a_header_is_never_a_condition_and_one_that_came_twice_is_told() {
    let condition = HeaderCondition {
        name: "x-tenant".parse().unwrap(),
        test: HeaderTest::Exact("a".to_owned()),
    };
    let mut named = rule("tenant", "shop/other", None);
    named.http = Match::OneOf(NonEmpty::one(HttpCondition {
        headers: Match::OneOf(NonEmpty::one(condition.clone())),
        ..HttpCondition::default()
    }));
    let seen = |path, seen| {
        with(request("web", "shop/api:http", "GET", path), |r| {
            r.headers = vec![(condition.clone(), seen)];
        })
    };
    let flows = [
        seen("/orders", HeaderSeen::Matched),
        seen("/stock", HeaderSeen::Differed),
        seen("/twice", HeaderSeen::Many),
    ];
    let proposal = propose_in(&world(vec![named]), &flows);
    assert_eq!(
        lines(&proposal),
        ["web-to-api api:http shop/web | GET /orders,/stock"]
    );
    assert_eq!(
        reasons(&proposal),
        [NotProposed::Refused(Reason::Malformed)]
    );
}

#[test]
fn an_encoded_slash_is_one_segment_where_the_service_keeps_it() {
    let mut world = world(Vec::new());
    let mut facts = ServiceFacts {
        ports: vec!["http".parse().unwrap()],
        encoded_slashes: EncodedSlashes::Keep,
        ..ServiceFacts::default()
    };
    let flows = [request(
        "web",
        "shop/api:http",
        "GET",
        "/pkg/{encodedSlash}",
    )];
    let name: weft_identity::ServiceName = "shop/api".parse().unwrap();
    world.services.insert(name.clone(), facts.clone());
    assert_eq!(
        lines(&propose_in(&world, &flows)),
        ["web-to-api api:http shop/web | GET /pkg/*"]
    );
    facts.encoded_slashes = EncodedSlashes::Refuse;
    world.services.insert(name, facts);
    let refused = propose_in(&world, &flows);
    assert!(refused.rules.is_empty());
    assert_eq!(
        reasons(&refused),
        [NotProposed::Refused(Reason::PathNotCanonical)]
    );
}
