//! Sets that were edited, beside sets that were compiled anew from the same rules.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::select};
use weft_identity::document::{Origin, read};

use super::{peers::Peers, *};
use crate::{
    documents::ALLOW,
    request::NoHeaders,
    sources::{OwnedSource, Source},
};

/// A rule by its number; `None` takes it away.
type Step = (usize, Option<Arc<Rule>>);

const NAMES: usize = 6;

fn some_step() -> impl Strategy<Value = Step> {
    let from = select(vec![
        "shop/web",
        "shop/batch-1",
        "\"shop/batch-*\"",
        "\"shop/ba*\"",
        "\"shop/*\"",
        "\"crm/*\"",
        "\"*\"",
        "\"spiffe://weft.local/ns/shop/sa/web\"",
        "\"spiffe://partner.example/ns/shop/sa/web\"",
    ]);
    let ports = select(vec![
        "",
        ", ports: [http]",
        ", ports: [raw]",
        ", ports: [http, raw]",
    ]);
    let http = select(vec![
        "",
        "http: [{paths: [/a]}], ",
        "http: [{paths: [/a, \"/b/*\"], methods: [GET]}, {methods: [PUT]}], ",
        "http: [{paths: [\"/b/**\"], hosts: [x.example]}], ",
        "http: [{headers: [{name: x-k, exact: v}], upgrades: [websocket]}], ",
    ]);
    let end = select(vec!["", "expires: 1970-01-01T00:00:05Z, ", "mode: Audit, "]);
    let range = select(vec![
        "\"10.1.0.0/16\"",
        "\"10.0.0.0/8\"",
        "\"10.1.2.3\"",
        "\"0.0.0.0/0\"",
        "\"::/0\"",
        "\"fd00::/8\"",
    ]);
    let sources = (vec(from, 0..4), vec(range, 0..3))
        .prop_filter("a rule names somebody", |(from, ranges)| {
            !from.is_empty() || !ranges.is_empty()
        });
    let spec = (sources, ports, http, end);
    (0..NAMES, option::weighted(0.8, spec)).prop_map(|(number, spec)| {
        let rule = spec.map(|((from, ranges), ports, http, end)| {
            let field = |name: &str, listed: Vec<&str>| match listed.is_empty() {
                true => String::new(),
                false => format!(", {name}: [{}]", listed.join(", ")),
            };
            let sources = field("from", from) + &field("fromAddresses", ranges);
            rule(
                number,
                &format!("{{{http}{end}to: {{service: api{ports}}}{sources}}}"),
            )
        });
        (number, rule)
    })
}

fn rule(number: usize, spec: &str) -> Arc<Rule> {
    let yaml = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: r{number}, namespace: shop}}\nspec: {spec}\n"
    );
    let document = read(&yaml, &Origin::file("f"), ALLOW).unwrap();
    Arc::new(Rule::from_document(&document).unwrap())
}

fn compile(rules: &[Arc<Rule>]) -> PolicySet {
    PolicySet::compile(
        "weft.local".parse().unwrap(),
        &"shop/api".parse().unwrap(),
        rules.iter().cloned(),
        EncodedSlashes::Refuse,
    )
}

/// Equal, and nowhere the same.
fn copies(rules: &BTreeMap<usize, Arc<Rule>>) -> Vec<Arc<Rule>> {
    rules
        .values()
        .map(|rule| Arc::new((**rule).clone()))
        .collect()
}

/// What a set answers to a few hundred questions.
fn answers(set: &PolicySet) -> Vec<String> {
    let mut answers = Vec::new();
    for source in sources() {
        for port in ["http", "raw", "other"] {
            let connection = Connection {
                source: source.borrowed(),
                port: &port.parse().unwrap(),
                quarantined: false,
            };
            for now in [4, 5] {
                let now = Timestamp::from_second(now).unwrap();
                answers.push(format!("{:?}", set.decide_connection(&connection, now)));
                for request in requests() {
                    let verdict = set.decide_request(&connection, &request, now);
                    let audited: Vec<_> = set
                        .audit_matches(&connection, Some(&request), now)
                        .map(|rule| &rule.name)
                        .collect();
                    answers.push(format!("{verdict:?} {audited:?}"));
                }
            }
        }
    }
    answers
}

fn sources() -> impl Iterator<Item = OwnedSource> {
    let domains = ["weft.local", "partner.example"];
    let names = [
        "shop/sa/web",
        "shop/sa/batch-1",
        "shop/sa/other",
        "crm/sa/web",
    ];
    let identities = domains.into_iter().flat_map(move |domain| {
        let ids = names.map(|name| format!("spiffe://{domain}/ns/{name}"));
        ids.map(|id| OwnedSource::Identity(id.parse().unwrap()))
    });
    let addresses = [
        "10.1.2.3",
        "::ffff:10.1.2.4",
        "10.2.0.1",
        "9.9.9.9",
        "fd00::1",
    ];
    identities.chain(addresses.map(|text| OwnedSource::Address(text.parse().unwrap())))
}

