//! An evaluator written from the numbered sentences of docs/POLICY.md alone: no index, no order of work but the sentences'.
//!
//! It can be told to disregard one sentence. Where that changes the answer, the sentence decided it.

use std::net::IpAddr;

use weft_policy::{HeaderTest, Reason};

use crate::case::{
    Answer, Case, ConditionText, RequestText, RuleText, SERVICE, TRUST_DOMAIN, Told,
};

/// Sentences and clauses that can decide, by number. The other sentences cannot: see [`SILENT`].
#[rustfmt::skip]
pub(crate) const DECIDING: [&str; 78] = [
    "1", "2", "2 at exactly expires", "3", "4", "5", "6 service", "6 ports", "7", "8", "9", "10", "11", "11 reported",
    "13", "14", "14 empty", "15", "16 foreign", "16 no workload", "17", "18", "19", "20 case", "20 HEAD",
    "21 case", "21 decoding", "22", "23 one", "23 empty", "24", "24 none", "25", "25 none", "27",
    "28 begins", "28 empty", "28 dots", "28 parameters", "28 parameters alone", "28 hexadecimal", "28 unreserved",
    "28 control", "28 slash", "28 bytes", "29", "29 divides", "30 port", "30 dot", "30 case", "31", "31 bare",
    "32", "34", "35", "36", "36 also without", "37",
    "45 method", "45 path", "45 any method", "45 form",
    "50", "50 at exactly that time", "51", "51 own", "52 bytes", "52 upgrades", "52 form", "53", "54",
    "72", "72 family", "72 mapped", "74 verified", "74 from", "75 form", "76",
];

/// Sentences that cannot decide a verdict, and why.
pub(crate) const SILENT: [(&str, &str); 7] = [
    (
        "12",
        "says what the source is: both are given it, and the handshake vouches for it",
    ),
    (
        "26",
        "about documents: a pattern that breaks it never becomes a rule",
    ),
    (
        "33",
        "about documents: a header that breaks it never becomes a condition",
    ),
    (
        "38",
        "about documents and sidecars: no rule can name h2c, no request still carries it",
    ),
    (
        "40",
        "about documents: it says how the sentences above are written",
    ),
    (
        "71",
        "says what a plaintext source is: both are given it as one, or as an identity",
    ),
    (
        "73",
        "about documents: a range that breaks it never becomes a rule",
    ),
];

pub(crate) struct Naive<'c> {
    case: &'c Case,
    disregarded: Option<&'static str>,
}

pub(crate) fn answer(case: &Case) -> Answer {
    answer_without(case, None)
}

pub(crate) fn answer_without(case: &Case, sentence: Option<&'static str>) -> Answer {
    let naive = Naive {
        case,
        disregarded: sentence,
    };
    Answer {
        verdict: naive.verdict(),
        audited: naive.audited(),
    }
}

