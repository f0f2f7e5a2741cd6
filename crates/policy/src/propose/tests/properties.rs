//! Whatever the flows: what is claimed passes, and nothing else that was not observed.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

type Tuple = (SpiffeId, ServicePort, Option<String>);

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    proptest::collection::vec(flow(), 0..60)
}

fn flow() -> impl Strategy<Value = Flow> {
    let source = select(vec!["web", "batch", "cron"]);
    let to = select(vec![
        "api:http",
        "api:admin",
        "api:bytes",
        "api:more",
        "api:other",
        "web:http",
    ]);
    (source, to, recorded(), verdict(), 1..50_u64).prop_map(
        |(source, to, recorded, verdict, count)| {
            let mut flow = bytes(source, &format!("shop/{to}"));
            flow.key.request = recorded;
            flow.key.judged = verdict;
            flow.count = count;
            flow
        },
    )
}

fn recorded() -> impl Strategy<Value = Option<FlowRequest>> {
    let method = select(vec!["GET", "GET", "HEAD", "POST", "DELETE", "get"]);
    let upgrade = select(vec![None, None, None, Some("websocket"), Some("a, b")]);
    let named = |host: &str| FlowHost::Named(host.into());
    let host = select(vec![
        FlowHost::None,
        FlowHost::Folded,
        named("api"),
        named("x.example"),
        named("y.example"),
    ]);
    let request = (method, path(), upgrade, host, 0..20_u8).prop_map(
        |(method, path, upgrade, host, connect)| {
            let connect = connect == 0;
            FlowRequest {
                method: if connect { "CONNECT" } else { method }.into(),
                host,
                path: (!connect).then_some(path),
                headers: Vec::new(),
                upgrade: upgrade.filter(|_| !connect).map(Into::into),
                connect,
            }
        },
    );
    prop_oneof![8 => request.prop_map(Some), 1 => Just(None)]
}

fn path() -> impl Strategy<Value = FoldedPath> {
    let word = prop_oneof![
        3 => select(vec!["a", "b", "orders", ""]).prop_map(str::to_owned),
        2 => (0..40_u8).prop_map(|at| format!("w{}{}", char::from(b'a' + at / 20), char::from(b'a' + at % 20))),
        2 => select(vec!["{number}", "{uuid}", "{text}"]).prop_map(str::to_owned),
        1 => select(vec!["{rest}", "{encodedSlash}"]).prop_map(str::to_owned),
    ];
    proptest::collection::vec(word, 1..5).prop_map(|segments| {
        let text = format!("/{}", segments.join("/"));
        text.parse()
            .unwrap_or_else(|_| "{notCanonical}".parse().unwrap())
    })
}

fn verdict() -> impl Strategy<Value = Judged> {
    prop_oneof![
        6 => Just(Judged::Learned(Reason::NoRule)),
        1 => Just(Judged::Learned(Reason::PathNotCanonical)),
        1 => Just(Judged::Denied(Reason::NoRule)),
        1 => Just(Judged::Allowed("shop/old".parse().unwrap())),
    ]
}