fn requests() -> impl Iterator<Item = HttpRequest<'static>> {
    let asked = [
        ("GET", "/a", None),
        ("PUT", "/a/", None),
        ("GET", "/b/c", Some("websocket")),
        ("GET", "/b//c", None),
    ];
    asked
        .into_iter()
        .map(|(method, path, upgrade)| HttpRequest {
            method,
            path,
            authority: Some("x.example"),
            headers: &NoHeaders,
            upgrade,
            connect: false,
        })
}

/// Where the rules are the same before and after, so is what was made of them.
fn assert_shared<P: Part>(old: &Peers<P>, new: &Peers<P>) {
    let old = old.by_pattern();
    for (pattern, part) in new.by_pattern() {
        if let Some(before) = old
            .get(&pattern)
            .filter(|before| before.rules() == part.rules())
        {
            assert!(std::ptr::eq(*before, part), "{pattern} was compiled again");
        }
    }
}

fn assert_same(old: &Port, new: &Port) {
    assert!(old.enforced.is(&new.enforced), "compiled again");
    assert!(old.audited.is(&new.audited), "compiled again");
}

fn assert_alike<P: Part>(one: &Peers<P>, other: &Peers<P>) {
    let rules = |peers: &Peers<P>| -> Vec<_> {
        let parts = peers.by_pattern().into_iter();
        parts
            .map(|(pattern, part)| (pattern, part.rules().to_vec()))
            .collect()
    };
    assert_eq!(rules(one), rules(other));
}

fn is_touched(port: &DnsLabel, old: &[Arc<Rule>], new: &[Arc<Rule>]) -> bool {
    let differs = |one: &[Arc<Rule>], other: &[Arc<Rule>]| {
        let mut here = one.iter().filter(|rule| rule.matches_port(port));
        here.any(|rule| !other.contains(rule))
    };
    differs(old, new) || differs(new, old)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn an_edit_compiles_only_what_it_touches_and_answers_as_if_all_were_compiled(
        first in vec(some_step(), 0..8),
        edits in vec(some_step(), 1..8),
    ) {
        let mut rules = BTreeMap::new();
        take(&mut rules, first);
        let mut set = compile(&copies(&rules));
        for edit in edits {
            take(&mut rules, [edit]);
            let updated = set.updated(copies(&rules), EncodedSlashes::Refuse);
            let fresh = compile(&copies(&rules));
            prop_assert_eq!(answers(&updated), answers(&fresh));
            prop_assert_eq!(updated.rules(), fresh.rules());
            let names = |set: &PolicySet| -> Vec<_> {
                set.0.named.iter().map(|(name, _)| name.clone()).collect()
            };
            prop_assert_eq!(names(&updated), names(&fresh));
            for name in ["http", "raw", "other"] {
                let name = name.parse().unwrap();
                let (old, new, fresh_port) = (set.port(&name), updated.port(&name), fresh.port(&name));
                let was_named = set.0.named_port(&name).is_some();
                let is_named = updated.0.named_port(&name).is_some();
                if was_named == is_named && !is_touched(&name, set.rules(), updated.rules()) {
                    assert_same(old, new);
                }
                if was_named == is_named {
                    assert_shared(&old.enforced, &new.enforced);
                    assert_shared(&old.audited, &new.audited);
                }
                assert_alike(&new.enforced, &fresh_port.enforced);
                assert_alike(&new.audited, &fresh_port.audited);
            }
            set = updated;
        }
    }
}

fn take(rules: &mut BTreeMap<usize, Arc<Rule>>, steps: impl IntoIterator<Item = Step>) {
    for (number, rule) in steps {
        match rule {
            Some(rule) => rules.insert(number, rule),
            None => rules.remove(&number),
        };
    }
}

#[test]
fn the_same_rules_again_are_the_same_set() {
    let rules = BTreeMap::from([(1, rule(1, "{to: {service: api}, from: [shop/web]}"))]);
    let set = compile(&copies(&rules));
    let again = set.updated(copies(&rules), EncodedSlashes::Refuse);
    assert!(Arc::ptr_eq(&set.0, &again.0));
    let slashes = set.updated(copies(&rules), EncodedSlashes::Keep);
    assert_eq!(slashes.0.encoded_slashes, EncodedSlashes::Keep);
    assert_same(&set.0.others, &slashes.0.others);
}

