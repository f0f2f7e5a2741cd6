//! Sentences 50 to 57 of docs/POLICY.md, one by one.

use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{
    DnsLabel, SpiffeId,
    document::{Origin, read},
};
use weft_policy::{
    ALLOW, AllowSpec, Connection, ConnectionVerdict, EncodedSlashes, Explanation, HttpRequest,
    NoHeaders, PolicySet, Question, Reason, Rule, Verdict, explain,
};

#[test]
fn sentence_50_learning_is_over_at_exactly_its_end() {
    let set = set(&[], END);
    let web = id("shop/web");
    let connection = connection(&web, "raw");
    for (now, verdict) in [
        (BEFORE, Verdict::Learn(Reason::NoRule)),
        (END, Verdict::Deny(Reason::NoRule)),
        (AFTER, Verdict::Deny(Reason::NoRule)),
    ] {
        assert_eq!(set.decide_bytes(&connection, time(now)), verdict, "{now}");
        let of_the_connection = match verdict {
            Verdict::Learn(reason) => ConnectionVerdict::Learn(reason),
            Verdict::Allow(_) | Verdict::Deny(_) => ConnectionVerdict::Deny(Reason::NoRule),
        };
        assert_eq!(
            set.decide_connection(&connection, time(now)),
            of_the_connection,
            "{now}"
        );
    }
    assert_eq!(set.next_expiry(time(BEFORE)), Some(time(END)));
    assert_eq!(set.next_expiry(time(END)), None);
}

#[test]
fn sentence_51_only_workloads_of_the_own_trust_domain_teach() {
    let set = set(&[], END);
    for (source, verdict) in [
        (
            "spiffe://weft.local/ns/shop/sa/web",
            Verdict::Learn(Reason::NoRule),
        ),
        (
            "spiffe://partner.example/ns/shop/sa/web",
            Verdict::Deny(Reason::NoRule),
        ),
        (
            "spiffe://weft.local/operator/admin",
            Verdict::Deny(Reason::NoRule),
        ),
        ("spiffe://weft.local/other", Verdict::Deny(Reason::NoRule)),
    ] {
        let source: SpiffeId = source.parse().unwrap();
        let connection = connection(&source, "raw");
        assert_eq!(
            set.decide_bytes(&connection, time(BEFORE)),
            verdict,
            "{source}"
        );
    }
}

#[test]
fn sentence_52_bytes_requests_upgrades_and_connect_pass_and_say_what_would_have_refused_them() {
    let rule = rule(
        "reads",
        "{to: {service: api}, from: [shop/web], http: [{methods: [GET], paths: [/a]}]}",
    );
    let set = set(&[rule], END);
    let web = id("shop/web");
    let connection = connection(&web, "http");
    let now = time(BEFORE);
    // Requests must still be judged one by one, so that each says its own reason.
    assert_eq!(
        set.decide_connection(&connection, now),
        ConnectionVerdict::NeedsHttp
    );
    assert_eq!(
        set.decide_bytes(&connection, now),
        Verdict::Learn(Reason::NoRule)
    );
    for (request, reason) in [
        (request("POST", "/a"), Reason::NoRule),
        (request("GET", "/a/../b"), Reason::PathNotCanonical),
        (
            HttpRequest {
                upgrade: Some("websocket"),
                ..request("GET", "/a")
            },
            Reason::UpgradeNotAllowed,
        ),
        (
            HttpRequest {
                connect: true,
                ..request("CONNECT", "")
            },
            Reason::UpgradeNotAllowed,
        ),
    ] {
        let verdict = set.decide_request(&connection, &request, now);
        assert_eq!(verdict, Verdict::Learn(reason), "{request:?}");
    }
}

#[test]
fn sentence_53_what_a_rule_allows_names_the_rule() {
    let rule = rule("all", "{to: {service: api}, from: [shop/web]}");
    let set = set(std::slice::from_ref(&rule), END);
    let web = id("shop/web");
    let connection = connection(&web, "raw");
    assert_eq!(
        set.decide_bytes(&connection, time(BEFORE)),
        Verdict::Allow(&rule)
    );
    assert_eq!(
        set.decide_connection(&connection, time(BEFORE)),
        ConnectionVerdict::Allow(&rule)
    );
}

