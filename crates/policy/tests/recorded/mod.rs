//! Meshes before and after an edit, and traffic as a sidecar records it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*, sample::select};
use weft_identity::{ServicePort, SpiffeId};
use weft_policy::{
    EncodedSlashes, Flow, FlowHost, FlowKey, FlowRequest, FoldedPath, HeaderCondition,
    HeaderLookup, HeaderSeen, HeaderTest, HeaderValue, HttpCondition, HttpRequest, Judged, Match,
    Mode, NonEmpty, Quarantine, Reason, Rule, ServiceFacts, Side, SourcePattern, Sources, World,
    host_of, is_host,
};

#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) source: SpiffeId,
    pub(crate) target: ServicePort,
    pub(crate) before: Side,
    pub(crate) after: Side,
    /// The rules and the setting when the traffic was recorded: not always those of either side.
    pub(crate) recorded: Side,
}

/// One connection, or one request on it.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    pub(crate) request: Option<Request>,
    pub(crate) reached: &'static str,
    /// There was no room for the host and the whole path.
    pub(crate) told_less: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    host: Option<&'static str>,
    headers: Vec<(String, String)>,
    upgrade: Option<&'static str>,
}

impl Request {
    pub(crate) fn as_http(&self) -> HttpRequest<'_> {
        let connect = self.method == "CONNECT";
        HttpRequest {
            method: self.method,
            path: if connect { "" } else { &self.path },
            authority: self.host,
            headers: &self.headers,
            upgrade: self.upgrade,
            connect,
        }
    }
}

fn host_seen(host: Option<&str>, told_less: bool) -> FlowHost {
    match host.map(|host| host_of(host).to_ascii_lowercase()) {
        None => FlowHost::None,
        Some(host) if is_host(&host) && !told_less => FlowHost::Named(host.into()),
        Some(_) => FlowHost::Folded,
    }
}

/// What is recorded of it.
pub(crate) fn flow_of(scene: &Scene, meeting: &Meeting) -> Flow {
    let world = &scene.recorded.world;
    let conditions = || {
        let rules = world.rules.iter();
        let on_port = rules.filter(|rule| rule.matches_port(&scene.target.port));
        on_port.flat_map(|rule| rule.http.listed())
    };
    let request = meeting.request.as_ref().map(|request| {
        let spelled = |segment: &str| {
            let paths = conditions().flat_map(|condition| condition.paths.listed());
            paths
                .flat_map(|path| path.as_str().split('/'))
                .any(|other| other == segment)
        };
        let mut headers: Vec<(HeaderCondition, HeaderSeen)> = Vec::new();
        for condition in conditions().flat_map(|condition| condition.headers.listed()) {
            if !headers.iter().any(|(other, _)| other == condition) {
                headers.push((condition.clone(), seen(condition, &request.headers)));
            }
        }
        let slashes = world.services[&scene.target.service].encoded_slashes;
        let connect = request.method == "CONNECT";
        FlowRequest {
            method: request.method.into(),
            host: host_seen(request.host, meeting.told_less),
            path: (!connect).then(|| {
                let folded = FoldedPath::fold(&request.path, slashes, spelled);
                if meeting.told_less {
                    FoldedPath::first_segments(folded.as_str(), 1)
                        .parse()
                        .unwrap()
                } else {
                    folded
                }
            }),
            headers,
            upgrade: request.upgrade.map(|text| text.to_ascii_lowercase().into()),
            connect,
        }
    });
    Flow {
        key: FlowKey {
            source: scene.source.clone(),
            target: scene.target.clone(),
            request,
            judged: Judged::Denied(Reason::NoRule),
        },
        count: 1,
        first_seen: time(0),
        last_seen: time(1),
    }
}

fn seen(condition: &HeaderCondition, headers: &Vec<(String, String)>) -> HeaderSeen {
    match headers.lookup(condition.name.as_str()) {
        HeaderValue::Absent => HeaderSeen::Absent,
        HeaderValue::Many => HeaderSeen::Many,
        HeaderValue::One(_) if condition.matches(headers) => HeaderSeen::Matched,
        HeaderValue::One(_) => HeaderSeen::Differed,
    }
}