/// What is said of a request of `shop/web` to port `http`.
fn verdict<'s>(set: &'s PolicySet, request: &HttpRequest<'_>, second: i64) -> Verdict<'s> {
    let source = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
    let connection = Connection {
        source: Source::Identity(&source),
        port: &"http".parse().unwrap(),
        quarantined: false,
    };
    set.decide_request(
        &connection,
        request,
        Timestamp::from_second(second).unwrap(),
    )
}

/// The rule that allows it, or why it is refused.
fn told(set: &PolicySet, request: &HttpRequest<'_>, second: i64) -> String {
    match verdict(set, request, second) {
        Verdict::Allow(rule) => rule.name.name.to_string(),
        Verdict::Learn(reason) | Verdict::Deny(reason) => reason.to_string(),
    }
}

fn refused(set: &PolicySet, method: &str, path: &str) -> Option<Reason> {
    let request = HttpRequest {
        method,
        path,
        authority: None,
        headers: &NoHeaders,
        upgrade: None,
        connect: false,
    };
    match verdict(set, &request, 0) {
        Verdict::Allow(_) => None,
        Verdict::Learn(reason) | Verdict::Deny(reason) => Some(reason),
    }
}

#[test]
fn an_edit_of_audited_rules_leaves_the_tables_of_enforced_ones() {
    let enforced = rule(0, "{to: {service: api}, from: [shop/web, \"crm/*\"]}");
    let audited = rule(1, "{mode: Audit, to: {service: api}, from: [shop/web]}");
    let set = compile(&[Arc::clone(&enforced)]);
    let updated = set.updated([enforced, audited], EncodedSlashes::Refuse);
    let identities = |set: &PolicySet| set.0.others.enforced.identities.clone();
    assert!(identities(&set).is(&identities(&updated)));
}

#[test]
fn the_same_rules_with_other_encoded_slashes_are_another_set() {
    let rules = [rule(
        0,
        r#"{to: {service: api}, from: [shop/web], http: [{paths: ["/a/**"]}]}"#,
    )];
    let refusing = compile(&rules);
    let keeping = refusing.updated(rules.iter().cloned(), EncodedSlashes::Keep);
    let unclear = Some(Reason::PathNotCanonical);
    assert_eq!(refused(&refusing, "GET", "/a/b%2Fc"), unclear);
    assert_eq!(refused(&keeping, "GET", "/a/b%2Fc"), None);
}

#[test]
fn sentence_20_a_rule_for_one_method_allows_that_one_alone() {
    let methods = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "QUERY",
    ];
    for named in methods {
        let spec =
            format!("{{to: {{service: api}}, from: [shop/web], http: [{{methods: [{named}]}}]}}");
        let set = compile(&[rule(0, &spec)]);
        for asked in methods {
            let expected = (asked != named).then_some(Reason::NoRule);
            assert_eq!(refused(&set, asked, "/"), expected, "{named}: {asked}");
        }
    }
}

#[test]
fn sentence_20_long_methods_are_compared_to_their_end() {
    let set = compile(&[rule(
        0,
        "{to: {service: api}, from: [shop/web], http: [{methods: [VERSION-CONTROL, PROPFIND]}]}",
    )]);
    for (method, expected) in [
        ("VERSION-CONTROL", None),
        ("PROPFIND", None),
        ("VERSION-CONTROX", Some(Reason::NoRule)),
        ("VERSION-", Some(Reason::NoRule)),
        ("PROPFIND2", Some(Reason::NoRule)),
        ("PROPFIN", Some(Reason::NoRule)),
        ("PROPFIN\0", Some(Reason::NoRule)),
    ] {
        assert_eq!(refused(&set, method, "/"), expected, "{method:?}");
    }
}

#[test]
fn what_states_more_keeps_its_guard_when_a_rule_for_the_same_path_expires() {
    let set = compile(&[
        rule(
            0,
            "{to: {service: api}, from: [shop/web], http: [{paths: [/a], methods: [GET]}], expires: 1970-01-01T00:00:05Z}",
        ),
        rule(
            1,
            "{to: {service: api}, from: [shop/web], http: [{paths: [/a], methods: [GET], hosts: [x.example]}]}",
        ),
        rule(
            2,
            "{to: {service: api}, from: [shop/web], http: [{paths: [/a], methods: [GET, TRACE], hosts: [y.example]}]}",
        ),
    ]);
    for (second, host, expected) in [
        (4, "z.example", "r0"),
        (5, "z.example", "noRule"),
        (5, "x.example", "r1"),
        (5, "y.example", "r2"),
    ] {
        let request = HttpRequest {
            authority: Some(host),
            ..requests().next().unwrap()
        };
        assert_eq!(told(&set, &request, second), expected, "{second} {host}");
    }
}

