//! Random Istio policies against an evaluator written plainly from Istio's reference: the rules never allow what it refuses.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use weft_identity::{SpiffeId, document::Origin};
use weft_policy::{Connection, EncodedSlashes, HttpRequest, PolicySet, Verdict, import::Importer};

use crate::corpus::{folder, options, read_file};

/// One request as both sides see it.
#[derive(Debug, Clone)]
struct Request {
    namespace: &'static str,
    account: &'static str,
    domain: &'static str,
    port: u16,
    method: &'static str,
    path: &'static str,
    headers: BTreeMap<&'static str, &'static str>,
    /// Not seen by rules: the caller's address and token.
    address: &'static str,
    token: &'static str,
}

/// The reference: CUSTOM (whose provider refuses), then DENY, then ALLOW.
fn allows(policies: &[Value], request: &Request) -> bool {
    let of = |action: &str| {
        let action = action.to_owned();
        policies
            .iter()
            .filter(move |policy| policy["spec"]["action"] == action.as_str())
    };
    let matched = |policy: &Value| {
        list(&policy["spec"]["rules"])
            .iter()
            .any(|rule| rule_matches(rule, request))
    };
    if of("CUSTOM").any(matched) || of("DENY").any(matched) {
        return false;
    }
    of("ALLOW").next().is_none() || of("ALLOW").any(matched)
}

fn rule_matches(rule: &Value, request: &Request) -> bool {
    let (from, to, when) = (list(&rule["from"]), list(&rule["to"]), list(&rule["when"]));
    (from.is_empty()
        || from
            .iter()
            .any(|from| source_matches(&from["source"], request)))
        && (to.is_empty()
            || to
                .iter()
                .any(|to| operation_matches(&to["operation"], request)))
        && when.iter().all(|condition| {
            let found = attribute(condition["key"].as_str().unwrap(), request);
            both(
                &condition["values"],
                &condition["notValues"],
                found.as_deref(),
                text_matches,
            )
        })
}

fn source_matches(source: &Value, request: &Request) -> bool {
    let Request {
        namespace,
        account,
        domain,
        ..
    } = request;
    let principal = format!("{domain}/ns/{namespace}/sa/{account}");
    let account = format!("{namespace}/{account}");
    [
        ("principals", "notPrincipals", principal.as_str()),
        ("namespaces", "notNamespaces", namespace),
        ("serviceAccounts", "notServiceAccounts", account.as_str()),
        ("trustDomains", "notTrustDomains", domain),
        ("ipBlocks", "notIpBlocks", request.address),
        ("requestPrincipals", "notRequestPrincipals", request.token),
    ]
    .into_iter()
    .all(|(any_of, none_of, found)| {
        both(&source[any_of], &source[none_of], Some(found), text_matches)
    })
}

fn operation_matches(operation: &Value, request: &Request) -> bool {
    let port = request.port.to_string();
    both(
        &operation["methods"],
        &operation["notMethods"],
        Some(request.method),
        text_matches,
    ) && both(
        &operation["paths"],
        &operation["notPaths"],
        Some(request.path),
        path_matches,
    ) && both(
        &operation["ports"],
        &operation["notPorts"],
        Some(&port),
        text_matches,
    )
}

fn attribute(key: &str, request: &Request) -> Option<String> {
    let header = |key: &str| {
        key.strip_prefix("request.headers[")
            .map(|name| name.trim_end_matches(']').to_owned())
    };
    match key {
        "source.principal" => Some(format!(
            "{}/ns/{}/sa/{}",
            request.domain, request.namespace, request.account
        )),
        "source.namespace" => Some(request.namespace.to_owned()),
        "destination.port" => Some(request.port.to_string()),
        "source.ip" => Some(request.address.to_owned()),
        key => request
            .headers
            .get(header(key).unwrap().as_str())
            .map(|value| (*value).to_owned()),
    }
}

fn both(
    any_of: &Value,
    none_of: &Value,
    found: Option<&str>,
    matches: fn(&str, &str) -> bool,
) -> bool {
    let one = |texts: &Value| {
        list(texts)
            .iter()
            .any(|text| found.is_some_and(|found| matches(text.as_str().unwrap(), found)))
    };
    (list(any_of).is_empty() || one(any_of)) && !one(none_of)
}