/// An edit of any kind, and traffic that was recorded under some other rules still.
pub(crate) fn some_scene() -> impl Strategy<Value = (Scene, Vec<Meeting>)> {
    let rule = || some_rule(some_pattern().boxed(), some_header().boxed());
    let side = |rules: BoxedStrategy<Vec<Arc<Rule>>>| {
        (
            rules,
            some_slashes(),
            some_quarantine(),
            (0..4i64, option::weighted(0.1, 0..6i64)),
            some_ports(),
        )
            .prop_map(|(rules, slashes, quarantined, at, opaque)| {
                side(rules, slashes, quarantined, at, opaque)
            })
    };
    let before = vec(rule(), 0..5).prop_map(named).boxed();
    let edit = (
        before,
        vec((option::weighted(0.6, rule()), any::<bool>()), 0..3),
    );
    (edit, side(vec(rule(), 0..3).prop_map(named).boxed()))
        .prop_flat_map(move |((before, edits), recorded)| {
            let mut after = before.clone();
            for (place, (rule, at_end)) in edits.into_iter().enumerate() {
                match rule {
                    Some(rule) if at_end => after.push(rule),
                    Some(rule) if place < after.len() => after[place] = rule,
                    Some(_) | None => {
                        after.pop();
                    }
                }
            }
            let after = named(after.iter().map(|rule| (**rule).clone().into()).collect());
            (
                side(Just(before).boxed()),
                side(Just(after).boxed()),
                prop_oneof![Just(None), Just(Some(recorded))],
                vec(some_meeting(some_path().boxed(), 0.1), 1..6),
                select(vec!["shop/web", "shop/batch-1", "crm/sync"]),
            )
        })
        .prop_map(|(before, after, recorded, meetings, source)| {
            let recorded = recorded.unwrap_or_else(|| before.clone());
            (scene(source, before, after, recorded), meetings)
        })
}

/// Rules without special literals, on traffic that was recorded under the rules before; an edit names no new header.
pub(crate) fn some_simple_scene() -> impl Strategy<Value = (Scene, Vec<Meeting>)> {
    let pattern = select(vec!["/a", "/a/*", "/a/**", "/*/x", "/**", "/b/*/x"]);
    let pattern = pattern.prop_map(str::to_owned).boxed();
    let header = Just(("x-one", HeaderTest::Exact("blue".to_owned()))).boxed();
    let rule = move || some_rule(pattern.clone(), header.clone());
    let path = "/(a|b|17|9bf486c|2026-11-29)(/(x|18|y2|%7B)){0,3}".boxed();
    let rules =
        (vec(rule(), 1..4), vec(rule(), 0..4)).prop_filter("it names the header", |(b, _)| {
            let mut conditions = b.iter().flat_map(|rule| rule.http.listed());
            conditions.any(|condition| !condition.headers.is_any())
        });
    (rules, vec(some_meeting(path, 0.0), 1..4)).prop_map(|((before, after), mut meetings)| {
        for request in meetings.iter_mut().flat_map(|meeting| &mut meeting.request) {
            // this one is no host that is recorded by its name
            request.host = request.host.filter(|host| !host.ends_with(".."));
        }
        // the rule that names the header is about every port, so that the record answers for each
        let before = before.into_iter().map(|rule| Rule {
            ports: Match::Any,
            ..(*rule).clone()
        });
        let before = named(before.map(Arc::new).collect());
        let side = |rules| side(rules, EncodedSlashes::Refuse, None, (0, None), true);
        let (before, after) = (side(before), side(named(after)));
        (scene("shop/web", before.clone(), after, before), meetings)
    })
}

fn scene(source: &str, before: Side, after: Side, recorded: Side) -> Scene {
    let (namespace, name) = source.split_once('/').unwrap();
    Scene {
        source: format!("spiffe://weft.local/ns/{namespace}/sa/{name}")
            .parse()
            .unwrap(),
        target: "shop/api:http".parse().unwrap(),
        before,
        after,
        recorded,
    }
}

