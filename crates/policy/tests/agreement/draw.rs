//! Draws policies and questions that come near to them, from a seed.

use weft_policy::HeaderTest;

use crate::case::{Case, ConditionText, RequestText, RuleText, SERVICE, TRUST_DOMAIN};

/// SplitMix64: the same cases for the same seed, everywhere.
pub(crate) struct Draw {
    state: u64,
    /// How many of a hundred paths are not in canonical form.
    broken: usize,
    /// How many of a hundred namespaces learn, or did.
    learning: usize,
}

impl Draw {
    pub(crate) fn seeded(seed: u64, broken: usize, learning: usize) -> Self {
        Self {
            state: seed.wrapping_mul(0xD134_2543_DE82_EF95),
            broken,
            learning,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        usize::try_from(z % u64::try_from(limit).unwrap()).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// One to three of them.
    fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        let count = [1, 1, 1, 2, 2, 3][self.below(6)];
        (0..count).map(|_| self.pick(from)).collect()
    }

    fn listed<T: Clone>(&mut self, percent: usize, from: &[T]) -> Option<Vec<T>> {
        self.chance(percent).then(|| self.some(from))
    }

    pub(crate) fn case(&mut self) -> Case {
        let count = match self.below(100) {
            0..3 => 12 + self.below(12),
            few => 1 + few % 4,
        };
        // names in another order than the rules stand in
        let (first, step) = (self.below(29), 1 + self.below(28));
        let mut rules: Vec<_> = (0..count)
            .map(|at| self.rule(format!("shop/r{:02}", (first + at * step) % 29)))
            .collect();
        if count >= 12 && self.chance(60) {
            // one source with many rules
            let from = self.pick(&FROM).to_owned();
            for rule in &mut rules {
                rule.from = vec![from.clone()];
                rule.addresses.clear();
            }
        }
        let like = self.pick(&rules);
        let near =
            |draw: &mut Self, port| like.ports.as_ref().map_or(port, |ports| draw.pick(ports));
        let port = self.pick(&PORTS);
        let now = match like.expires {
            Some(expires) => expires + self.pick(&[-5, -1, -1, 0, 0, 1]),
            None => 10,
        };
        Case {
            keep_slashes: self.chance(30),
            source: self.source(&like),
            address: self.address(&like),
            port: if self.chance(85) {
                near(self, port)
            } else {
                port
            },
            quarantined: self.chance(5),
            now,
            learn_until: self
                .chance(self.learning)
                .then(|| now + self.pick(&[-1, 0, 1, 5])),
            request: self.chance(88).then(|| self.request(&like)),
            rules,
        }
    }

    fn rule(&mut self, name: String) -> RuleText {
        let (has_from, has_addresses) = match self.below(100) {
            0..14 => (false, true),
            14..28 => (true, true),
            _ => (true, false),
        };
        RuleText {
            name,
            service: if self.chance(8) {
                "shop/other"
            } else {
                SERVICE
            },
            ports: self.listed(40, &PORTS),
            from: match has_from {
                true => self.some(&FROM).into_iter().map(str::to_owned).collect(),
                false => Vec::new(),
            },
            addresses: match has_addresses {
                true => self.some(&RANGES),
                false => Vec::new(),
            },
            http: self.chance(75).then(|| {
                let count = [1, 1, 2, 3][self.below(4)];
                (0..count).map(|_| self.condition()).collect()
            }),
            expires: self.chance(20).then(|| self.pick(&[9, 10, 11, 20])),
            audit: self.chance(10),
        }
    }

    fn condition(&mut self) -> ConditionText {
        let mut condition = ConditionText {
            methods: self.listed(
                35,
                &["GET", "GET", "GET", "POST", "PURGE", "TRACE", "PROPFIND"],
            ),
            paths: self.chance(65).then(|| {
                let count = [1, 1, 1, 2][self.below(4)];
                (0..count).map(|_| self.pattern()).collect()
            }),
            hosts: self.listed(
                20,
                &[
                    "x.example",
                    "*.example",
                    "*.example",
                    "*.x.example",
                    "X.Example",
                    "[::1]",
                ],
            ),
            headers: None,
            upgrades: self.listed(15, &["websocket", "WebSocket", "foo"]),
            grpc: None,
        };
        if self.chance(10) {
            (condition.methods, condition.paths) = (None, None);
            condition.grpc = Some(self.some(&GRPC));
        }
        if self.chance(18) {
            let count = [1, 1, 2][self.below(3)];
            let mut header = || {
                let test = match self.below(3) {
                    0 => HeaderTest::Exact("t1".to_owned()),
                    1 => HeaderTest::Prefix("t".to_owned()),
                    _ => HeaderTest::Present,
                };
                (self.pick(&["x-tenant", "X-Env"]), test)
            };
            condition.headers = Some((0..count).map(|_| header()).collect());
        }
        if condition.is_empty() {
            condition.paths = Some(vec![self.pattern()]);
        }
        condition
    }

    fn pattern(&mut self) -> String {
        let count = [0, 1, 1, 2, 2, 3][self.below(6)];
        let mut text: String = (0..count)
            .map(|_| format!("/{}", self.pick(&SEGMENTS)))
            .collect();
        text += self.pick(&["", "", "", "/", "/**", "/**"]);
        if text.is_empty() {
            "/".to_owned()
        } else {
            text
        }
    }

    /// `None`: plaintext.
    fn source(&mut self, like: &RuleText) -> Option<String> {
        let plaintext = match (like.from.is_empty(), like.addresses.is_empty()) {
            (true, _) => 80,
            (false, false) => 40,
            (false, true) => 5,
        };
        if self.chance(plaintext) {
            return None;
        }
        let anyone = self.pick(&SOURCES).to_owned();
        if like.from.is_empty() || self.chance(20) {
            return Some(anyone);
        }
        let from = self.pick(&like.from);
        if from == "*" {
            return Some(anyone);
        }
        if from.starts_with("spiffe://") {
            return Some(from);
        }
        let (namespace, name) = from.split_once('/').unwrap();
        let name = match name.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{}", self.pick(&["a", "1", "b-2"])),
            None => name.to_owned(),
        };
        let domain = if self.chance(90) {
            TRUST_DOMAIN
        } else {
            "partner.example"
        };
        Some(format!("spiffe://{domain}/ns/{namespace}/sa/{name}"))
    }

