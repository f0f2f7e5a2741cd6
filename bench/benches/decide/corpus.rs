//! The rules and requests that are measured: 10,000 rules over 2,000 identities, half of them with HTTP conditions, 1,000 of them
//! for one service. Drawn from a fixed seed, so that every run measures the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;
use weft_identity::{ServiceName, SpiffeId, TrustDomain};
use weft_policy::{
    EncodedSlashes, HeaderCondition, HeaderLookup, HeaderTest, HeaderValue, HttpCondition, Match,
    Mode, NonEmpty, PolicySet, Rule, SourcePattern,
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

/// A request and its way to a service, as a proxy has it: its head, and where in it each part stands.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) service: ServiceName,
    pub(crate) source: SpiffeId,
    pub(crate) port: weft_identity::DnsLabel,
    pub(crate) method: &'static str,
    head: Box<str>,
    path: Span,
    host: Span,
    headers: [(Span, Span); HEADERS.len()],
}

/// From a byte to one behind the last.
type Span = (u16, u16);

impl Asked {
    /// Read anew: nothing that a decision reads of it is shared.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            source: parsed(self.source.as_str()),
            port: parsed(self.port.as_str()),
            ..self.clone()
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.text(self.path)
    }

    pub(crate) fn host(&self) -> &str {
        self.text(self.host)
    }

    fn text(&self, (from, to): Span) -> &str {
        &self.head[usize::from(from)..usize::from(to)]
    }
}

impl HeaderLookup for Asked {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        let is_it = |(other, _): &&(Span, Span)| {
            let other = self.text(*other);
            other == name || other.eq_ignore_ascii_case(name)
        };
        let mut found = self.headers.iter().filter(is_it);
        match (found.next(), found.next()) {
            (None, _) => HeaderValue::Absent,
            (Some((_, value)), None) => HeaderValue::One(self.text(*value).as_bytes()),
            (Some(_), Some(_)) => HeaderValue::Many,
        }
    }
}

pub(crate) fn now() -> Timestamp {
    parsed("2026-11-29T12:00:00Z")
}

/// One for all, as a mesh has it.
pub(crate) fn trust_domain() -> TrustDomain {
    static DOMAIN: LazyLock<TrustDomain> = LazyLock::new(|| parsed("weft.local"));
    DOMAIN.clone()
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
    let tenant = ["t0", "t1", "t2", "t3"][draw.below(4)];
    let port = port.unwrap_or_else(|| parsed(PORTS[draw.below(PORTS.len())]));
    let method = METHODS[draw.below(METHODS.len())];
    let host = ["api.example.com", "api.example.org"][draw.below(2)];
    let mut head = Head(format!("{method} "));
    let path = head.push(&path, " HTTP/1.1\r\n");
    let headers = HEADERS.map(|(name, value)| {
        let value = match name {
            "host" => host,
            "x-tenant" => tenant,
            _ => value,
        };
        (head.push(name, ": "), head.push(value, "\r\n"))
    });
    Asked {
        service: like.service.clone(),
        source,
        port,
        method,
        head: head.0.into(),
        path,
        host: headers[0].1,
        headers,
    }
}

/// A head in the making.
struct Head(String);

impl Head {
    /// Where `part` stands; `after` comes behind it.
    fn push(&mut self, part: &str, after: &str) -> Span {
        let end = |head: &String| u16::try_from(head.len()).expect("heads are short");
        let from = end(&self.0);
        self.0.push_str(part);
        let to = end(&self.0);
        self.0.push_str(after);
        (from, to)
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
/// The values of some differ from request to request.
const HEADERS: [(&str, &str); 5] = [
    ("host", ""),
    ("user-agent", "curl/8.5.0"),
    ("accept", "application/json"),
    ("x-request-id", "0d9e5a1c-9f3b-4b7e"),
    ("x-tenant", ""),
];
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