#[test]
fn two_rules_of_one_name_both_count_and_both_go() {
    let web = rule(1, "{to: {service: api}, from: [shop/web]}");
    let batch = rule(1, "{to: {service: api}, from: [shop/batch-1]}");
    let set = compile(&[Arc::clone(&web), Arc::clone(&batch)]);
    let one = set.updated([Arc::clone(&batch)], EncodedSlashes::Refuse);
    assert_eq!(answers(&one), answers(&compile(&[Arc::clone(&batch)])));
    let both = one.updated([batch, web], EncodedSlashes::Refuse);
    assert_eq!(answers(&both), answers(&set));
    assert_ne!(answers(&both), answers(&one));
    let none = both.updated([], EncodedSlashes::Refuse);
    assert_eq!(answers(&none), answers(&compile(&[])));
    assert_eq!(none.0.others.enforced.parts().count(), 0);
}

#[test]
fn every_prefix_of_a_name_is_found_and_no_other() {
    let prefixes = ["", "b", "ba", "batch-", "batch-1", "bb", "bat0", "c"];
    let rules: Vec<_> = prefixes
        .iter()
        .enumerate()
        .map(|(number, prefix)| {
            rule(
                number,
                &format!("{{to: {{service: api}}, from: [\"shop/{prefix}*\"]}}"),
            )
        })
        .collect();
    let set = compile(&rules);
    for name in [
        "b", "a", "batch-1", "batch-10", "batch", "bat", "bat0", "bz", "zz", "c0",
    ] {
        let source = format!("spiffe://weft.local/ns/shop/sa/{name}")
            .parse()
            .unwrap();
        let identities = &set.0.others.enforced.identities;
        let matching = identities.matching(&source, &set.0.trust_domain);
        let mut found: Vec<_> = matching
            .map(|part| part.rules()[0].name.name.to_string())
            .collect();
        found.sort();
        let wanted: Vec<_> = (0..prefixes.len())
            .filter(|number| name.starts_with(prefixes[*number]))
            .map(|number| format!("r{number}"))
            .collect();
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn every_range_that_holds_an_address_is_found_and_no_other() {
    let ranges = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.2.3",
        "10.1.3.0/24",
        "10.128.0.0/9",
        "11.0.0.0/8",
        "::/0",
        "::/1",
        "a01:203::/32",
        "fd00::/8",
        "ffff::/16",
    ];
    let rules: Vec<_> = ranges
        .iter()
        .enumerate()
        .map(|(number, range)| {
            rule(
                number,
                &format!("{{to: {{service: api}}, fromAddresses: [\"{range}\"]}}"),
            )
        })
        .collect();
    let set = compile(&rules);
    for address in [
        "10.1.2.3",
        "10.1.2.4",
        "10.1.3.0",
        "10.1.4.0",
        "10.200.0.0",
        "255.255.255.255",
        "0.0.0.0",
        "::ffff:10.1.2.3",
        "::",
        "a01:203::1",
        "fdff::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        let address: std::net::IpAddr = address.parse().unwrap();
        let matching = set.0.others.enforced.addresses.matching(address);
        let mut found: Vec<_> = matching
            .map(|part| part.rules()[0].name.name.to_string())
            .collect();
        found.sort();
        let is_in = |number: &usize| {
            let range: crate::AddressRange = ranges[*number].parse().unwrap();
            range.matches(address)
        };
        let wanted: std::collections::BTreeSet<_> = (0..ranges.len())
            .filter(is_in)
            .map(|number| format!("r{number}"))
            .collect();
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "{address}");
    }
}

#[test]
fn the_rule_that_is_named_is_the_first_by_name_that_is_in_force() {
    let rules = [
        rule(
            0,
            "{to: {service: api}, from: [shop/web], expires: 1970-01-01T00:00:05Z}",
        ),
        rule(
            1,
            "{to: {service: api}, from: [\"*\"], http: [{paths: [\"/**\"], hosts: [x.example]}]}",
        ),
        rule(
            2,
            "{to: {service: api}, from: [\"shop/*\"], http: [{paths: [/a]}]}",
        ),
        rule(3, "{to: {service: api}, from: [shop/web]}"),
    ];
    let request = requests().next().unwrap();
    let set = compile(&rules);
    let named = |second, request: &HttpRequest<'_>| told(&set, request, second);
    assert_eq!(named(4, &request), "r0");
    assert_eq!(named(5, &request), "r1");
    let other_host = HttpRequest {
        authority: None,
        ..request
    };
    assert_eq!(named(5, &other_host), "r2");
    let other_path = HttpRequest {
        path: "/b",
        ..other_host
    };
    assert_eq!(named(5, &other_path), "r3");
}