fn side(
    rules: Vec<Arc<Rule>>,
    encoded_slashes: EncodedSlashes,
    quarantined: Option<&str>,
    (at, learn_until): (i64, Option<i64>),
    opaque: bool,
) -> Side {
    let ports = vec!["http".parse().unwrap()];
    let facts = ServiceFacts {
        workloads: vec![
            "shop/api".parse().unwrap(),
            "shop/api-canary".parse().unwrap(),
        ],
        opaque_ports: if opaque { ports.clone() } else { Vec::new() },
        ports,
        encoded_slashes,
    };
    let quarantine = |workload: &str| Quarantine {
        name: "shop/cut".parse().unwrap(),
        workload: workload.parse().unwrap(),
        reason: String::new(),
    };
    Side {
        world: World {
            trust_domain: "weft.local".parse().unwrap(),
            rules,
            quarantines: quarantined.map(quarantine).into_iter().collect(),
            learning: learn_until
                .map(|until| ("shop".parse().unwrap(), time(until)))
                .into_iter()
                .collect(),
            services: BTreeMap::from([("shop/api".parse().unwrap(), facts)]),
            outside: None,
        },
        revoked: BTreeSet::new(),
        at: time(at),
    }
}

/// Rules with the names of their places.
fn named(rules: Vec<Arc<Rule>>) -> Vec<Arc<Rule>> {
    let place = |(place, rule): (usize, Arc<Rule>)| {
        let name = format!("shop/r{place}").parse().unwrap();
        Arc::new(Rule {
            name,
            ..(*rule).clone()
        })
    };
    rules.into_iter().enumerate().map(place).collect()
}

fn some_rule(
    pattern: BoxedStrategy<String>,
    header: BoxedStrategy<(&'static str, HeaderTest)>,
) -> impl Strategy<Value = Arc<Rule>> {
    let from = select(vec!["shop/web", "shop/batch-*", "shop/*", "*", "*", "*"]);
    let condition = (
        listed(select(vec!["GET", "POST"]).prop_map(|method| method.parse().unwrap())),
        option::weighted(0.8, vec(pattern, 1..4)),
        listed(select(vec!["x.example", "*.example", "a"]).prop_map(|host| host.parse().unwrap())),
        option::weighted(0.2, vec(header, 1..2)),
        option::weighted(0.2, Just("websocket")),
    )
        .prop_map(|(methods, paths, hosts, headers, upgrade)| HttpCondition {
            methods,
            paths: some(paths, |path| path.parse().unwrap()),
            hosts,
            headers: some(headers, |(name, test)| HeaderCondition {
                name: name.parse().unwrap(),
                test,
            }),
            upgrades: some(upgrade.map(|name| vec![name]), |name| name.parse().unwrap()),
        })
        .prop_filter("sentence 19", |condition| !condition.is_empty());
    (
        vec(from, 1..2),
        option::weighted(0.8, vec(condition, 1..3)),
        option::weighted(0.1, 0..6i64),
        prop::bool::weighted(0.9),
        option::weighted(0.2, select(vec!["http", "http", "other"])),
    )
        .prop_map(|(from, http, expires, enforce, port)| {
            let from: Vec<SourcePattern> = from.iter().map(|text| text.parse().unwrap()).collect();
            Arc::new(Rule {
                name: "shop/r".parse().unwrap(),
                service: "shop/api".parse().unwrap(),
                ports: some(port.map(|port| vec![port]), |port| port.parse().unwrap()),
                from: Sources::new(from, Vec::new()).unwrap(),
                http: some(http, |condition| condition),
                expires: expires.map(time),
                mode: if enforce { Mode::Enforce } else { Mode::Audit },
            })
        })
}

fn some_pattern() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "a",
        "b",
        "*",
        "*",
        "17",
        "2*",
        "*a*",
        "a*",
        "a%2Fb",
        "9bf486c",
        "{number}",
        "2026-11-29",
    ]);
    let end = select(vec!["", "", "/", "/**", "/**", "/**"]);
    (vec(segment, 0..3), end)
        .prop_map(|(segments, end)| format!("/{}{end}", segments.join("/")))
        .prop_map(|path| path.replace("//", "/"))
}

