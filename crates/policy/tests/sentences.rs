//! Property tests of the sentences in docs/POLICY.md, whose numbers they quote, against code as naive as the sentences.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*, sample::select};
use weft_identity::{
    DnsLabel, ServiceName, SpiffeId, TrustDomain,
    document::{Document, Origin, read},
};
use weft_policy::{
    ALLOW, AllowSpec, Condition, Connection, ConnectionVerdict, EncodedSlashes, HostPattern,
    HttpCondition, HttpRequest, Match, Mode, NoHeaders, NonEmpty, PathPattern, PolicySet, Question,
    Reason, Rule, Source, SourcePattern, Sources, Verdict, explain, is_canonical, lint,
    required_schema,
};

/// Sentences 22 to 25, tried out one character after the other.
fn naive_match(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['/', '*', '*'] => path.first() == Some(&'/'),
        ['/', '*'] => path.len() > 1 && path[0] == '/' && !path[1..].contains(&'/'),
        ['/', '*', '/', ..] => {
            path.len() > 1
                && path[0] == '/'
                && path[1] != '/'
                && (2..=path.len()).any(|end| {
                    !path[1..end].contains(&'/') && naive_match(&pattern[2..], &path[end..])
                })
        }
        ['*', rest @ ..] => {
            naive_match(rest, path)
                || path.first().is_some_and(|c| *c != '/') && naive_match(pattern, &path[1..])
        }
        [literal, rest @ ..] => path.first() == Some(literal) && naive_match(rest, &path[1..]),
    }
}

fn some_pattern() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "a", "b", "ab", "*", "a*", "*b", "a*b", "*a*", "*a*b*", "ba",
    ]);
    (vec(segment, 1..4), select(vec!["", "/", "/**"]))
        .prop_map(|(segments, end)| format!("/{}{end}", segments.join("/")))
}

fn some_path() -> impl Strategy<Value = String> {
    (vec("[ab]{1,4}", 1..5), select(vec!["", "/"]))
        .prop_map(|(segments, end)| format!("/{}{end}", segments.join("/")))
}

fn trust_domain() -> TrustDomain {
    "weft.local".parse().unwrap()
}

