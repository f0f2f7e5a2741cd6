use weft_identity::ServicePort;

use super::*;
use crate::flow::{FlowHost, FlowKey, FlowRequest};
use crate::request::Reason;
use crate::{HttpCondition, Match, NonEmpty, SourcePattern};

fn time(hour: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + hour * 3_600).unwrap()
}

fn flow(source: &str, request: Option<(&str, &str)>, judged: Judged, hour: i64) -> Flow {
    Flow {
        key: FlowKey {
            source: format!("spiffe://weft.local/ns/shop/sa/{source}")
                .parse()
                .unwrap(),
            target: "shop/api:http".parse::<ServicePort>().unwrap(),
            request: request.map(|(method, path)| FlowRequest {
                method: method.into(),
                host: FlowHost::None,
                path: Some(path.parse().unwrap()),
                headers: Vec::new(),
                upgrade: None,
                connect: false,
            }),
            judged,
        },
        count: 10,
        first_seen: time(hour),
        last_seen: time(hour),
    }
}

fn by(rule: &str) -> Judged {
    Judged::Allowed(format!("shop/{rule}").parse().unwrap())
}

fn rule(name: &str, from: &str, paths: Option<&[&str]>) -> Rule {
    let paths = paths.map(|paths| paths.iter().map(|path| path.parse().unwrap()).collect());
    Rule {
        name: format!("shop/{name}").parse().unwrap(),
        service: "shop/api".parse().unwrap(),
        ports: Match::Any,
        from: from.parse::<SourcePattern>().unwrap().into(),
        http: paths.map_or(Match::Any, |paths| {
            Match::OneOf(NonEmpty::one(HttpCondition {
                paths: Match::OneOf(NonEmpty::new(paths).unwrap()),
                ..HttpCondition::default()
            }))
        }),
        expires: None,
        mode: Mode::Enforce,
    }
}

fn covered(rules: Vec<Rule>, flows: &[Flow]) -> Vec<RuleUse> {
    let world = World {
        rules: rules.into_iter().map(Arc::new).collect(),
        ..World::empty("weft.local".parse().unwrap())
    };
    coverage(flows, &world, time(24), time(48))
}

#[test]
fn a_rule_that_nothing_used_is_told_with_when_it_last_was() {
    let uses = covered(
        vec![
            rule("never", "shop/web", Some(&["/never"])),
            rule("once", "shop/web", Some(&["/once"])),
            rule("used", "shop/web", Some(&["/used"])),
        ],
        &[
            flow("web", Some(("GET", "/once")), by("once"), 3),
            flow("web", Some(("GET", "/used")), by("used"), 30),
            flow(
                "web",
                Some(("GET", "/never")),
                Judged::Denied(Reason::NoRule),
                31,
            ),
        ],
    );
    let found: Vec<_> = uses
        .iter()
        .map(|used| (used.used, used.last_seen))
        .collect();
    assert_eq!(found, [(0, None), (0, Some(time(3))), (10, Some(time(30)))]);
}

#[test]
fn traffic_that_a_narrow_rule_allows_too_is_not_only_broad() {
    let uses = covered(
        vec![
            rule("all", "*", None),
            rule("orders", "shop/web", Some(&["/orders"])),
        ],
        &[
            flow("web", Some(("GET", "/orders")), by("all"), 30),
            flow("web", Some(("GET", "/stock/{number}")), by("all"), 30),
        ],
    );
    assert_eq!((uses[0].used, uses[0].only_broad), (20, 10));
    assert_eq!(
        uses[0].breadths,
        [Breadth::AnySource, Breadth::NoConditions]
    );
    let [narrower] = uses[0].narrower.as_slice() else {
        panic!("{:?}", uses[0].narrower);
    };
    let yaml = narrower.to_yaml();
    assert!(yaml.contains("name: web-to-api,"), "{yaml}");
    assert!(yaml.contains("\"/stock/*\""), "{yaml}");
    assert!(!yaml.contains("/orders"), "{yaml}");
    // also the other way round: the narrow rule is used, whichever was named
    assert_eq!((uses[1].used, uses[1].only_broad), (10, 0));
}

#[test]
fn each_breadth_is_broad_only_for_what_it_admits() {
    for (from, paths, request, is_broad) in [
        ("shop/web", Some(&["/a/**"][..]), Some("/a/b"), true),
        (
            "shop/web",
            Some(&["/a/**", "/a/b"][..]),
            Some("/a/b"),
            false,
        ),
        ("shop/web", Some(&["/a/b"][..]), Some("/a/b"), false),
        ("shop/w*", Some(&["/a/b"][..]), Some("/a/b"), true),
        ("shop/web", None, Some("/a/b"), true),
        // bytes need a rule without conditions
        ("shop/web", None, None, false),
        ("*", None, None, true),
    ] {
        let request = request.map(|path| ("GET", path));
        let uses = covered(
            vec![rule("r", from, paths)],
            &[flow("web", request, by("r"), 30)],
        );
        let what = format!("{from} {paths:?} {request:?}");
        assert_eq!(uses[0].only_broad > 0, is_broad, "{what}");
        assert_eq!(!uses[0].narrower.is_empty(), is_broad, "{what}");
    }
}

#[test]
fn nothing_narrower_is_proposed_where_the_evidence_is_as_broad() {
    let uses = covered(
        vec![Rule {
            ports: Match::OneOf(NonEmpty::one("http".parse().unwrap())),
            http: Match::OneOf(NonEmpty::one(HttpCondition {
                methods: Match::OneOf(NonEmpty::one("GET".parse().unwrap())),
                paths: Match::OneOf(NonEmpty::one("/files/**".parse().unwrap())),
                ..HttpCondition::default()
            })),
            ..rule("r", "shop/web", None)
        }],
        &[flow("web", Some(("GET", "/files/{rest}")), by("r"), 30)],
    );
    assert_eq!(uses[0].only_broad, 10);
    assert!(uses[0].narrower.is_empty());
}

#[test]
fn rules_that_end_or_grant_nothing_are_told() {
    let ends = |name, hour| Rule {
        expires: Some(time(hour)),
        ..rule(name, "shop/web", Some(&["/a"]))
    };
    let audited = Rule {
        mode: Mode::Audit,
        ..rule("d-audit", "shop/web", Some(&["/a"]))
    };
    let rules = vec![
        ends("a", 48),
        ends("b", 48 + 7 * 24),
        ends("c", 49 + 7 * 24),
        audited,
    ];
    let lives: Vec<_> = covered(rules, &[])
        .into_iter()
        .map(|used| used.life)
        .collect();
    assert_eq!(
        lives,
        [
            Life::Expired(time(48)),
            Life::ExpiresSoon(time(48 + 7 * 24)),
            Life::InForce,
            Life::Audited,
        ]
    );
}