#[test]
fn sentence_54_a_quarantine_beats_learning() {
    let set = set(&[], END);
    let web = id("shop/web");
    let cut = Connection {
        quarantined: true,
        ..connection(&web, "http")
    };
    let now = time(BEFORE);
    assert_eq!(
        set.decide_bytes(&cut, now),
        Verdict::Deny(Reason::Quarantined)
    );
    assert_eq!(
        set.decide_connection(&cut, now),
        ConnectionVerdict::Deny(Reason::Quarantined)
    );
    assert_eq!(
        set.decide_request(&cut, &request("GET", "/"), now),
        Verdict::Deny(Reason::Quarantined)
    );
}

#[test]
fn sentence_57_an_explanation_of_what_was_learned_still_shows_the_rules() {
    let near = rule(
        "reads",
        "{to: {service: api}, from: [shop/web], http: [{paths: [/a]}]}",
    );
    let learned = explained(&near, BEFORE);
    assert!(learned.allowed);
    assert_eq!(learned.learn_until, Some(time(END)));
    assert_eq!((learned.rule, learned.reason), (None, Some(Reason::NoRule)));
    let refused = explained(&near, END);
    assert!(!refused.allowed);
    assert_eq!(refused.learn_until, None);
    assert_eq!(learned.nearest, refused.nearest);
    // What is suggested allows by itself: it must not be the learning that lets it pass.
    assert_eq!(learned.suggested_yaml, refused.suggested_yaml);
    assert!(learned.suggested_yaml.is_some());
}

#[test]
fn live_connections_are_judged_again_at_the_first_end_of_a_rule_or_of_learning() {
    let ends = |expires: &str| {
        rule(
            &format!("until-{}", &expires[..10]),
            &format!("{{to: {{service: api}}, from: [shop/web], expires: {expires}}}"),
        )
    };
    let lasting = rule("lasting", "{to: {service: api}, from: [shop/web]}");
    let rules = [ends(SOON), ends(LATER), lasting];
    let set = set(&rules, END);
    for (now, next) in [
        ("2026-12-22T23:59:59Z", Some(SOON)),
        (SOON, Some(END)),
        (END, Some(LATER)),
        (LATER, None),
    ] {
        assert_eq!(set.next_expiry(time(now)), next.map(time), "{now}");
    }
}

fn explained(rule: &Arc<Rule>, now: &str) -> Explanation {
    let web = id("shop/web");
    let question = Question {
        trust_domain: &"weft.local".parse().unwrap(),
        source: (&web).into(),
        target: &"shop/api:http".parse().unwrap(),
        quarantined: false,
        learn_until: Some(time(END)),
        http: Some(request("GET", "/b")),
        folded: None,
        outside: None,
        encoded_slashes: EncodedSlashes::Refuse,
        now: time(now),
        known_workloads: &[],
    };
    explain(std::slice::from_ref(rule), &question)
}

fn set(rules: &[Arc<Rule>], until: &str) -> PolicySet {
    PolicySet::compile(
        "weft.local".parse().unwrap(),
        &"shop/api".parse().unwrap(),
        rules.iter().cloned(),
        EncodedSlashes::Refuse,
    )
    .learning(Some(time(until)))
}

fn rule(name: &str, spec: &str) -> Arc<Rule> {
    let text = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    );
    let document = read::<AllowSpec>(&text, &Origin::file("test"), ALLOW).unwrap();
    Arc::new(Rule::from_document(&document).unwrap())
}

fn connection<'a>(source: &'a SpiffeId, port: &str) -> Connection<'a> {
    let port: DnsLabel = port.parse().unwrap();
    Connection {
        source: source.into(),
        port: Box::leak(Box::new(port)),
        quarantined: false,
    }
}

fn request<'a>(method: &'a str, path: &'a str) -> HttpRequest<'a> {
    HttpRequest {
        method,
        path,
        authority: None,
        headers: &NoHeaders,
        upgrade: None,
        connect: false,
    }
}

fn id(workload: &str) -> SpiffeId {
    SpiffeId::for_workload(&"weft.local".parse().unwrap(), &workload.parse().unwrap())
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const SOON: &str = "2026-12-23T00:00:00Z";
const BEFORE: &str = "2026-12-23T23:59:59Z";
const END: &str = "2026-12-24T00:00:00Z";
const AFTER: &str = "2026-12-24T00:00:01Z";
const LATER: &str = "2026-12-25T00:00:00Z";