fn text_matches(test: &str, found: &str) -> bool {
    if test == "*" {
        !found.is_empty()
    } else if let Some(prefix) = test.strip_suffix('*') {
        found.starts_with(prefix)
    } else if let Some(suffix) = test.strip_prefix('*') {
        found.ends_with(suffix)
    } else {
        test == found
    }
}

fn path_matches(test: &str, found: &str) -> bool {
    if !test.contains('{') {
        return text_matches(test, found);
    }
    let (mut wanted, mut segments) = (test.split('/'), found.split('/'));
    loop {
        match (wanted.next(), segments.next()) {
            (Some("{**}"), Some(_)) => return true,
            (Some("{*}"), Some(segment)) if !segment.is_empty() => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn no_random_policies_become_rules_that_allow_what_the_reference_refuses() {
    let (judged, allowed, lost) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = Config {
        cases: 500,
        failure_persistence: None,
        ..Config::default()
    };
    let strategy = (
        prop::collection::vec(policy(), 1..4),
        prop::collection::vec(request(), 40),
    );
    TestRunner::new(config)
        .run(&strategy, |(policies, requests)| {
            let set = convert(&policies);
            for request in &requests {
                let (theirs, ours) = (allows(&policies, request), judge(&set, request));
                prop_assert!(theirs || !ours, "allowed here, refused there: {request:?}");
                judged.set(judged.get() + 1);
                allowed.set(allowed.get() + usize::from(ours));
                lost.set(lost.get() + usize::from(theirs && !ours));
            }
            Ok(())
        })
        .unwrap();
    // a conversion that allowed nothing would pass too
    assert!(
        allowed.get() * 10 > judged.get(),
        "{} of {} allowed, {} lost",
        allowed.get(),
        judged.get(),
        lost.get()
    );
}

fn convert(policies: &[Value]) -> PolicySet {
    let mut importer = Importer::default();
    read_file(&mut importer, &folder().join("cluster.yaml"));
    for policy in policies {
        importer
            .read(&policy.to_string(), &Origin::file("random.json"))
            .unwrap();
    }
    let import = importer.convert(&options()).unwrap();
    let rules = import.rules().cloned().map(Arc::new);
    PolicySet::compile(
        options().trust_domain,
        &"shop/api".parse().unwrap(),
        rules,
        EncodedSlashes::Refuse,
    )
}

fn judge(set: &PolicySet, request: &Request) -> bool {
    let domain = if request.domain == "cluster.local" {
        "weft.local"
    } else {
        request.domain
    };
    let source: SpiffeId = format!(
        "spiffe://{domain}/ns/{}/sa/{}",
        request.namespace, request.account
    )
    .parse()
    .unwrap();
    let connection = Connection {
        source: (&source).into(),
        port: &if request.port == 8080 {
            "http"
        } else {
            "metrics"
        }
        .parse()
        .unwrap(),
        quarantined: false,
    };
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let http = HttpRequest {
        method: request.method,
        path: request.path,
        authority: Some("api.shop"),
        headers: &headers,
        upgrade: None,
        connect: false,
    };
    let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    matches!(
        set.decide_request(&connection, &http, now),
        Verdict::Allow(_)
    )
}

fn request() -> impl Strategy<Value = Request> {
    let headers = prop::collection::btree_map(
        select(vec!["x-a", "x-b"]),
        select(vec!["1", "12", ""]),
        0..3,
    );
    (
        select(vec![
            ("shop", "web"),
            ("shop", "batch"),
            ("ops", "prom"),
            ("dev", "web"),
            ("later", "web"),
            ("shop", "later"),
        ]),
        select(vec![
            "cluster.local",
            "cluster.local",
            "cluster.local",
            "partner.example",
        ]),
        select(vec![8080, 9100]),
        select(vec!["GET", "POST", "DELETE", "PURGE"]),
        select(vec![
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/ab",
            "/a/b/c",
            "/b",
            "/b/x.html",
            "/c/a/d",
        ]),
        (
            headers,
            select(vec!["10.0.0.1", "10.0.0.2"]),
            select(vec!["", "iss/sub"]),
        ),
    )
        .prop_map(
            |((namespace, account), domain, port, method, path, (headers, address, token))| {
                Request {
                    namespace,
                    account,
                    domain,
                    port,
                    method,
                    path,
                    headers,
                    address,
                    token,
                }
            },
        )
}

fn policy() -> impl Strategy<Value = Value> {
    let action = select(vec!["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "CUSTOM"]);
    (action, prop::collection::vec(rule(), 1..4)).prop_map(|(action, rules)| {
        let mut spec =
            json!({"action": action, "rules": rules, "selector": {"matchLabels": {"app": "api"}}});
        if action == "CUSTOM" {
            spec["provider"] = json!({"name": "other"});
        }
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "random", "namespace": "shop"}, "spec": spec,
        })
    })
}

fn rule() -> impl Strategy<Value = Value> {
    (
        prop::collection::vec(source(), 0..3),
        prop::collection::vec(operation(), 0..3),
        prop::collection::vec(condition(), 0..2),
    )
        .prop_map(|(from, to, when)| {
            let from: Vec<Value> = from
                .into_iter()
                .map(|source| json!({"source": source}))
                .collect();
            let to: Vec<Value> = to
                .into_iter()
                .map(|operation| json!({"operation": operation}))
                .collect();
            json!({"from": from, "to": to, "when": when})
        })
}

fn source() -> impl Strategy<Value = Value> {
    let by_name = (
        some(&["cluster.local/ns/shop/sa/web", "cluster.local/ns/shop/*", "cluster.local/ns/dev/sa/w*", "*/sa/web", "*", "partner.example/ns/shop/sa/web", "partner.example/*", "cluster.local/ns/s*"]),
        some(&["cluster.local/ns/shop/sa/batch", "*/ns/dev/sa/web", "cluster.local/ns/ops/*", "partner.example/*"]),
        some(&["shop", "ops", "d*", "*p", "*"]),
        some(&["dev", "o*", "shop"]),
        some(&["cluster.local", "partner*"]),
    )
        .prop_map(|(principals, not_principals, namespaces, not_namespaces, domains)| {
            json!({"principals": principals, "notPrincipals": not_principals, "namespaces": namespaces, "notNamespaces": not_namespaces, "trustDomains": domains})
        });
    let by_account = (some(&["shop/web", "ops/prom", "dev/web"]), some(&["shop/batch", "later/web"]))
        .prop_map(|(accounts, not_accounts)| json!({"serviceAccounts": accounts, "notServiceAccounts": not_accounts}));
    let by_others = (some(&["10.0.0.1"]), some(&["iss/sub"]), some(&["shop", "ops"]), some(&["iss/*"]))
        .prop_map(|(addresses, tokens, namespaces, not_tokens)| {
            json!({"ipBlocks": addresses, "requestPrincipals": tokens, "namespaces": namespaces, "notRequestPrincipals": not_tokens})
        });
    prop_oneof![4 => by_name, 2 => by_account, 1 => by_others]
}

fn operation() -> impl Strategy<Value = Value> {
    (
        some(&["GET", "POST", "P*", "*", "*E"]),
        some(&["DELETE", "P*"]),
        some(&["/a", "/a*", "/a/*", "*.html", "*", "/b/{*}", "/a/{**}", "/{*}/a/d", "/b*"]),
        some(&["/a/b", "/a/*", "*c", "/b/{*}", "/ab*"]),
        some(&["8080"]),
        some(&["9100"]),
    )
        .prop_map(|(methods, not_methods, paths, not_paths, ports, not_ports)| {
            json!({"methods": methods, "notMethods": not_methods, "paths": paths, "notPaths": not_paths, "ports": ports, "notPorts": not_ports})
        })
}

fn condition() -> impl Strategy<Value = Value> {
    let values = (some(&["1", "1*", "*2", "*"]), some(&["12", "*"]));
    let header = (
        select(vec!["request.headers[x-a]", "request.headers[x-b]"]),
        values,
    );
    let attribute = prop_oneof![
        Just(("source.namespace", (vec!["shop".to_owned()], vec![]))),
        Just((
            "source.principal",
            (
                vec!["*/sa/web".to_owned()],
                vec!["cluster.local/ns/dev/*".to_owned()]
            )
        )),
        Just(("destination.port", (vec!["8080".to_owned()], vec![]))),
        Just(("source.ip", (vec![], vec!["10.0.0.2".to_owned()]))),
    ];
    prop_oneof![header, attribute]
        .prop_filter("a condition has values", |(_, (values, not_values))| !(values.is_empty() && not_values.is_empty()))
        .prop_map(|(key, (values, not_values))| json!({"key": key, "values": values, "notValues": not_values}))
}

/// Often nothing, else some of the texts.
fn some(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    prop_oneof![2 => Just(Vec::new()), 1 => subsequence(texts.clone(), 1..=texts.len().min(3))]
}
