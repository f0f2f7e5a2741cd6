//! The rules and requests that are measured: 10,000 rules over 2,000 identities, half of them with HTTP conditions, 1,000 of them
//! for one service. Drawn from a fixed seed, so that every run measures the same.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use weft_identity::{ServiceName, SpiffeId, TrustDomain};
use weft_policy::{
    EncodedSlashes, HeaderCondition, HeaderTest, HttpCondition, Match, Mode, NonEmpty, PolicySet,
    Rule, SourcePattern,
};

pub(crate) const RULES: usize = 10_000;
pub(crate) const IDENTITIES: usize = 2_000;
pub(crate) const CROWDED_RULES: usize = 1_000;
const SERVICES: usize = 300;
const NAMESPACES: usize = 40;
/// One for each identity, on the average.
const REQUESTS: usize = 2_000;

pub(crate) struct Corpus {
    pub(crate) rules: BTreeMap<ServiceName, Vec<Arc<Rule>>>,
    pub(crate) crowded: ServiceName,
    pub(crate) asked: Vec<Asked>,
}

/// A request and its way to a service.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) service: ServiceName,
    pub(crate) source: SpiffeId,
    pub(crate) port: weft_identity::DnsLabel,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    /// The same, with nothing of it shared.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            source: parsed(self.source.as_str()),
            port: parsed(self.port.as_str()),
            ..self.clone()
        }
    }
}

pub(crate) fn now() -> Timestamp {
    parsed("2026-11-29T12:00:00Z")
}

pub(crate) fn trust_domain() -> TrustDomain {
    parsed("weft.local")
}

pub(crate) fn compile(service: &ServiceName, rules: &[Arc<Rule>]) -> PolicySet {
    PolicySet::compile(
        trust_domain(),
        service,
        rules.iter().cloned(),
        EncodedSlashes::Refuse,
    )
}

impl Corpus {
    pub(crate) fn drawn() -> Self {
        let mut draw = Draw(7);
        let services: Vec<ServiceName> = (0..SERVICES)
            .map(|i| parsed(&format!("ns{}/service{i}", i % NAMESPACES)))
            .collect();
        let mut rules = BTreeMap::<_, Vec<_>>::new();
        for number in 0..RULES {
            let crowded = number < CROWDED_RULES;
            let at = if crowded {
                0
            } else {
                1 + draw.below(SERVICES - 1)
            };
            let service = &services[at];
            let rule = Arc::new(rule(&mut draw, service, number, crowded));
            rules.entry(service.clone()).or_default().push(rule);
        }
        let crowded = services[0].clone();
        let asked = (0..REQUESTS)
            .map(|i| {
                // every second one is for the crowded service
                let at = if i % 2 == 0 {
                    0
                } else {
                    1 + draw.below(SERVICES - 1)
                };
                let of_service = &rules[&services[at]];
                let like = &of_service[draw.below(of_service.len())];
                asked(&mut draw, like)
            })
            .collect();
        Self {
            rules,
            crowded,
            asked,
        }
    }
}

fn rule(draw: &mut Draw, service: &ServiceName, number: usize, crowded: bool) -> Rule {
    // one caller has a quarter of the crowded service's rules
    let from: Vec<SourcePattern> = if crowded && draw.chance(25) {
        vec![parsed(&identity(0))]
    } else {
        match draw.below(100) {
            0 => vec![parsed("*")],
            1..=3 => vec![parsed(&format!("ns{}/*", draw.below(NAMESPACES)))],
            4..=9 => {
                let (namespace, group) = (draw.below(NAMESPACES), draw.below(10));
                vec![parsed(&format!("ns{namespace}/w{group}*"))]
            }
            10..=29 => (0..3).map(|_| parsed(&some_identity(draw))).collect(),
            _ => vec![parsed(&some_identity(draw))],
        }
    };
    // whole namespaces and everybody are given only a part of a service
    let is_wide = from
        .iter()
        .any(|from| matches!(from, SourcePattern::AnyLocal) || from.to_string().ends_with("/*"));
    let http = (is_wide || draw.chance(49)).then(|| {
        let count = 1 + draw.below(2);
        NonEmpty::new((0..count).map(|_| condition(draw)).collect()).expect("one or two")
    });
    let ports = draw
        .chance(60)
        .then(|| parsed(PORTS[draw.below(PORTS.len())]));
    Rule {
        name: parsed(&format!("{}/rule-{number:05}", service.namespace)),
        service: service.clone(),
        ports: ports.map_or(Match::Any, |port| Match::OneOf(NonEmpty::one(port))),
        from: NonEmpty::new(from).expect("one or more").into(),
        http: http.map_or(Match::Any, Match::OneOf),
        expires: match draw.below(20) {
            0 => Some(parsed("2026-11-01T00:00:00Z")),
            1 => Some(parsed("2027-02-01T00:00:00Z")),
            _ => None,
        },
        mode: Mode::Enforce,
    }
}