    fn address(&mut self, like: &RuleText) -> &'static str {
        if like.addresses.is_empty() || self.chance(20) {
            return self.pick(&ADDRESSES);
        }
        // the first of them that begins alike, or is near
        let near: &[&str] = match self.pick(&like.addresses) {
            "0.0.0.0/0" => &["10.1.2.3", "9.9.9.9", "::ffff:9.9.9.9"],
            "fd00::/8" | "fd00::1" => &["fd00::1", "fd00::1", "fd00::2", "fe00::1"],
            "::/0" => &["fd00::1", "a01:203::1", "::1", "::ffff:10.1.2.3"],
            "a01:200::/24" => &["a01:203::1", "a01:203::1", "10.1.2.3"],
            _ => &[
                "10.1.2.3",
                "10.1.2.3",
                "10.1.2.4",
                "10.2.0.1",
                "::ffff:10.1.2.3",
                "a01:203::1",
            ],
        };
        self.pick(near)
    }

    fn request(&mut self, like: &RuleText) -> RequestText {
        let condition = match &like.http {
            Some(conditions) => self.pick(conditions),
            None => ConditionText::default(),
        };
        let connect = self.chance(6);
        let path = match (&condition.paths, &condition.grpc) {
            (Some(paths), _) if self.chance(90) => {
                let pattern = self.pick(paths);
                self.path_like(&pattern)
            }
            (None, Some(named)) if self.chance(90) => {
                let pattern = format!("/{}", self.pick(named));
                self.path_like(&pattern)
            }
            _ => {
                let pattern = self.pattern();
                self.path_like(&pattern)
            }
        };
        let mut headers = Vec::new();
        for (name, test) in condition.headers.iter().flatten() {
            if self.chance(92) {
                headers.push((name.to_string(), self.value_like(test)));
            }
        }
        if self.chance(15) {
            headers.push((
                self.pick(&["X-TENANT", "x-env"]).to_owned(),
                self.pick(&["t1", "t2"]).to_owned(),
            ));
        }
        RequestText {
            method: match &condition.methods {
                _ if connect => "CONNECT",
                Some(methods) if self.chance(85) => self.pick(methods),
                None if condition.grpc.is_some() && self.chance(60) => "POST",
                _ => self.pick(&[
                    "GET", "HEAD", "HEAD", "POST", "get", "get", "PURGE", "PROPFIND",
                ]),
            },
            path: if connect && self.chance(50) {
                String::new()
            } else {
                path
            },
            host: match &condition.hosts {
                Some(hosts) => self.host_like(hosts),
                None => self.chance(50).then(|| self.pick(&HOSTS).to_owned()),
            },
            headers,
            upgrade: match &condition.upgrades {
                Some(_) if self.chance(70) => self.pick(&OFFERS),
                _ if self.chance(5) => self.pick(&OFFERS),
                _ => None,
            },
            connect,
        }
    }

    fn host_like(&mut self, hosts: &[&'static str]) -> Option<String> {
        let host = self.pick(hosts);
        let host = match host.strip_prefix("*.") {
            Some(name) if self.chance(75) => format!("{}.{name}", self.pick(&["a", "x", "a.b"])),
            Some(name) => name.to_owned(),
            None => host.to_owned(),
        };
        let host = match self.below(8) {
            0 => host.to_uppercase(),
            1 => format!("{host}:443"),
            2 => format!("{host}."),
            3 => format!("{host}.:80"),
            4 => return self.chance(50).then(|| self.pick(&HOSTS).to_owned()),
            _ => host,
        };
        Some(host)
    }

    fn value_like(&mut self, test: &HeaderTest) -> String {
        let near = match test {
            HeaderTest::Exact(text) | HeaderTest::Prefix(text) => text.as_str(),
            HeaderTest::Present => "",
        };
        match self.below(6) {
            0 => format!("{near}2"),
            1 => near.to_uppercase(),
            2 => "other".to_owned(),
            _ => near.to_owned(),
        }
    }

    fn path_like(&mut self, pattern: &str) -> String {
        let segments: Vec<_> = pattern
            .split('/')
            .skip(1)
            .map(|segment| self.segment_like(segment))
            .collect();
        let path = format!("/{}", segments.join("/"));
        if self.chance(self.broken) {
            return self.broken(&path);
        }
        match self.below(100) {
            // an edge of the patterns
            0..8 => path.trim_end_matches('/').to_owned(),
            8..16 => path + "/",
            16..20 => path.to_uppercase(),
            20..28 => path.replace(':', "%3A"),
            28..36 => path.replace("%3A", ":"),
            36..38 => path + "/a",
            38..41 => path + "%2Fc",
            41..46 if pattern.ends_with("/**") => pattern.replace("/**", "").replace('*', "a"),
            41..46 if pattern.ends_with("/*") => pattern.replace("/*", "/"),
            _ => path,
        }
    }

    fn segment_like(&mut self, wanted: &str) -> String {
        match wanted {
            "*" => self.pick(&["a", "7", "7", "ab", ""]).to_owned(),
            "**" => self.pick(&["", "a", "a/b", "a/b/"]).to_owned(),
            _ => {
                let parts: Vec<_> = wanted.split('*').collect();
                let between = self.pick(&["", "", "x", "b", "ab"]);
                parts.join(between)
            }
        }
    }

    fn broken(&mut self, path: &str) -> String {
        let piece = self.pick(&BROKEN);
        match self.below(8) {
            0 => path.trim_start_matches('/').to_owned() + self.pick(&["", "*"]),
            1 => path.replacen('/', piece, 1),
            2 => format!("/a{piece}{path}"),
            3 => format!("{piece}{path}"),
            4 => format!("{path}{piece}"),
            _ => format!("{}{piece}", path.trim_end_matches('/')),
        }
    }
}