fn service() -> ServiceName {
    "shop/api".parse().unwrap()
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn some_source() -> impl Strategy<Value = SpiffeId> {
    select(vec![
        "spiffe://weft.local/ns/shop/sa/web",
        "spiffe://weft.local/ns/shop/sa/batch-1",
        "spiffe://weft.local/ns/crm/sa/web",
        "spiffe://weft.local/operator/root",
        "spiffe://partner.example/ns/shop/sa/web",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn some_from() -> impl Strategy<Value = SourcePattern> {
    select(vec![
        "shop/web",
        "shop/batch-*",
        "shop/*",
        "*",
        "crm/web",
        "spiffe://partner.example/ns/shop/sa/web",
        "spiffe://weft.local/ns/shop/sa/web",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn listed<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Match<T>> {
    option::of(vec(value, 1..3)).prop_map(|values| match values {
        None => Match::Any,
        Some(values) => Match::OneOf(NonEmpty::new(values).unwrap()),
    })
}

fn some_condition() -> impl Strategy<Value = HttpCondition> {
    (
        listed(select(vec!["GET", "POST"]).prop_map(|m| m.parse().unwrap())),
        listed(select(vec!["/a", "/a/*", "/**", "/b"]).prop_map(|p| p.parse().unwrap())),
        listed(select(vec!["x.example", "*.example"]).prop_map(|h| h.parse().unwrap())),
        listed(Just("websocket".parse().unwrap())),
    )
        .prop_map(|(methods, paths, hosts, upgrades)| HttpCondition {
            methods,
            paths,
            hosts,
            upgrades,
            headers: Match::Any,
        })
        .prop_filter("sentence 19", |condition| !condition.is_empty())
}

fn some_rules() -> impl Strategy<Value = Vec<Arc<Rule>>> {
    let rule = (
        listed(select(vec!["http", "tcp"]).prop_map(|p| p.parse::<DnsLabel>().unwrap())),
        vec(some_from(), 1..3),
        listed(some_condition()),
        option::of((0..20i64).prop_map(time)),
        select(vec![
            Mode::Enforce,
            Mode::Enforce,
            Mode::Enforce,
            Mode::Audit,
        ]),
    );
    vec(rule, 0..6).prop_map(|rules| {
        let rule = |(index, (ports, from, http, expires, mode))| {
            Arc::new(Rule {
                name: format!("shop/r{index}").parse().unwrap(),
                service: service(),
                ports,
                from: Sources::new(from, Vec::new()).unwrap(),
                http,
                expires,
                mode,
            })
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

#[derive(Debug, Clone)]
struct Asked {
    source: SpiffeId,
    port: DnsLabel,
    quarantined: bool,
    method: &'static str,
    path: &'static str,
    host: Option<&'static str>,
    upgrade: Option<&'static str>,
    now: Timestamp,
}

fn some_question() -> impl Strategy<Value = Asked> {
    (
        some_source(),
        select(vec!["http", "tcp", "other"]),
        prop::bool::weighted(0.05),
        select(vec!["GET", "POST", "CONNECT"]),
        select(vec![
            "/a", "/a/x", "/b", "/c", "/a/", "/a/../b", "/a//b", "/%61",
        ]),
        select(vec![
            None,
            Some("x.example"),
            Some("X.EXAMPLE:80"),
            Some("y"),
        ]),
        select(vec![None, None, Some("websocket"), Some("WebSocket, foo")]),
        0..20i64,
    )
        .prop_map(
            |(source, port, quarantined, method, path, host, upgrade, now)| Asked {
                source,
                port: port.parse().unwrap(),
                quarantined,
                method,
                path: if method == "CONNECT" { "" } else { path },
                host,
                upgrade,
                now: time(now),
            },
        )
}

impl Asked {
    fn connection(&self) -> Connection<'_> {
        Connection {
            source: (&self.source).into(),
            port: &self.port,
            quarantined: self.quarantined,
        }
    }

    fn request(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method,
            path: self.path,
            authority: self.host,
            headers: &NoHeaders,
            upgrade: self.upgrade,
            connect: self.method == "CONNECT",
        }
    }

    /// Sentences 1 to 10, 18 and 27, without an index.
    fn naive_verdict<'r>(&self, rules: &'r [Arc<Rule>]) -> Result<&'r Arc<Rule>, Reason> {
        if self.quarantined {
            return Err(Reason::Quarantined);
        }
        let in_force = |rule: &&Arc<Rule>| {
            rule.mode == Mode::Enforce
                && rule.expires.is_none_or(|expires| self.now < expires)
                && (rule.ports.is_any() || rule.ports.listed().contains(&self.port))
        };
        let on_port: Vec<_> = rules.iter().filter(in_force).collect();
        let mine: Vec<_> = on_port
            .iter()
            .filter(|rule| {
                rule.from
                    .identities()
                    .iter()
                    .any(|from| self.naive_source(from))
            })
            .collect();
        if mine.is_empty() {
            return Err(Reason::NoRule);
        }
        let mut conditions = on_port.iter().flat_map(|rule| rule.http.listed());
        let is_connect = self.method == "CONNECT";
        if !is_connect
            && conditions.any(|condition| !condition.paths.is_any())
            && !is_canonical(self.path, EncodedSlashes::Refuse)
        {
            return Err(Reason::PathNotCanonical);
        }
        mine.iter()
            .find(|rule| {
                rule.http.is_any()
                    || !is_connect
                        && rule
                            .http
                            .listed()
                            .iter()
                            .any(|c| self.naive_condition(c, true))
            })
            .map(|rule| **rule)
            .ok_or_else(|| {
                let but_upgrade = self.upgrade.is_some()
                    && mine
                        .iter()
                        .flat_map(|rule| rule.http.listed())
                        .any(|c| self.naive_condition(c, false));
                if is_connect || but_upgrade {
                    Reason::UpgradeNotAllowed
                } else {
                    Reason::NoRule
                }
            })
    }

    fn naive_source(&self, pattern: &SourcePattern) -> bool {
        let (pattern, source) = (pattern.to_string(), self.source.to_string());
        if pattern.starts_with("spiffe://") {
            return pattern == source;
        }
        let Some(path) = source.strip_prefix("spiffe://weft.local/ns/") else {
            return false;
        };
        let name = path.replace("/sa/", "/");
        match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        }
    }

    fn naive_condition(&self, condition: &HttpCondition, with_upgrade: bool) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let host = self.host.map(|host| host.to_lowercase().replace(":80", ""));
        let host_matches = |pattern: &HostPattern| {
            let pattern = pattern.to_string();
            host.as_ref()
                .is_some_and(|host| match pattern.strip_prefix('*') {
                    Some(end) => host.ends_with(end) && host.len() > end.len(),
                    None => *host == pattern,
                })
        };
        let upgrade_matches = match self.upgrade {
            None => true,
            Some("websocket") => !condition.upgrades.is_any(),
            Some(_) => false,
        };
        condition.methods.admits(|m| m.as_str() == self.method)
            && condition
                .paths
                .admits(|p| naive_match(&chars(p.as_str()), &chars(self.path)))
            && condition.hosts.admits(host_matches)
            && (upgrade_matches || !with_upgrade)
    }
}

fn compile(rules: &[Arc<Rule>]) -> PolicySet {
    PolicySet::compile(
        trust_domain(),
        &service(),
        rules.iter().cloned(),
        EncodedSlashes::Refuse,
    )
}

#[test]
fn sentence_22_only_a_pattern_without_a_star_is_one_path() {
    for (pattern, one) in [
        ("/a/b", true),
        ("/a/*", false),
        ("/a/b*", false),
        ("/a/**", false),
    ] {
        let read: PathPattern = pattern.parse().unwrap();
        assert_eq!((read.is_literal(), read.as_str()), (one, pattern));
    }
}

#[test]
fn sentence_24_each_star_of_a_segment_begins_where_the_literal_before_it_ended() {
    for (pattern, path, expected) in [
        ("/*a*a*", "/a", false),
        ("/*a*a*", "/aa", true),
        ("/*ab*b", "/ab", false),
        ("/*ab*b", "/abb", true),
        ("/a*a", "/a", false),
        ("/a*a", "/aa", true),
    ] {
        let pattern: PathPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(path), expected, "{pattern} {path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn sentences_22_to_25_the_glob_matcher_agrees_with_a_naive_one(pattern in some_pattern(), path in some_path()) {
        let compiled: PathPattern = pattern.parse().unwrap();
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(compiled.matches(&path), naive_match(&chars(&pattern), &chars(&path)), "{} {}", pattern, path);
    }

    #[test]
    fn sentences_1_to_37_the_compiled_set_agrees_with_a_naive_evaluator(rules in some_rules(), asked in some_question()) {
        let set = compile(&rules);
        let got = match set.decide_request(&asked.connection(), &asked.request(), asked.now) {
            Verdict::Allow(rule) => Ok(rule),
            Verdict::Learn(reason) => panic!("it does not learn, yet lets pass: {reason}"),
            Verdict::Deny(reason) => Err(reason),
        };
        prop_assert_eq!(got, asked.naive_verdict(&rules));
    }

    #[test]
    fn sentences_50_to_54_learning_lets_pass_what_rules_refuse_and_changes_no_other_verdict(rules in some_rules(), asked in some_question(), end in 0..4i64) {
        let until = asked.now + jiff::SignedDuration::from_secs(end);
        let learning = compile(&rules).learning(Some(until));
        let got = learning.decide_request(&asked.connection(), &asked.request(), asked.now);
        let is_workload = asked.source.is_in(&trust_domain()) && asked.source.workload().is_some();
        let passes = end > 0 && is_workload && !asked.quarantined;
        let rules_say = asked.naive_verdict(&rules);
        let wanted = match &rules_say {
            Ok(rule) => Verdict::Allow(rule),
            Err(reason) if passes => Verdict::Learn(*reason),
            Err(reason) => Verdict::Deny(*reason),
        };
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn sentence_4_the_order_of_rules_never_matters(rules in some_rules(), asked in some_question()) {
        let reversed: Vec<_> = rules.iter().rev().cloned().collect();
        let (one, other) = (compile(&rules), compile(&reversed));
        prop_assert_eq!(
            one.decide_request(&asked.connection(), &asked.request(), asked.now),
            other.decide_request(&asked.connection(), &asked.request(), asked.now)
        );
    }

    #[test]
    fn sentence_8_a_connection_is_allowed_exactly_by_rules_without_conditions(rules in some_rules(), asked in some_question()) {
        let set = compile(&rules);
        let request = asked.request();
        match set.decide_connection(&asked.connection(), asked.now) {
            ConnectionVerdict::Allow(rule) => prop_assert!(rule.http.is_any()),
            ConnectionVerdict::NeedsHttp => {
                let with_connect = HttpRequest { connect: true, path: "", ..request };
                let verdict = set.decide_request(&asked.connection(), &with_connect, asked.now);
                prop_assert_eq!(verdict, Verdict::Deny(Reason::UpgradeNotAllowed));
            }
            ConnectionVerdict::Learn(reason) => prop_assert!(false, "it does not learn, yet lets pass: {reason}"),
            ConnectionVerdict::Deny(reason) => {
                let verdict = set.decide_request(&asked.connection(), &request, asked.now);
                prop_assert_eq!(verdict, Verdict::Deny(reason));
            }
        }
    }

    #[test]
    fn a_sidecar_that_knows_only_its_own_rules_narrows_nothing(rules in some_rules(), asked in some_question()) {
        let own: Vec<_> = rules
            .iter()
            .filter_map(|rule| rule.narrowed_to(&asked.source, &trust_domain()))
            .map(Arc::new)
            .collect();
        let (whole, narrowed) = (compile(&rules), compile(&own));
        let whole = whole.decide_request(&asked.connection(), &asked.request(), asked.now);
        let narrowed = narrowed.decide_request(&asked.connection(), &asked.request(), asked.now);
        match (whole, narrowed) {
            (Verdict::Allow(one), Verdict::Allow(other)) => prop_assert_eq!(&one.name, &other.name),
            // the server knows path conditions of others (sentence 27)
            (Verdict::Deny(Reason::PathNotCanonical), _) => {}
            (whole, narrowed) => prop_assert_eq!(whole, narrowed),
        }
    }

    #[test]
    fn sentences_41_and_42_explanations_agree_and_suggestions_allow(rules in some_rules(), asked in some_question()) {
        let target = format!("shop/api:{}", asked.port).parse().unwrap();
        let domain = trust_domain();
        let question = Question {
            trust_domain: &domain,
            source: (&asked.source).into(),
            target: &target,
            quarantined: asked.quarantined,
            learn_until: None,
            http: Some(asked.request()),
            encoded_slashes: EncodedSlashes::Refuse,
            now: asked.now,
            folded: None,
 outside: None,
            known_workloads: &[],
        };
        let explanation = explain(&rules, &question);
        prop_assert_eq!(explanation.reason, asked.naive_verdict(&rules).err());
        let Some(yaml) = explanation.suggested_yaml else { return Ok(()) };
        let document: Document<AllowSpec> = read(&yaml, &Origin::file("suggested"), ALLOW).unwrap();
        let mut rules = rules;
        rules.push(Arc::new(Rule::from_document(&document).unwrap()));
        prop_assert!(explain(&rules, &question).allowed, "{}", yaml);
    }

    #[test]
    fn linting_never_panics_and_a_shadowed_rule_can_go(rules in some_rules(), asked in some_question()) {
        for warning in lint(&rules, None, asked.now) {
            use weft_policy::WarningKind::{Duplicate, Expired, Shadowed};
            if !matches!(warning.kind, Duplicate { .. } | Expired { .. } | Shadowed { .. }) {
                continue;
            }
            let without: Vec<_> = rules.iter().filter(|r| r.name != warning.rule).cloned().collect();
            let allowed = |rules: &[Arc<Rule>]| asked.naive_verdict(rules).is_ok();
            prop_assert!(!allowed(&rules) || allowed(&without), "{}", warning);
        }
    }

    #[test]
    fn sentence_28_canonical_paths_have_no_second_reading(path in "/[ab./;%25eEfF\\\\]{0,8}") {
        if is_canonical(&path, EncodedSlashes::Refuse) {
            prop_assert!(!path.contains("//") && !path.contains('\\'));
            prop_assert!(path.split('/').all(|segment| !matches!(segment.split(';').next(), Some("." | ".."))));
            for escape in path.split('%').skip(1) {
                let value = u8::from_str_radix(&escape[..2], 16).unwrap();
                prop_assert!(!value.is_ascii_alphanumeric() && !b"-._~/\\".contains(&value) && !value.is_ascii_control());
            }
        }
    }

    #[test]
    fn no_text_makes_a_parser_or_the_path_check_panic(text in any::<String>(), spec in any::<String>()) {
        let _ = text.parse::<PathPattern>().map_err(|e| e.to_string());
        let _ = text.parse::<SourcePattern>().map_err(|e| e.to_string());
        let _ = text.parse::<HostPattern>().map(|p| p.matches(&spec));
        let _ = format!("/{text}").parse::<PathPattern>().map(|p| p.matches(&spec));
        let _ = is_canonical(&text, EncodedSlashes::Keep);
        let yaml = format!("apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: a, namespace: b}}\nspec: {spec}\n");
        let _ = read::<AllowSpec>(&yaml, &Origin::file("f"), ALLOW).map_err(|e| e.to_string());
    }

    #[test]
    fn rules_survive_their_documents(rules in some_rules()) {
        for rule in rules {
            let document = rule.to_document();
            let spec = serde_json::to_string(&document.spec).unwrap();
            let yaml = format!("apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {}, namespace: shop}}\nspec: {spec}\n", rule.name.name);
            let read: Document<AllowSpec> = read(&yaml, &Origin::file("f"), ALLOW).unwrap();
            prop_assert_eq!(Rule::from_document(&read).unwrap(), (*rule).clone());
        }
    }
}

#[test]
fn sentence_42_what_is_suggested_for_an_identity_names_no_other() {
    for (id, pattern) in [
        ("spiffe://weft.local/ns/shop/sa/web", "shop/web"),
        (
            "spiffe://other.example/ns/shop/sa/web",
            "spiffe://other.example/ns/shop/sa/web",
        ),
        (
            "spiffe://weft.local/build/runner",
            "spiffe://weft.local/build/runner",
        ),
    ] {
        let id: SpiffeId = id.parse().unwrap();
        let narrowest = SourcePattern::for_id(&id, &trust_domain());
        assert_eq!(narrowest.to_string(), pattern);
        assert!(narrowest.matches(&id, &trust_domain()));
    }
}

#[test]
fn sentence_41_the_nearest_rule_comes_first_with_what_failed() {
    let rules = [
        allow(
            "web-reads",
            "{to: {service: api}, from: [shop/web], http: [{methods: [GET], paths: [/a]}]}",
        ),
        allow(
            "trial",
            "{to: {service: api}, from: [shop/intruder], mode: Audit}",
        ),
        allow("typo", "{to: {service: api}, from: [shop/intrudr]}"),
    ];
    let (domain, source, target) = (
        trust_domain(),
        "spiffe://weft.local/ns/shop/sa/intruder".parse().unwrap(),
        "shop/api:http".parse().unwrap(),
    );
    let question = Question {
        trust_domain: &domain,
        source: Source::Identity(&source),
        target: &target,
        quarantined: false,
        learn_until: None,
        http: Some(HttpRequest {
            method: "GET",
            path: "/b",
            authority: None,
            headers: &NoHeaders,
            upgrade: None,
            connect: false,
        }),
        encoded_slashes: EncodedSlashes::Refuse,
        now: time(0),
        folded: None,
        outside: None,
        known_workloads: &[
            "shop/intruder".parse().unwrap(),
            "shop/web".parse().unwrap(),
        ],
    };
    let explanation = explain(&rules, &question);
    let order: Vec<_> = explanation.nearest.iter().map(|near| near.failed).collect();
    assert_eq!(
        order,
        [Condition::Audit, Condition::Source, Condition::Source]
    );
    assert_eq!(
        explanation.suggested_yaml.unwrap(),
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {name: intruder-to-api, namespace: shop}\nspec:\n  to: {service: api, ports: [http]}\n  from: [shop/intruder]\n  http: [{methods: [GET], paths: [\"/b\"]}]\n"
    );
    assert_eq!(
        explanation.hints,
        [
            "rule shop/trial would allow this; it is in Audit mode and grants nothing",
            "rule shop/typo names shop/intrudr, which no workload has; did it mean shop/intruder?"
        ]
    );
}

#[test]
fn sentences_71_and_79_an_explanation_of_plaintext_says_that_nobody_asks_it_yet() {
    let rules = [
        allow("workloads", "{to: {service: api}, from: [\"*\", shop/web]}"),
        allow(
            "scraped",
            "{to: {service: api}, from: [shop/web], fromAddresses: [10.1.0.0/16], http: [{paths: [/metrics]}]}",
        ),
    ];
    let (domain, target) = (trust_domain(), "shop/api:http".parse().unwrap());
    let explained = |address: &str, path, rules: &[Arc<Rule>]| {
        let question = Question {
            trust_domain: &domain,
            source: Source::Address(address.parse().unwrap()),
            target: &target,
            quarantined: false,
            learn_until: Some(time(1)),
            http: Some(HttpRequest {
                method: "GET",
                path,
                authority: None,
                headers: &NoHeaders,
                upgrade: None,
                connect: false,
            }),
            encoded_slashes: EncodedSlashes::Refuse,
            now: time(0),
            folded: None,
            outside: None,
            known_workloads: &["shop/web".parse().unwrap()],
        };
        explain(rules, &question)
    };
    let says_so = |hints: &[String]| hints[0].contains("no sidecar accepts plaintext yet");
    let allowed = explained("::ffff:10.1.2.3", "/metrics", &rules);
    assert_eq!(allowed.rule, Some("shop/scraped".parse().unwrap()));
    assert!(says_so(&allowed.hints), "{:?}", allowed.hints);
    // not by `*`, nor because the namespace learns
    let refused = explained("::ffff:10.2.0.1", "/metrics", &rules);
    assert_eq!(refused.reason, Some(Reason::NoRule));
    assert!(says_so(&refused.hints), "{:?}", refused.hints);
    let near: Vec<_> = refused
        .nearest
        .iter()
        .map(|near| (near.wanted.as_str(), near.got.as_str()))
        .collect();
    let wanted = [
        ("shop/web, 10.1.0.0/16", "10.2.0.1"),
        ("*, shop/web", "10.2.0.1"),
    ];
    assert_eq!(near, wanted);
    let yaml = refused.suggested_yaml.unwrap();
    assert_eq!(
        yaml,
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {name: plaintext-to-api, namespace: shop}\nspec:\n  to: {service: api, ports: [http]}\n  fromAddresses: [\"10.2.0.1\"]\n  http: [{methods: [GET], paths: [\"/metrics\"]}]\n"
    );
    let document: Document<AllowSpec> = read(&yaml, &Origin::file("suggested"), ALLOW).unwrap();
    let with_it = [Arc::new(Rule::from_document(&document).unwrap())];
    assert!(explained("10.2.0.1", "/metrics", &with_it).allowed);
    assert!(!explained("10.2.0.2", "/metrics", &with_it).allowed);
}

#[test]
fn sentence_73_a_rule_names_somebody_and_is_written_as_it_was_read() {
    let nobody: Document<AllowSpec> = read(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {name: a, namespace: b}\nspec: {to: {service: api}}\n",
        &Origin::file("f"),
        ALLOW,
    )
    .unwrap();
    let error = Rule::from_document(&nobody).unwrap_err().to_string();
    assert!(error.contains("`from` or `fromAddresses`"), "{error}");
    for (spec, schema, mode) in [
        ("{to: {service: api}, from: [shop/web]}", 1, None),
        (
            "{to: {service: api}, from: [shop/web], mode: Audit}",
            1,
            Some("Audit"),
        ),
        (
            "{to: {service: api}, fromAddresses: [10.1.0.0/16]}",
            4,
            None,
        ),
        (
            "{to: {service: api}, from: [shop/web], fromAddresses: [10.1.2.3/32, \"fd00::/8\"]}",
            4,
            None,
        ),
    ] {
        let rule = allow("a", spec);
        let document = rule.to_document();
        let again = Rule::from_document(&document).unwrap();
        assert_eq!(again, *rule);
        assert_eq!(required_schema(&rule), schema, "{spec}");
        let written = serde_json::to_value(&document.spec).unwrap();
        assert_eq!(written["mode"].as_str(), mode, "{spec}");
    }
}

#[test]
fn sentence_74_lints_compare_addresses_with_addresses_alone() {
    let rules = [
        allow("a-all", "{to: {service: api}, from: [\"*\"]}"),
        allow(
            "b-wide",
            "{to: {service: api}, from: [shop/web], fromAddresses: [10.0.0.0/8]}",
        ),
        allow(
            "c-narrow",
            "{to: {service: api}, fromAddresses: [10.1.0.0/16]}",
        ),
        allow(
            "d-other",
            "{to: {service: api}, fromAddresses: [11.0.0.0/16, \"::/0\"]}",
        ),
    ];
    let warnings: Vec<_> = lint(&rules, None, time(0))
        .iter()
        .map(ToString::to_string)
        .collect();
    let plaintext = "has `fromAddresses` and no `from`: no sidecar accepts plaintext yet, so that it lets nothing in";
    assert_eq!(
        warnings,
        [
            "Allow/shop/a-all: `from: [\"*\"]` lets every workload of this trust domain in".to_owned(),
            format!("Allow/shop/c-narrow: {plaintext}"),
            "Allow/shop/c-narrow: adds nothing to shop/b-wide, which allows all of it".to_owned(),
            format!("Allow/shop/d-other: {plaintext}"),
            "Allow/shop/d-other: `fromAddresses: [\"::/0\"]` stands for every plaintext source of that family".to_owned(),
        ]
    );
}

#[test]
fn sentence_39_mistakes_are_refused_with_their_place() {
    for (spec, problem) in [
        (
            "{to: {service: api}, from: []}",
            "an empty list matches nothing",
        ),
        (
            "{to: {service: api}, from: [a/b], fromAddresses: []}",
            "an empty list matches nothing",
        ),
        (
            "{to: {service: api}, from: , fromAddresses: [10.0.0.1]}",
            "",
        ),
        (
            "{to: {service: api}, fromAddresses: [10.1.2.3/16]}",
            "the range is 10.1.0.0/16",
        ),
        (
            "{to: {service: api}, fromAddresses: [\"::ffff:10.1.0.0/112\"]}",
            "the IPv4 address itself",
        ),
        (
            "{to: {service: api}, fromAddresses: [shop/web]}",
            "expected an address",
        ),
        (
            "{to: {service: api}, from: [10.0.0.0/8]}",
            "stands in `fromAddresses`",
        ),
        (
            "{to: {service: api, ports: []}, from: [a/b]}",
            "an empty list matches nothing",
        ),
        (
            "{to: {service: api}, from: [a/b], http: []}",
            "an empty list matches nothing",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{methdos: [GET]}]}",
            "did you mean `methods`?",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{methods: [get]}]}",
            "did you mean `GET`?",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{methods: [CONNECT]}]}",
            "without `http`",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{paths: [\"/**/x\"]}]}",
            "whole last segment",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{paths: [\"/a/../b\"]}]}",
            "canonical form",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{paths: [a]}]}",
            "begin with `/`",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{hosts: [\"*\"]}]}",
            "`*.` and a name",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{headers: [{name: host, exact: x}]}]}",
            "use `hosts`",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{headers: [{name: x}]}]}",
            "expected one of",
        ),
        (
            "{to: {service: api}, from: [a/b], http: [{upgrades: [h2c]}]}",
            "always remove it",
        ),
        ("{to: {service: api}, from: [\"*/b\"]}", "only at the end"),
        (
            "{to: {service: api}, from: [\"spiffe://x/*\"]}",
            "written in full",
        ),
        ("{to: {service: api}, from: [a/b], expires: tomorrow}", ""),
        (
            "{to: {service: api}, from: [a/b], mode: audit}",
            "did you mean `Audit`?",
        ),
    ] {
        let yaml = format!(
            "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: a, namespace: b}}\nspec: {spec}\n"
        );
        let error = read::<AllowSpec>(&yaml, &Origin::file("f.yaml"), ALLOW)
            .expect_err(spec)
            .to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.starts_with("f.yaml:4:"), "{error}");
    }
}

#[test]
fn sentences_19_and_73_a_condition_that_states_nothing_and_a_rule_about_nobody_are_errors() {
    for (spec, problem) in [
        (
            "{to: {service: api}, from: [a/b], http: [{paths: [/a]}, {}]}",
            "spec.http[1]: a condition must state something",
        ),
        ("{to: {service: api}}", "spec.from: missing"),
    ] {
        let yaml = format!(
            "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: a, namespace: b}}\nspec: {spec}\n"
        );
        let document = read::<AllowSpec>(&yaml, &Origin::file("f.yaml"), ALLOW).expect(spec);
        let error = Rule::from_document(&document).expect_err(spec).to_string();
        assert!(error.starts_with(problem), "{error}");
    }
    let mut rule = (*allow("r", "{to: {service: api}, from: [a/b]}")).clone();
    assert!(rule.check().is_ok());
    rule.http = Match::OneOf(NonEmpty::one(HttpCondition::default()));
    assert!(rule.check().is_err());
    rule.http = Match::Any;
    rule.service = "other/api".parse().unwrap();
    assert!(rule.check().is_err(), "another namespace's service");
}

fn allow(name: &str, spec: &str) -> Arc<Rule> {
    let yaml = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    );
    let document = read(&yaml, &Origin::file("f"), ALLOW).unwrap();
    Arc::new(Rule::from_document(&document).unwrap())
}