fn condition(draw: &mut Draw) -> HttpCondition {
    let mut condition = HttpCondition::default();
    let resource = RESOURCES[draw.below(RESOURCES.len())];
    let (number, sub) = (draw.below(50), RESOURCES[draw.below(RESOURCES.len())]);
    let path = match draw.below(5) {
        0 => format!("/api/{resource}"),
        1 => format!("/api/{resource}/{number}"),
        2 => format!("/api/{resource}/*/{sub}"),
        3 => format!("/api/{resource}/*"),
        _ => format!("/api/{resource}/**"),
    };
    condition.paths = Match::OneOf(NonEmpty::one(parsed(&path)));
    if draw.chance(70) {
        let methods = METHODS.iter().take(1 + draw.below(3));
        let methods = methods.map(|method| parsed(method)).collect();
        condition.methods = NonEmpty::new(methods).map_or(Match::Any, Match::OneOf);
    }
    if draw.chance(10) {
        condition.hosts = Match::OneOf(NonEmpty::one(parsed("*.example.com")));
    }
    if draw.chance(10) {
        condition.headers = Match::OneOf(NonEmpty::one(HeaderCondition {
            name: parsed("x-tenant"),
            test: HeaderTest::Exact(format!("t{}", draw.below(5))),
        }));
    }
    condition
}

/// Often what the rule allows, seldom wide of it.
fn asked(draw: &mut Draw, like: &Rule) -> Asked {
    let source = if draw.chance(70) {
        let named = like.from.identities();
        let pattern = &named[draw.below(named.len())];
        let exact = pattern.exact(&trust_domain());
        exact.unwrap_or_else(|| local(&some_identity(draw)))
    } else {
        local(&some_identity(draw))
    };
    let port = like.ports.listed().first().cloned();
    let condition = like.http.listed().first();
    let pattern = condition.and_then(|condition| condition.paths.listed().first());
    let path = match pattern.filter(|_| draw.chance(85)) {
        Some(pattern) => pattern
            .as_str()
            .replace("**", "7/lines/3")
            .replace('*', "41"),
        None => format!(
            "/api/{}/{}",
            RESOURCES[draw.below(RESOURCES.len())],
            draw.below(90)
        ),
    };
    let headers = [
        ("host", "api.example.com"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "application/json"),
        ("x-request-id", "0d9e5a1c-9f3b-4b7e"),
        ("x-tenant", ["t0", "t1", "t2", "t3"][draw.below(4)]),
    ];
    Asked {
        service: like.service.clone(),
        source,
        port: port.unwrap_or_else(|| parsed(PORTS[draw.below(PORTS.len())])),
        method: METHODS[draw.below(METHODS.len())],
        path,
        host: ["api.example.com", "api.example.org"][draw.below(2)].to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn some_identity(draw: &mut Draw) -> String {
    identity(draw.below(IDENTITIES))
}

fn identity(number: usize) -> String {
    format!("ns{}/w{number}", number % NAMESPACES)
}

fn local(workload: &str) -> SpiffeId {
    SpiffeId::for_workload(&trust_domain(), &parsed(workload))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse()
        .expect("the corpus is written so that it can be read")
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let limit = u64::try_from(limit).expect("a usize has 64 bits or fewer");
        usize::try_from(z % limit).expect("less than a usize")
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const PORTS: [&str; 3] = ["http", "grpc", "admin"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const RESOURCES: [&str; 12] = [
    "orders",
    "invoices",
    "customers",
    "carts",
    "payments",
    "shipments",
    "returns",
    "products",
    "prices",
    "stocks",
    "reviews",
    "sessions",
];