fn some_header() -> impl Strategy<Value = (&'static str, HeaderTest)> {
    let test = select(vec![
        HeaderTest::Exact("blue".to_owned()),
        HeaderTest::Exact("black".to_owned()),
        HeaderTest::Prefix("bl".to_owned()),
        HeaderTest::Prefix("blue".to_owned()),
        HeaderTest::Prefix("r".to_owned()),
        HeaderTest::Present,
    ]);
    (select(vec!["x-one", "x-one", "x-two"]), test)
}

fn some_path() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "a",
        "a",
        "b",
        "17",
        "18",
        "2024",
        "20261129",
        "2026-11-29",
        "2026-11-30T10:00:00Z",
        "9bf486c",
        "abcdef1",
        "550e8400-e29b-41d4-a716-446655440000",
        "bob@example.com",
        "aVeryLongTokenWithoutAnyDigitsInItAtAll",
        "a%2Fb",
        "a%2fc",
        "%7Bnumber%7D",
        "v1",
    ]);
    let odd = select(vec![
        "/a/../b",
        "/%61",
        "//a",
        "",
        "a",
        "/a%2f..",
        "/{number}",
        "/a/{rest}",
    ]);
    let long = (10..20usize).prop_map(|count| "/a".repeat(count));
    prop_oneof![
        8 => (vec(segment, 0..4), select(vec!["", "", "/"]))
            .prop_map(|(segments, end)| format!("/{}{end}", segments.join("/"))),
        1 => odd.prop_map(str::to_owned),
        1 => long,
    ]
}

fn some_meeting(path: BoxedStrategy<String>, told_less: f64) -> impl Strategy<Value = Meeting> {
    let header = (
        select(vec!["x-one", "X-One", "x-two"]),
        select(vec!["blue", "black", "bluer", "red", ""]),
    );
    let request = (
        select(vec![
            "GET", "GET", "GET", "GET", "GET", "GET", "GET", "POST", "PUT", "CONNECT",
        ]),
        path,
        select(vec![
            None,
            Some("x.example"),
            Some("x.example."),
            Some("X.EXAMPLE:80"),
            Some("x.example.."),
            Some("y.example.:80"),
            Some("a"),
            Some("[::1]:80"),
        ]),
        vec(header, 0..3),
        select(vec![
            None,
            None,
            None,
            None,
            None,
            None,
            Some("websocket"),
            Some("WebSocket, foo"),
        ]),
    )
        .prop_map(|(method, path, host, headers, upgrade)| Request {
            method,
            path,
            host,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            upgrade,
        });
    let reached = select(vec!["shop/api", "shop/api-canary"]);
    (
        option::weighted(0.9, request),
        reached,
        prop::bool::weighted(told_less),
    )
        .prop_map(|(request, reached, told_less)| Meeting {
            request,
            reached,
            told_less,
        })
}

fn some_slashes() -> impl Strategy<Value = EncodedSlashes> {
    select(vec![EncodedSlashes::Refuse, EncodedSlashes::Keep])
}

fn some_quarantine() -> impl Strategy<Value = Option<&'static str>> {
    option::weighted(0.06, select(vec!["shop/web", "shop/api", "crm/other"]))
}

fn some_ports() -> impl Strategy<Value = bool> {
    any::<bool>()
}

fn listed<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Match<T>> {
    option::weighted(0.15, vec(value, 1..3)).prop_map(|values| some(values, |value| value))
}

fn some<T, U>(values: Option<Vec<T>>, read: impl Fn(T) -> U) -> Match<U> {
    match values {
        None => Match::Any,
        Some(values) => {
            Match::OneOf(NonEmpty::new(values.into_iter().map(read).collect()).unwrap())
        }
    }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}