impl Naive<'_> {
    fn heeds(&self, sentence: &str) -> bool {
        self.disregarded != Some(sentence)
    }

    fn verdict(&self) -> Told {
        match self.ruled() {
            // 53. What a rule allows passes by that rule.
            Ok(_) if !self.heeds("53") && self.learns() => Told::Learn(Reason::NoRule),
            Ok(rule) => Told::Allow(rule),
            // 51. Such a verdict names no rule, but the reason for which it would have been refused.
            Err(reason) if self.learns() && self.is_learned(reason) => Told::Learn(reason),
            Err(reason) => Told::Deny(reason),
        }
    }

    /// 50. A namespace learns until `learnUntil`.
    fn learns(&self) -> bool {
        let now = self.case.now;
        self.case.learn_until.is_some_and(|until| {
            // At exactly that time it is strict again.
            let is_over = if self.heeds("50 at exactly that time") {
                now >= until
            } else {
                now > until
            };
            !is_over || !self.heeds("50")
        })
    }

    /// Whether what is refused for this reason passes while the namespace learns.
    fn is_learned(&self, reason: Reason) -> bool {
        // 54. Everything else stays refused: Quarantine …
        if reason == Reason::Quarantined {
            return !self.heeds("54");
        }
        // 52. So do connections of bytes, upgrades and CONNECT, …
        let request = self.case.request.as_ref();
        let is_special = request.is_some_and(|it| it.connect || it.upgrade.is_some());
        // … and what only its form would refuse.
        let is_form = matches!(reason, Reason::PathNotCanonical | Reason::Malformed);
        if request.is_none() && !self.heeds("52 bytes")
            || is_special && !self.heeds("52 upgrades")
            || is_form && !self.heeds("52 form")
        {
            return false;
        }
        // 51. What no rule allows passes if its source is a workload of the own trust domain (as in sentence 15).
        let may = match &self.case.source {
            Some(_) => self.is_source("*") || !self.heeds("51 own"),
            // 76. Learn mode lets no plaintext source pass.
            None => !self.heeds("76"),
        };
        may && self.heeds("51")
    }

    /// What the rules alone say.
    fn ruled(&self) -> Result<String, Reason> {
        // 3. If either end of a connection is under Quarantine, everything on it is refused, whatever the rules.
        if self.heeds("3") && self.case.quarantined {
            return Err(Reason::Quarantined);
        }
        let on_port = self.rules(|rule| self.is_in_force(rule) && self.is_about(rule));
        let mut matching: Vec<_> = on_port
            .iter()
            .copied()
            .filter(|rule| self.has_source(rule))
            .collect();
        // 10. A source that no rule in force matches on the port is refused before the request is looked at.
        if self.heeds("10") && matching.is_empty() {
            return self.refused(Reason::NoRule);
        }
        if let Some(request) = &self.case.request
            && let Some(reason) = self.form_problem(&on_port, request)
        {
            return Err(reason);
        }
        // 4. Rules only add: their order never matters.
        if !self.heeds("4") {
            matching.truncate(1);
        }
        // 5. Where several rules allow, the first by `namespace/name` is the one that is named.
        let allowing = matching
            .iter()
            .filter(|rule| self.allows(rule))
            .map(|rule| &rule.name);
        let named = if self.heeds("5") {
            allowing.min()
        } else {
            allowing.max()
        };
        match named {
            Some(name) => Ok(name.clone()),
            None => self.refused(self.reason(&matching)),
        }
    }

    /// 1. What no rule in force allows is refused.
    fn refused(&self, reason: Reason) -> Result<String, Reason> {
        if self.heeds("1") {
            Err(reason)
        } else {
            Ok(String::new())
        }
    }

    /// Not a sentence: `upgradeNotAllowed` is said where the upgrade or CONNECT alone is in the way.
    fn reason(&self, matching: &[&RuleText]) -> Reason {
        let Some(request) = &self.case.request else {
            return Reason::NoRule;
        };
        let without = RequestText {
            upgrade: None,
            ..request.clone()
        };
        let conditions = || {
            matching
                .iter()
                .filter_map(|rule| rule.http.as_ref())
                .flatten()
        };
        let for_connect = request.connect && !matching.is_empty();
        let for_upgrade = request.upgrade.is_some()
            && conditions().any(|condition| self.meets(&without, condition));
        if for_connect || for_upgrade {
            Reason::UpgradeNotAllowed
        } else {
            Reason::NoRule
        }
    }

    /// 11. A rule in mode `Audit` grants nothing; that it would match is reported.
    fn audited(&self) -> Vec<String> {
        let unexpired =
            |rule: &RuleText| rule.audit && self.is_unexpired(rule) && self.heeds("11 reported");
        let matching =
            self.rules(|rule| unexpired(rule) && self.is_about(rule) && self.has_source(rule));
        let mut names: Vec<_> = matching
            .into_iter()
            .filter(|rule| self.allows(rule))
            .map(|rule| rule.name.clone())
            .collect();
        names.sort();
        names
    }

    fn rules(&self, wanted: impl Fn(&RuleText) -> bool) -> Vec<&RuleText> {
        self.case.rules.iter().filter(|rule| wanted(rule)).collect()
    }

    /// 2. A rule is in force at a time if its mode is `Enforce` and it has no `expires`, or the time is before `expires`.
    fn is_in_force(&self, rule: &RuleText) -> bool {
        // 11. A rule in mode `Audit` grants nothing and tightens nothing.
        (!self.heeds("11") || !rule.audit) && self.is_unexpired(rule)
    }

    fn is_unexpired(&self, rule: &RuleText) -> bool {
        let now = self.case.now;
        match rule.expires {
            None => true,
            Some(_) if !self.heeds("2") => true,
            // At exactly `expires` it is no longer in force.
            Some(expires) if !self.heeds("2 at exactly expires") => now <= expires,
            Some(expires) => now < expires,
        }
    }

    /// 6. A rule is about one service, and about the ports that it names; without `ports`, about all of them.
    fn is_about(&self, rule: &RuleText) -> bool {
        let service = rule.service == SERVICE || !self.heeds("6 service");
        let port = match &rule.ports {
            None => true,
            Some(ports) => ports.contains(&self.case.port) || !self.heeds("6 ports"),
        };
        service && port
    }

    /// 7. A rule matches a connection if its service, its ports and at least one of its sources match.
    fn has_source(&self, rule: &RuleText) -> bool {
        let from = rule.from.iter().map(|pattern| self.is_source(pattern));
        let addresses = rule.addresses.iter().map(|range| self.is_in(range));
        let mut matches = from.chain(addresses);
        if self.heeds("7") {
            matches.any(|it| it)
        } else {
            matches.all(|it| it)
        }
    }

    /// 72. `fromAddresses` matches a source whose address lies in one of its ranges.
    fn is_in(&self, range: &str) -> bool {
        // 74. `fromAddresses` matches plaintext sources only.
        if self.case.source.is_some() && self.heeds("74 verified") {
            return false;
        }
        let (network, length) = match range.split_once('/') {
            Some((network, length)) => (bits(network), length.parse().unwrap()),
            None => (bits(range), bits(range).len()),
        };
        let mut source = self.case.address;
        // 72. An IPv4-mapped address is judged as its IPv4 address.
        if let Some(mapped) = source.strip_prefix("::ffff:")
            && self.heeds("72 mapped")
        {
            source = mapped;
        }
        let source = bits(source);
        // 72. A range of IPv4 matches no IPv6 address, nor the other way round.
        let is_family = source.len() == network.len() || !self.heeds("72 family");
        let begins = if self.heeds("72") {
            source.starts_with(&network[..length])
        } else {
            source == network
        };
        is_family && begins
    }

    fn is_source(&self, pattern: &str) -> bool {
        // 74. `from` matches verified identities only: no `*` stands for a plaintext source.
        let Some(source) = self.case.source.as_deref() else {
            return pattern == "*" && !self.heeds("74 from");
        };
        // 17. A whole SPIFFE ID matches that identity only, of whichever trust domain.
        if pattern.starts_with("spiffe://") {
            return self.heeds("17") && pattern == source;
        }
        let Some((domain, path)) = source
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once('/'))
        else {
            return false;
        };
        let star = pattern.contains('*');
        // 16. No `*` ever matches an identity of another trust domain, …
        let own = domain == TRUST_DOMAIN || star && !self.heeds("16 foreign");
        let workload = match path.split('/').collect::<Vec<_>>()[..] {
            ["ns", namespace, "sa", name] if is_label(namespace) && is_label(name) => {
                Some(format!("{namespace}/{name}"))
            }
            _ => None,
        };
        let Some(workload) = workload else {
            // … nor one that is not a workload.
            return pattern == "*" && own && !self.heeds("16 no workload");
        };
        own && match pattern.strip_suffix('*') {
            // 15. `*` matches every workload of the own trust domain.
            Some("") => self.heeds("15"),
            // 14. `namespace/prefix*` matches the workloads of that namespace whose names begin so; the prefix may be empty.
            Some(prefix) if prefix.ends_with('/') => {
                self.heeds("14") && self.heeds("14 empty") && workload.starts_with(prefix)
            }
            Some(prefix) => self.heeds("14") && workload.starts_with(prefix),
            // 13. `namespace/name` matches that workload of the mesh's own trust domain.
            None => self.heeds("13") && workload == pattern,
        }
    }

    /// Whether a rule that matches the connection allows what is asked.
    fn allows(&self, rule: &RuleText) -> bool {
        let Some(conditions) = &rule.http else {
            // 8. A connection is allowed as a whole if a matching rule in force has no HTTP conditions.
            // 35. A rule without HTTP conditions allows upgrades and CONNECT.
            let special = |request: &RequestText| request.connect || request.upgrade.is_some();
            return self.heeds("35") || !self.case.request.as_ref().is_some_and(special);
        };
        let Some(request) = &self.case.request else {
            // 8. If only rules with HTTP conditions match, a connection that is not HTTP is refused.
            return !self.heeds("8");
        };
        // 9. A request is allowed if a rule has no HTTP conditions or has at least one that matches.
        let mut conditions = conditions.iter();
        if self.heeds("9") {
            conditions.any(|condition| self.meets(request, condition))
        } else {
            conditions.all(|condition| self.meets(request, condition))
        }
    }

    /// 18. A condition matches a request if every part that it states matches.
    fn meets(&self, request: &RequestText, condition: &ConditionText) -> bool {
        // 37. CONNECT and extended CONNECT match no HTTP condition.
        if self.heeds("37") && request.connect {
            return false;
        }
        // 19. A part that is not stated says nothing, except `upgrades`.
        let unstated = self.heeds("19");
        let (methods, paths) = self.methods_and_paths(condition);
        let hosts = condition.hosts.as_ref();
        let headers = condition.headers.as_ref();
        let parts = [
            methods.map(|methods| {
                methods
                    .iter()
                    .any(|method| self.is_method(method, request.method))
            }),
            paths.map(|paths| paths.iter().any(|path| self.is_path(path, &request.path))),
            hosts.map(|hosts| {
                hosts
                    .iter()
                    .any(|host| self.is_host(host, request.host.as_deref()))
            }),
            // 32. All header conditions of a condition must match.
            headers.map(|headers| {
                headers
                    .iter()
                    .all(|(name, test)| self.has_header(name, test, request))
            }),
        ];
        let upgrade = self.may_upgrade(condition.upgrades.as_deref(), request.upgrade);
        if self.heeds("18") {
            parts.into_iter().all(|part| part.unwrap_or(unstated)) && upgrade
        } else {
            parts.into_iter().any(|part| part == Some(true)) && upgrade
        }
    }

    // 45. `grpc` stands for `methods` and `paths`: `package.Service/Method` is a `POST` to `/package.Service/Method`,
    // `package.Service/*` a `POST` to any method of the service.
    fn methods_and_paths(
        &self,
        condition: &ConditionText,
    ) -> (Option<Vec<&'static str>>, Option<Vec<String>>) {
        let Some(named) = &condition.grpc else {
            return (condition.methods.clone(), condition.paths.clone());
        };
        let said = named
            .iter()
            .filter(|method| self.heeds("45 any method") || !method.ends_with("/*"));
        let paths = said.map(|method| format!("/{method}")).collect();
        (
            self.heeds("45 method").then(|| vec!["POST"]),
            self.heeds("45 path").then_some(paths),
        )
    }

    /// 20. A method matches if it is listed, in the same case. `GET` does not imply `HEAD`.
    fn is_method(&self, listed: &str, method: &str) -> bool {
        listed == method
            || !self.heeds("20 case") && listed.eq_ignore_ascii_case(method)
            || !self.heeds("20 HEAD") && listed == "GET" && method == "HEAD"
    }

    fn is_path(&self, pattern: &str, path: &str) -> bool {
        // 21. A path is compared as it stands, without decoding, and case matters.
        let as_compared = |text: &str| {
            let text = if self.heeds("21 decoding") {
                text.to_owned()
            } else {
                decoded(text)
            };
            if self.heeds("21 case") {
                text
            } else {
                text.to_lowercase()
            }
        };
        let (pattern, path) = (as_compared(pattern), as_compared(path));
        // 22. A pattern without `*` matches the one path that is equal to it; `/orders` is not `/orders/`.
        if !pattern.contains('*') {
            let bare = |text: &str| text.trim_end_matches('/').to_owned();
            return pattern == path || !self.heeds("22") && bare(&pattern) == bare(&path);
        }
        let pattern: Vec<_> = pattern.split('/').collect();
        let path: Vec<_> = path.split('/').collect();
        self.are_segments(&pattern, &path)
    }

    fn are_segments(&self, pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            // 25. `**` matches the rest, none included: `/orders/**` matches `/orders/` and all below it, but not `/orders`.
            (["**"], []) => !self.heeds("25"),
            (["**"], rest) => *rest != [""] || self.heeds("25 none"),
            ([], []) => true,
            ([], _) | (_, []) => false,
            ([wanted, pattern @ ..], [segment, path @ ..]) => {
                let more =
                    *wanted == "*" && !self.heeds("23 one") && self.are_segments(&["**"], path);
                self.is_segment(wanted, segment) && (self.are_segments(pattern, path) || more)
            }
        }
    }

    fn is_segment(&self, wanted: &str, segment: &str) -> bool {
        // 23. A segment that is `*` matches exactly one segment, which is not empty.
        if wanted == "*" {
            return !segment.is_empty() || !self.heeds("23 empty");
        }
        if !self.heeds("24") && wanted.contains('*') {
            return wanted == segment;
        }
        // 24. Within a segment, `*` matches any characters but `/`, none included.
        let wanted: Vec<_> = wanted.chars().collect();
        let segment: Vec<_> = segment.chars().collect();
        self.are_characters(&wanted, &segment)
    }

    fn are_characters(&self, wanted: &[char], found: &[char]) -> bool {
        match wanted {
            [] => found.is_empty(),
            ['*', rest @ ..] => {
                let least = usize::from(!self.heeds("24 none"));
                (least..=found.len()).any(|taken| self.are_characters(rest, &found[taken..]))
            }
            [one, rest @ ..] => {
                found.first() == Some(one) && self.are_characters(rest, &found[1..])
            }
        }
    }

    fn form_problem(&self, on_port: &[&RuleText], request: &RequestText) -> Option<Reason> {
        // 75. What rules for identities demand of the form of a request holds for a plaintext source, and the other way round.
        let concerns = |rule: &&&RuleText| {
            let is_alike = match self.case.source {
                Some(_) => !rule.from.is_empty(),
                None => !rule.addresses.is_empty(),
            };
            is_alike || self.heeds("75 form")
        };
        let conditions = || {
            on_port
                .iter()
                .filter(concerns)
                .filter_map(|rule| rule.http.as_ref())
                .flatten()
        };
        // 45. Sentences 20 to 29 hold for it as for any method and path.
        let has_paths = |condition: &ConditionText| {
            condition.paths.is_some() || condition.grpc.is_some() && self.heeds("45 form")
        };
        // 27. Where a rule in force for the port has a path condition, whoever its source is, a request whose path is not in canonical
        // form is refused with 400. (What CONNECT names is no path.)
        let has_path = !(request.connect && request.path.is_empty());
        let is_asked = has_path && conditions().any(has_paths);
        if is_asked && self.heeds("27") && !self.is_canonical(&request.path) {
            return Some(Reason::PathNotCanonical);
        }
        // 34. Where a rule in force for the port names a header, whoever its source is, a request that carries that header more than
        // once is refused with 400.
        let named = conditions()
            .filter_map(|condition| condition.headers.as_ref())
            .flatten();
        let mut counts = named.map(|(name, _)| values(request, name).len());
        (self.heeds("34") && counts.any(|count| count > 1)).then_some(Reason::Malformed)
    }

    /// 28. A path is in canonical form if all of this holds.
    fn is_canonical(&self, path: &str) -> bool {
        // it begins with `/`;
        if !path.starts_with('/') && self.heeds("28 begins") {
            return false;
        }
        // it has no control character, no space, no `\`, no `#` and no byte outside ASCII
        let is_bad = |byte: u8| byte.is_ascii_control() || b" \\#".contains(&byte) || byte >= 0x80;
        if path.bytes().any(is_bad) && self.heeds("28 bytes") {
            return false;
        }
        for escape in path.split('%').skip(1) {
            // each `%` is followed by two hexadecimal digits;
            let digits = escape
                .get(..2)
                .filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
            let Some(value) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                if self.heeds("28 hexadecimal") {
                    return false;
                }
                continue;
            };
            // these do not encode an unreserved character (letters, digits, `-`, `.`, `_`, `~`),
            if (value.is_ascii_alphanumeric() || b"-._~".contains(&value))
                && self.heeds("28 unreserved")
            {
                return false;
            }
            // a control character,
            if (value < 0x20 || value == 0x7f) && self.heeds("28 control") {
                return false;
            }
            // 29. If the service says `encodedSlashes: keep`, an encoded slash may stand in a path.
            let kept = value == b'/' && self.case.keep_slashes && self.heeds("29");
            // `/` or `\`;
            if b"/\\".contains(&value) && !kept && self.heeds("28 slash") {
                return false;
            }
        }
        // 29. It divides segments for sentence 28.
        let divided = if self.case.keep_slashes && self.heeds("29 divides") {
            path.replace("%2f", "/").replace("%2F", "/")
        } else {
            path.to_owned()
        };
        let segments: Vec<_> = divided.split('/').skip(1).collect();
        let last = segments.len().saturating_sub(1);
        !segments.iter().enumerate().any(|(place, segment)| {
            // the `;` of parameters may be encoded
            let segment = segment.replace("%3b", ";").replace("%3B", ";");
            let is_dots = |text: &str| text == "." || text == "..";
            match segment.split_once(';') {
                // no segment but the last is empty; no segment is `.` or `..`,
                None => {
                    segment.is_empty() && place != last && self.heeds("28 empty")
                        || is_dots(&segment) && self.heeds("28 dots")
                }
                // and no segment has parameters alone (`;x`);
                Some(("", _)) => self.heeds("28 parameters alone"),
                // also with parameters (`..;x`),
                Some((before, _)) => is_dots(before) && self.heeds("28 parameters"),
            }
        })
    }

    /// 30. A host is `Host` or `:authority` without its port and without a final dot; case does not matter.
    fn is_host(&self, pattern: &str, authority: Option<&str>) -> bool {
        // 31. A request without a host matches no host condition.
        let Some(authority) = authority else {
            return false;
        };
        let mut host = authority;
        if let Some((name, port)) = host.rsplit_once(':')
            && port.chars().all(|c| c.is_ascii_digit())
            && self.heeds("30 port")
        {
            host = name;
        }
        if self.heeds("30 dot") {
            host = host.strip_suffix('.').unwrap_or(host);
        }
        let alike = |text: &str| {
            if self.heeds("30 case") {
                text.to_lowercase()
            } else {
                text.to_owned()
            }
        };
        let (pattern, host) = (alike(pattern), alike(host));
        // 31. `*.` and a name matches the name with one label or more before it, never the bare name.
        match pattern.strip_prefix("*.") {
            Some(name) if self.heeds("31") => {
                let before = host
                    .strip_suffix(name)
                    .and_then(|before| before.strip_suffix('.'));
                before.is_some_and(|before| !before.is_empty())
                    || host == name && !self.heeds("31 bare")
            }
            // A host without `*` matches itself.
            _ => pattern == host,
        }
    }

    /// 32. `exact` matches the whole value, `prefix` its beginning; `present: true` matches any value. The name has no case.
    fn has_header(&self, name: &str, test: &HeaderTest, request: &RequestText) -> bool {
        let [value] = values(request, name)[..] else {
            return false;
        };
        match test {
            HeaderTest::Exact(exact) => {
                value == exact || !self.heeds("32") && value.starts_with(exact)
            }
            HeaderTest::Prefix(prefix) => {
                value.starts_with(prefix) && (self.heeds("32") || value == prefix)
            }
            HeaderTest::Present => self.heeds("32"),
        }
    }

    // 36. A request with `Upgrade` matches a condition only if the condition names every protocol that the request offers; case does
    // not matter. A condition that names upgrades also matches requests without `Upgrade`.
    fn may_upgrade(&self, named: Option<&[&str]>, offered: Option<&str>) -> bool {
        let Some(offered) = offered else {
            return named.is_none() || self.heeds("36 also without");
        };
        let named: Vec<_> = named
            .unwrap_or_default()
            .iter()
            .map(|name| name.to_lowercase())
            .collect();
        let offered = offered.to_lowercase();
        let mut offers = offered.split(',').map(|offer| offer.trim().to_owned());
        offers.all(|offer| named.contains(&offer)) || !self.heeds("36")
    }
}

fn values<'r>(request: &'r RequestText, name: &str) -> Vec<&'r str> {
    let headers = request.headers.iter();
    let named = headers.filter(|(other, _)| other.to_lowercase() == name.to_lowercase());
    named.map(|(_, value)| value.as_str()).collect()
}

/// An address as the text of its bits: 32 or 128.
fn bits(address: &str) -> String {
    match address.parse().unwrap() {
        IpAddr::V4(address) => format!("{:032b}", u32::from(address)),
        IpAddr::V6(address) => format!("{:0128b}", u128::from(address)),
    }
}

fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// `%xx` as what it stands for, where that is ASCII.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let value = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value.filter(u8::is_ascii) {
            Some(value) => {
                whole.push(char::from(value));
                whole.push_str(&part[2..]);
            }
            None => {
                whole.push('%');
                whole.push_str(part);
            }
        }
    }
    whole
}
