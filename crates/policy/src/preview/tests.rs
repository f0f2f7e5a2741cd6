use std::collections::BTreeSet;
use std::sync::Arc;

use weft_identity::document::{Origin, read};

use super::*;
use crate::{
    ALLOW, AllowSpec, EncodedSlashes, FlowHost, FlowKey, FlowRequest, Judged, Quarantine, Reason,
    Rule, ServiceFacts, World,
};

const WEB: &str = "{to: {service: api}, from: [shop/web], http: [{paths: [\"/orders/**\"]}]}";

fn rule(name: &str, spec: &str) -> Arc<Rule> {
    let yaml = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    );
    let document = read::<AllowSpec>(&yaml, &Origin::file("f"), ALLOW).unwrap();
    Arc::new(Rule::from_document(&document).unwrap())
}

fn side(rules: &[(&str, &str)]) -> Side {
    let facts = ServiceFacts {
        workloads: vec!["shop/api".parse().unwrap()],
        ports: vec!["http".parse().unwrap()],
        opaque_ports: Vec::new(),
        encoded_slashes: EncodedSlashes::Refuse,
    };
    Side {
        world: World {
            rules: rules.iter().map(|(name, spec)| rule(name, spec)).collect(),
            services: [("shop/api".parse().unwrap(), facts)].into(),
            ..World::empty("weft.local".parse().unwrap())
        },
        revoked: BTreeSet::new(),
        at: "2026-11-29T00:00:00Z".parse().unwrap(),
    }
}

fn quarantine(workload: &str) -> Quarantine {
    Quarantine {
        name: "shop/cut".parse().unwrap(),
        workload: workload.parse().unwrap(),
        reason: String::new(),
    }
}

fn flow(path: &str) -> Flow {
    Flow {
        key: FlowKey {
            source: "spiffe://weft.local/ns/shop/sa/web".parse().unwrap(),
            target: "shop/api:http".parse().unwrap(),
            request: Some(FlowRequest {
                method: "GET".into(),
                host: FlowHost::None,
                path: Some(path.parse().unwrap()),
                headers: Vec::new(),
                upgrade: None,
                connect: false,
            }),
            judged: Judged::Allowed("shop/web".parse().unwrap()),
        },
        count: 1,
        first_seen: "2026-11-28T00:00:00Z".parse().unwrap(),
        last_seen: "2026-11-28T00:00:00Z".parse().unwrap(),
    }
}

/// The change of the flow and what does it, as text.
fn told(before: &Side, after: &Side, path: &str) -> Option<(Change, Vec<String>)> {
    let flow = flow(path);
    let preview = preview(before, after, [&flow]);
    let changed = preview.changed.first()?;
    let causes = changed.causes.iter().map(ToString::to_string).collect();
    Some((changed.change, causes))
}

fn because(change: Change, cause: &str) -> Option<(Change, Vec<String>)> {
    Some((change, vec![cause.to_owned()]))
}

#[test]
fn every_kind_of_edit_names_itself_as_the_cause() {
    let before = side(&[("web", WEB)]);
    let path = "/orders/{number}";
    for (after, cause) in [
        (side(&[]), "shop/web removed"),
        (
            side(&[("web", "{to: {service: api}, from: [shop/batch]}")]),
            "shop/web edited",
        ),
    ] {
        assert_eq!(told(&before, &after, path), because(Change::Denied, cause));
        let back = told(&after, &before, path).unwrap();
        assert_eq!(back.0, Change::Allowed);
    }
    assert_eq!(
        told(&side(&[]), &before, path),
        because(Change::Allowed, "shop/web added")
    );

    let expiring = [(
        "web",
        "{to: {service: api}, from: [shop/web], expires: 2026-12-01T00:00:00Z}",
    )];
    let mut later = side(&expiring);
    later.at = "2026-12-01T00:00:00Z".parse().unwrap();
    assert_eq!(
        told(&side(&expiring), &later, path),
        because(Change::Denied, "shop/web expires at 2026-12-01T00:00:00Z")
    );

    let mut cut = before.clone();
    cut.world.quarantines.push(quarantine("shop/web"));
    assert_eq!(
        told(&before, &cut, path),
        because(Change::Denied, "the source quarantined")
    );
    assert_eq!(
        told(&cut, &before, path),
        because(Change::Allowed, "the source no longer quarantined")
    );
    let mut revoked = before.clone();
    revoked
        .revoked
        .insert("spiffe://weft.local/ns/shop/sa/api".parse().unwrap());
    assert_eq!(
        told(&before, &revoked, path),
        because(Change::Denied, "shop/api revoked")
    );

    let mut renamed = before.clone();
    for facts in renamed.world.services.values_mut() {
        facts.ports = vec!["web".parse().unwrap()];
    }
    assert_eq!(
        told(&before, &renamed, path),
        because(Change::Denied, "service shop/api edited")
    );
}