const PORTS: [&str; 3] = ["http", "raw", "admin"];

const FROM: [&str; 12] = [
    "shop/web",
    "shop/web",
    "crm/web",
    "shop/batch-1",
    "shop/batch-*",
    "shop/b*",
    "shop/*",
    "crm/*",
    "*",
    "spiffe://weft.local/ns/shop/sa/web",
    "spiffe://partner.example/ns/shop/sa/web",
    "spiffe://weft.local/operator/root",
];

const SOURCES: [&str; 10] = [
    "spiffe://weft.local/ns/shop/sa/web",
    "spiffe://weft.local/ns/shop/sa/batch-1",
    "spiffe://weft.local/ns/shop/sa/batch-22",
    "spiffe://weft.local/ns/shop/sa/bat",
    "spiffe://weft.local/ns/crm/sa/web",
    "spiffe://weft.local/operator/root",
    "spiffe://weft.local/ns/shop/sa/web/x",
    "spiffe://weft.local/ns/Shop/sa/web",
    "spiffe://partner.example/ns/shop/sa/web",
    "spiffe://partner.example/ns/shop/sa/batch-1",
];

const RANGES: [&str; 10] = [
    "10.1.0.0/16",
    "10.1.0.0/16",
    "10.0.0.0/8",
    "10.1.2.3",
    "10.1.2.3/32",
    "0.0.0.0/0",
    "fd00::/8",
    "fd00::1",
    "::/0",
    // the bits of 10.1.2.0/24, of the other family
    "a01:200::/24",
];