fn lesson() -> impl Strategy<Value = Lesson> {
    (any::<bool>(), any::<bool>()).prop_map(|(denied, from_scratch)| Lesson {
        denied,
        from_scratch,
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (0..3_usize, select(vec!["shop/web", "shop/*"])).prop_map(|(at, from)| {
        let paths = [Some("/orders/*"), Some("/a/**"), None];
        let names = ["web-to-api", "old", "batch-to-api-write"];
        rule(names[at], from, paths[at])
    });
    proptest::collection::vec(rule, 0..3).prop_map(|mut rules| {
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        rules.dedup_by(|a, b| a.name == b.name);
        rules
    })
}

/// What was observed; `None` in place of a method: a whole connection.
fn tuple(flow: &Flow) -> Tuple {
    let request = flow.key.request.as_ref().filter(|request| !request.connect);
    let method = request.map(|request| request.method.to_string());
    (flow.key.source.clone(), flow.key.target.clone(), method)
}

fn granted(rule: &Rule, trust_domain: &weft_identity::TrustDomain) -> BTreeSet<Tuple> {
    let mut tuples = BTreeSet::new();
    for from in rule.from.identities() {
        let source = from.exact(trust_domain).expect("never a pattern");
        for port in rule.ports.listed() {
            let target = ServicePort {
                service: rule.service.clone(),
                port: port.clone(),
            };
            if rule.http.is_any() {
                tuples.insert((source.clone(), target.clone(), None));
            }
            for condition in rule.http.listed() {
                assert!(!condition.methods.is_any() && !condition.paths.is_any());
                for method in condition.methods.listed() {
                    let method = Some(method.as_str().to_owned());
                    tuples.insert((source.clone(), target.clone(), method));
                }
            }
        }
    }
    tuples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_proposal_allows_what_it_claims_and_nothing_that_was_not_observed(
        flows in flows(), lesson in lesson(), rules in rules()
    ) {
        let world = world(rules);
        let basis = Basis { world: &world, lesson, now: time(10) };
        let proposal = propose(&flows, &basis);
        let taught = |flow: &&Flow| lesson.denied || !matches!(flow.key.judged, Judged::Denied(_));
        let observed: BTreeSet<_> = flows.iter().filter(taught).map(tuple).collect();
        let mut per_pair = BTreeMap::<_, usize>::new();
        let mut names = BTreeSet::new();
        for Proposed { rule, evidence } in &proposal.rules {
            prop_assert!(rule.check().is_ok());
            prop_assert!(evidence.count > 0, "{rule:?} has no evidence");
            prop_assert!(names.insert(rule.name.clone()));
            prop_assert!(world.rules.iter().all(|other| other.name != rule.name));
            for tuple in granted(rule, &world.trust_domain) {
                prop_assert!(observed.contains(&tuple), "{tuple:?} was not observed");
                let pair = (tuple.0, tuple.1.service, rule.name.clone());
                per_pair.insert(pair, 1);
            }
            for pattern in rule.http.listed().iter().flat_map(|c| c.paths.listed()) {
                let has_word = pattern.as_str().split('/').any(|s| !s.is_empty() && !s.contains('*'));
                prop_assert!(has_word || pattern.as_str() == "/", "{pattern} is a catch-all");
            }
        }
        let mut counts = BTreeMap::<_, usize>::new();
        for (source, service, _) in per_pair.into_keys() {
            *counts.entry((source, service)).or_default() += 1;
        }
        let crowded = counts.values().filter(|count| **count > 3).count();
        prop_assert_eq!(crowded, proposal.crowded.len(), "{:?}", counts);

        let kept = if lesson.from_scratch { &[][..] } else { &world.rules };
        let all: Vec<_> = kept.iter().chain(proposal.rules.iter().map(|p| &p.rule)).cloned().collect();
        for flow in flows.iter().filter(taught) {
            let set = set_of(&world, &flow.key.target.service, &all);
            let passes = verdict_of(&set, flow, time(10)).is_ok()
                || gather::still_granted(&set, flow, &basis);
            let is_told = proposal.left_out.iter().any(|left| left.flow == *flow);
            prop_assert!(passes || is_told, "{flow:?} is neither allowed nor told");
        }
    }

    #[test]
    fn the_order_of_flows_does_not_matter(
        (flows, shuffled) in flows().prop_flat_map(|flows| (Just(flows.clone()), Just(flows).prop_shuffle())),
        lesson in lesson(), rules in rules()
    ) {
        let world = world(rules);
        let basis = Basis { world: &world, lesson, now: time(10) };
        let (one, other) = (propose(&flows, &basis), propose(&shuffled, &basis));
        prop_assert_eq!(yaml(&one), yaml(&other));
        prop_assert_eq!(format!("{:?}", one.left_out), format!("{:?}", other.left_out));
    }
}
