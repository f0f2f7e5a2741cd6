//! Makes the recorded traffic of `tests/corpus/traffic/requests.tsv`: the same each time.

use std::collections::BTreeSet;

use super::mesh::{EVERYWHERE, HTTP_SERVICES, ROUTES, Route};

/// One request or connection: source, target, method, path with its query, upgrade; tab-separated.
pub(crate) fn requests(distinct_paths: usize) -> String {
    let mut random = Random(0x5eed);
    let mut lines = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for target in HTTP_SERVICES {
        for route in &EVERYWHERE {
            add(route, target, route.path, &mut lines, &mut paths);
        }
    }
    while paths.len() < distinct_paths {
        for route in ROUTES {
            let path = filled(route.path, &mut random);
            let is_new = !paths.contains(path_of(&path));
            if paths.len() < distinct_paths || !is_new {
                add(route, route.target, &path, &mut lines, &mut paths);
            }
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn add(
    route: &Route,
    target: &str,
    path: &str,
    lines: &mut BTreeSet<String>,
    paths: &mut BTreeSet<String>,
) {
    if !path.is_empty() {
        paths.insert(path_of(path).to_owned());
    }
    for caller in route.callers {
        let caller = match caller.contains('/') {
            true => (*caller).to_owned(),
            false => format!("shop/{caller}"),
        };
        for method in route.methods {
            let upgrade = route.upgrade.unwrap_or("-");
            let path = if path.is_empty() { "-" } else { path };
            lines.insert(format!("{caller}\t{target}\t{method}\t{path}\t{upgrade}"));
        }
    }
}

fn path_of(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

fn filled(template: &str, random: &mut Random) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (hole, after) = after.split_once('}').expect("a closed hole");
        text.push_str(before);
        text.push_str(&value(hole, random));
        rest = after;
    }
    text + rest
}

fn value(hole: &str, random: &mut Random) -> String {
    match hole {
        "number" => random.below(90_000).to_string(),
        "year" => (2019 + random.below(8)).to_string(),
        "month" => format!("{:02}", 1 + random.below(12)),
        "day" => format!("{:02}", 1 + random.below(28)),
        "width" => (64 << random.below(5)).to_string(),
        "date" => format!(
            "2026-{:02}-{:02}",
            1 + random.below(12),
            1 + random.below(28)
        ),
        "stamp" => format!(
            "2026-11-{:02}T{:02}:00:00Z",
            1 + random.below(28),
            random.below(24)
        ),
        "uuid" => format!(
            "{}-{}-4{}-a{}-{}",
            random.hex(8),
            random.hex(4),
            random.hex(3),
            random.hex(3),
            random.hex(12)
        ),
        "hash" => random.hex(40),
        "key" => format!("ch_{}{}", random.hex(9), random.hex(9).to_uppercase()),
        "token" => format!("{}.{}", random.hex(31), random.hex(43)),
        "invoice" => format!("INV-{:06}", random.below(900_000)),
        "sku" => format!(
            "{}-{}",
            random.of(&COLOURS).to_uppercase(),
            100 + random.below(900)
        ),
        "name" => format!(
            "{}{}",
            random.of(&NAMES),
            random.of(&["", "-w", "-m", "-s", "-k"])
        ),
        "email" => format!("{}.{}%40example.com", random.of(&NAMES), random.of(&THINGS)),
        "word" => random.of(&THINGS).to_owned(),
        "country" => random.of(&["de", "fr", "it", "pl", "es", "nl"]).to_owned(),
        "report" => random
            .of(&["revenue", "returns", "stock", "visits"])
            .to_owned(),
        "slug" => format!(
            "{}-{}-{}",
            random.of(&COLOURS),
            random.of(&MATERIALS),
            random.of(&THINGS)
        ),
        "file" => format!(
            "{}-{}.{}",
            random.of(&THINGS),
            random.hex(6),
            random.of(&["csv", "txt", "png"])
        ),
        "asset" => format!(
            "{}.{}",
            random.of(&["app", "vendor", "runtime"]),
            random.hex(8)
        ),
        "text" => format!("{}%20{}", random.of(&COLOURS), random.of(&THINGS)),
        "few" => random.of(&METHODS[..5]).to_owned(),
        "method" => random.of(&METHODS).to_owned(),
        other => panic!("no such hole: {other}"),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let at = self.below(u64::try_from(texts.len()).unwrap());
        texts[usize::try_from(at).unwrap()]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| char::from_digit(u32::try_from(self.below(16)).unwrap(), 16).unwrap())
            .collect()
    }
}

const COLOURS: [&str; 12] = [
    "red", "green", "blue", "black", "white", "amber", "coral", "ivory", "olive", "pearl", "teal",
    "violet",
];
const MATERIALS: [&str; 10] = [
    "cotton", "linen", "wool", "silk", "oak", "steel", "glass", "paper", "leather", "bamboo",
];
const THINGS: [&str; 24] = [
    "shirt", "lamp", "table", "chair", "mug", "plate", "scarf", "jacket", "basket", "mirror",
    "vase", "carpet", "bottle", "candle", "clock", "curtain", "blanket", "pillow", "teapot",
    "wallet", "ribbon", "bucket", "ladder", "kettle",
];
const NAMES: [&str; 24] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "karl",
    "laura", "mallory", "nina", "oscar", "peggy", "quentin", "rupert", "sybil", "trent", "ursula",
    "victor", "walter", "yvonne",
];
const METHODS: [&str; 24] = [
    "Get",
    "List",
    "Create",
    "Update",
    "Delete",
    "Open",
    "Close",
    "Post",
    "Reverse",
    "Settle",
    "Freeze",
    "Thaw",
    "Export",
    "Import",
    "Balance",
    "Statement",
    "Transfer",
    "Approve",
    "Reject",
    "Split",
    "Merge",
    "Archive",
    "Restore",
    "Watch",
];