const ADDRESSES: [&str; 10] = [
    "10.1.2.3",
    "10.1.2.3",
    "10.1.2.4",
    "10.2.0.1",
    "9.9.9.9",
    "::ffff:10.1.2.3",
    "::ffff:9.9.9.9",
    "fd00::1",
    "a01:203::1",
    "::1",
];

const GRPC: [&str; 6] = [
    "shop.Orders/Get",
    "shop.Orders/Get",
    "shop.Orders/List",
    "shop.Orders/*",
    "shop.v1.Carts/*",
    "Orders/Get",
];

const SEGMENTS: [&str; 16] = [
    "a", "a", "b", "ab", "A", "*", "*", "a*", "*b", "a*b", "*a*b*", ":", ":", "%3A", "%3A", "a;v=1",
];

const HOSTS: [&str; 12] = [
    "x.example",
    "X.EXAMPLE:80",
    "a.x.example",
    "example",
    "x.example.:8080",
    "y",
    "[::1]:80",
    ".example",
    // longer than what it must end with, which is not how it ends
    "a.x.example.net",
    "x.example.a",
    "notexample",
    "axx.example",
];

const OFFERS: [Option<&str>; 6] = [
    Some("websocket"),
    Some("WebSocket"),
    Some("websocket, foo"),
    Some("foo"),
    Some("bar"),
    None,
];

/// What no canonical path holds, or only with `encodedSlashes: keep`; and a few that look so.
const BROKEN: [&str; 38] = [
    "//", "//a", "/./", "/../", "/.", "/..", "/..;x", "/.;/", "/..;x/a", "/..%3bx", "/..%3B/a",
    "/;x", "/;", "/%3bx/a", "%", "%4", "%zz", "%+1", "%61", "%7E", "%2e", "%00", "%0A", "%7f",
    "%2f", "%2F", "%5C", "%5c/", " ", "\\", "#", "\u{7f}", "\n", "ä", "/..%2fb", "%2f%2Fb", "/...",
    "%20%C3",
];
