//! What stands around the verdict: reports of Audit rules, warnings, schemas, expiries.

use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::document::{Origin, read};
use weft_policy::{
    ALLOW, AllowSpec, Connection, ConnectionVerdict, EncodedSlashes, PolicySet, PolicyTestSpec,
    QuarantineSpec, Reason, Rule, Source, lint,
};

#[test]
fn sentence_11_a_matching_audit_rule_is_reported_once_and_grants_nothing() {
    let trial = rule(
        "trial",
        "{to: {service: api}, from: [shop/web, \"*\"], mode: Audit}",
    );
    let set = compile(std::slice::from_ref(&trial));
    let source = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
    let port = "http".parse().unwrap();
    let connection = Connection {
        source: Source::Identity(&source),
        port: &port,
        quarantined: false,
    };
    assert_eq!(
        set.decide_connection(&connection, now()),
        ConnectionVerdict::Deny(Reason::NoRule)
    );
    let reported: Vec<_> = set.audit_matches(&connection, None, now()).collect();
    assert_eq!(reported, [&trial]);
}

#[test]
fn the_next_expiry_is_the_nearest_one_to_come() {
    let set = compile(&[
        rule(
            "past",
            "{to: {service: api}, from: [a/b], expires: 2020-01-01T00:00:00Z}",
        ),
        rule(
            "later",
            "{to: {service: api}, from: [a/b], expires: 2031-01-01T00:00:00Z}",
        ),
        rule(
            "soon",
            "{to: {service: api}, from: [a/b], expires: 2030-01-01T00:00:00Z}",
        ),
    ]);
    assert_eq!(set.next_expiry(now()), "2030-01-01T00:00:00Z".parse().ok());
}

#[test]
fn the_linter_names_what_is_hardly_meant() {
    let rules = [
        rule("a-wide", "{to: {service: api}, from: [\"shop/*\"]}"),
        rule(
            "b-narrow",
            "{to: {service: api, ports: [http]}, from: [shop/web]}",
        ),
        rule("c-same", "{to: {service: api}, from: [\"shop/*\"]}"),
        rule(
            "d-past",
            "{to: {service: api}, from: [a/b], expires: 2020-01-01T00:00:00Z}",
        ),
        rule("e-typo", "{to: {service: aip}, from: [a/b]}"),
        rule("f-any", "{to: {service: orders}, from: [\"*\"]}"),
    ];
    let services = ["shop/api".parse().unwrap(), "shop/orders".parse().unwrap()];
    let warnings: Vec<_> = lint(&rules, Some(&services), now())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        warnings,
        [
            "Allow/shop/b-narrow: adds nothing to shop/a-wide, which allows all of it",
            "Allow/shop/c-same: says the same as shop/a-wide",
            "Allow/shop/d-past: expired at 2020-01-01T00:00:00Z; it grants nothing",
            "Allow/shop/e-typo: no service is named shop/aip; did you mean shop/api?",
            "Allow/shop/f-any: `from: [\"*\"]` lets every workload of this trust domain in",
        ]
    );
}

#[test]
fn schemas_refuse_unknown_fields_and_empty_lists() {
    let schema = serde_json::to_value(schemars::schema_for!(AllowSpec)).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["from"]["minItems"], 1);
    assert_eq!(schema["properties"]["http"]["minItems"], 1);
    assert_eq!(schema["properties"]["fromAddresses"]["minItems"], 1);
    assert_eq!(schema["required"], serde_json::json!(["to"]));
    let named = serde_json::json!([{"required": ["from"]}, {"required": ["fromAddresses"]}]);
    assert_eq!(schema["anyOf"], named);
    serde_json::to_value(schemars::schema_for!(QuarantineSpec)).unwrap();
    serde_json::to_value(schemars::schema_for!(PolicyTestSpec)).unwrap();
}

fn now() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn compile(rules: &[Arc<Rule>]) -> PolicySet {
    PolicySet::compile(
        "weft.local".parse().unwrap(),
        &"shop/api".parse().unwrap(),
        rules.iter().cloned(),
        EncodedSlashes::Refuse,
    )
}

fn rule(name: &str, spec: &str) -> Arc<Rule> {
    let yaml = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    );
    let document = read::<AllowSpec>(&yaml, &Origin::file("f"), ALLOW).unwrap();
    Arc::new(Rule::from_document(&document).unwrap())
}