#[test]
fn the_end_of_learn_mode_cuts_what_no_rule_allows() {
    let mut learning = side(&[]);
    let until = "2026-12-01T00:00:00Z".parse().unwrap();
    learning
        .world
        .learning
        .insert("shop".parse().unwrap(), until);
    let path = "/orders/{number}";
    assert_eq!(
        told(&learning, &side(&[]), path),
        because(Change::Denied, "learn mode of shop")
    );
    let mut later = learning.clone();
    later.at = until;
    assert_eq!(
        told(&learning, &later, path),
        because(Change::Denied, "learn mode of shop")
    );
    assert_eq!(told(&learning, &side(&[("web", WEB)]), path), None);
    let mut cut = learning.clone();
    cut.world.quarantines.push(quarantine("shop/web"));
    assert_eq!(told(&learning, &cut, path).unwrap().0, Change::Denied);
}

#[test]
fn a_rule_for_somebody_else_that_brings_path_conditions_is_the_cause_of_a_400() {
    let all = ("all", "{to: {service: api}, from: [shop/web]}");
    let other = (
        "other",
        "{to: {service: api}, from: [shop/batch], http: [{paths: [/a]}]}",
    );
    assert_eq!(
        told(&side(&[all]), &side(&[all, other]), "{notCanonical}"),
        because(Change::Denied, "shop/other added")
    );
}

#[test]
fn an_edit_beside_what_the_record_cannot_decide_changes_nothing() {
    let special = (
        "a",
        "{to: {service: api}, from: [shop/web], http: [{paths: [/orders/17]}]}",
    );
    let other = (
        "b",
        "{to: {service: api}, from: [shop/web], http: [{paths: [/other]}]}",
    );
    let (one, two) = (side(&[special]), side(&[special, other]));
    assert_eq!(told(&one, &two, "/orders/{number}"), None);
    let flow = flow("/orders/{number}");
    assert_eq!(preview(&one, &two, [&flow]).unchanged.undecided, 1);
    // taken away, it may have let this through; and one that is wider only adds
    assert_eq!(
        told(&two, &side(&[other]), "/orders/{number}"),
        because(Change::MayBeDenied, "shop/a removed")
    );
    let wide = (
        "c",
        "{to: {service: api}, from: [shop/web], http: [{paths: [\"/orders/1*\"]}]}",
    );
    assert_eq!(
        told(&one, &side(&[special, wide]), "/orders/{number}"),
        because(Change::MayBeAllowed, "shop/c added")
    );
}

#[test]
fn a_header_that_no_rule_named_is_unknown_and_counts_as_a_cut() {
    let named = "{to: {service: api}, from: [shop/web], http: [{headers: [{name: x-tenant, exact: blue}]}]}";
    let (before, after) = (side(&[("web", WEB)]), side(&[("web", named)]));
    let change = told(&before, &after, "/orders/{number}");
    assert_eq!(change, because(Change::MayBeDenied, "shop/web edited"));
    assert!(change.unwrap().0.may_cut());
}

#[test]
fn what_was_refused_for_itself_stays_refused() {
    let mut flow = flow("/orders/{number}");
    flow.key.judged = Judged::Denied(Reason::Misdirected);
    let preview = preview(&side(&[]), &side(&[("web", WEB)]), [&flow]);
    assert_eq!(preview.changed, []);
    assert_eq!(preview.unchanged.denied, 1);
}
