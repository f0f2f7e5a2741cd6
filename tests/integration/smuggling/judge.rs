//! Compares what policy saw with what a back end read, and both with the table.

use std::collections::BTreeMap;

use serde_json::Value;

use super::backends::Record;
use super::lane::Lane;
use super::table::{Case, Rules, Wanted};

/// All that is known of one lane at the end.
pub(super) struct Heard {
    pub(super) lane: Lane,
    /// The marks of the cases after which the connection went on.
    pub(super) went_on: Vec<String>,
    /// Method and path of each request that the server side let through.
    pub(super) permitted: Vec<(String, String)>,
    pub(super) records: Vec<Record>,
}

/// What the server sidecar's access log says it permitted on this lane.
pub(super) fn permitted(log: &str, lane: Lane) -> Vec<(String, String)> {
    let target = lane.target();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let field = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    lines
        .filter(|line| {
            line["target"] == "access" && line["side"] == "server" && line["service"] == target
        })
        .filter(|line| {
            !field(line, "rule").is_empty() && line.get("decision").is_none_or(Value::is_null)
        })
        .map(|line| (field(&line, "method"), field(&line, "path")))
        .collect()
}

pub(super) fn compare(cases: &[Case], heard: &Heard) -> Vec<String> {
    let lane = heard.lane;
    let cases: Vec<&Case> = cases
        .iter()
        .filter(|case| case.rules == lane.rules)
        .collect();
    let mut problems = of_policy(&cases, heard);
    problems.extend(of_whole_requests(&cases, heard));
    problems.extend(of_the_rest(&cases, heard));
    problems
        .iter()
        .map(|problem| format!("{}: {problem}", lane.service()))
        .collect()
}

/// Where policy permitted something else than the table says.
fn of_policy(cases: &[&Case], heard: &Heard) -> Vec<String> {
    let wanted: Vec<Wanted> = cases
        .iter()
        .flat_map(|case| case.permitted(heard.went_on(case)))
        .collect();
    let begins = cases.iter().filter_map(|case| case.begins.as_ref());
    let begins: Vec<String> = begins.map(seen_by_policy).collect();
    let permitted = heard
        .permitted
        .iter()
        .map(|(method, path)| (path, format!("{method} {path}")));
    differences(
        cases,
        "policy permitted",
        wanted
            .iter()
            .map(|wanted| (&wanted.target, seen_by_policy(wanted))),
        permitted.filter(|(_, text)| !begins.contains(text)),
    )
}

/// Where the back end read something else than the table says.
fn of_whole_requests(cases: &[&Case], heard: &Heard) -> Vec<String> {
    let to = heard.lane.to;
    let wanted: Vec<Wanted> = cases
        .iter()
        .flat_map(|case| case.delivered(heard.went_on(case), to))
        .collect();
    let line = |method: &str, target: &str, length: u64, host: &str| {
        format!("{method} {target} {length} {host}")
    };
    let whole = heard.records.iter().filter(|record| record.complete);
    let mut found = differences(
        cases,
        "the back end read",
        wanted.iter().map(|wanted| {
            (
                &wanted.target,
                line(&wanted.method, &wanted.target, wanted.length, &wanted.host),
            )
        }),
        whole.clone().map(|record| {
            (
                &record.target,
                line(&record.method, &record.target, record.length, &record.host),
            )
        }),
    );
    for record in whole {
        found.extend(odd(record, heard.lane).map(|what| format!("{what}: {record:?}")));
    }
    found
}

/// What the back end read in part, or could not read, that is not explained by the table.
fn of_the_rest(cases: &[&Case], heard: &Heard) -> Vec<String> {
    let explained = |record: &&Record| {
        let mut wanted = cases
            .iter()
            .flat_map(|case| case.passes.iter().chain(&case.begins));
        wanted.any(|wanted| wanted.method == record.method && wanted.target == record.target)
    };
    let parts = heard.records.iter().filter(|record| !record.complete);
    let (unreadable, parts): (Vec<&Record>, Vec<&Record>) =
        parts.partition(|record| record.method.is_empty() || record.target.is_empty());
    let parts = parts.into_iter().filter(|record| !explained(record));
    let mut found: Vec<String> = parts
        .map(|record| format!("the back end read a part of what nobody permitted: {record:?}"))
        .collect();
    let turned_down = cases
        .iter()
        .filter(|case| case.except.contains(&heard.lane.to))
        .count();
    if unreadable.len() > turned_down {
        found.push(format!(
            "the back end could not read a request: {unreadable:?}"
        ));
    }
    found
}

impl Heard {
    fn went_on(&self, case: &Case) -> bool {
        self.went_on.contains(&case.mark)
    }
}

/// Groups both sides by the mark of their case, and tells where they differ.
fn differences<'t>(
    cases: &[&Case],
    what: &str,
    wanted: impl Iterator<Item = (&'t String, String)>,
    got: impl Iterator<Item = (&'t String, String)>,
) -> Vec<String> {
    let mut groups: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    for (target, text) in wanted {
        groups.entry(mark(target)).or_default()[0].push(text);
    }
    for (target, text) in got {
        groups.entry(mark(target)).or_default()[1].push(text);
    }
    let mut found = Vec::new();
    for (mark, [mut wanted, mut got]) in groups {
        wanted.sort();
        got.sort();
        if wanted != got {
            let name = cases
                .iter()
                .find(|case| case.mark == mark)
                .map_or("", |case| &case.name);
            found.push(format!("{name} ({mark}): {what} {got:?}, not {wanted:?}"));
        }
    }
    found
}

/// `case-NNN` where it stands in the text, else nothing: such requests are compared all together.
fn mark(target: &str) -> String {
    let at = target.find("case-");
    at.and_then(|at| target.get(at..at + 8))
        .unwrap_or_default()
        .to_owned()
}

/// What the access log says of a request: without the query, and escaped.
fn seen_by_policy(wanted: &Wanted) -> String {
    let path = wanted.target.split('?').next().unwrap_or_default();
    format!("{} {}", wanted.method.escape_debug(), path.escape_debug())
}

/// What is wrong with a request that arrived, whatever was sent.
fn odd(record: &Record, lane: Lane) -> Option<&'static str> {
    let path = record.target.split('?').next().unwrap_or_default();
    let callers = &record.callers;
    if !callers.starts_with("By=") || !callers.ends_with(CALLER) || callers.contains(',') {
        return Some("the caller is not told as the sidecar tells it");
    }
    if record.framings > 1 {
        return Some("two headers say where the content ends");
    }
    if lane.rules == Rules::Paths && record.path != decoded(path) {
        return Some("the back end reads another path than policy");
    }
    None
}

/// Percent-decoded once, and nothing else changed.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = path_escape(rest);
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn path_escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digits = [*high, *low];
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

const CALLER: &str = ";URI=spiffe://test.example/ns/shop/sa/web";
