//! Compares what policy saw with what a back end read, and both with the table.

use std::collections::BTreeMap;

use serde_json::Value;

use super::backends::Record;
use super::lane::Lane;
use super::table::{Case, Rules, Wanted};

/// All that is known of one lane at the end.
pub(super) struct Heard {
    pub(super) lane: Lane,
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
    let cases = || cases.iter().filter(|case| case.rules == lane.rules);
    let wanted: Vec<Wanted> = cases().flat_map(Case::permitted).collect();
    let begun: Vec<&Wanted> = cases().filter_map(|case| case.begins.as_ref()).collect();
    let may_begin: Vec<String> = begun.iter().map(|begun| seen_by_policy(begun)).collect();
    let permitted = heard
        .permitted
        .iter()
        .map(|(method, path)| (path, format!("{method} {path}")));
    let delivered: Vec<Wanted> = cases().flat_map(|case| case.delivered(lane.to)).collect();
    let turned_down = cases()
        .filter(|case| case.except.contains(&lane.to))
        .count();

    let mut problems = differences(
        "policy permitted",
        wanted
            .iter()
            .map(|wanted| (&wanted.target, seen_by_policy(wanted))),
        permitted.filter(|(_, text)| !may_begin.contains(text)),
    );
    let whole = || heard.records.iter().filter(|record| record.complete);
    problems.extend(differences(
        "the back end read",
        delivered.iter().map(|wanted| {
            (
                &wanted.target,
                line(&wanted.method, &wanted.target, wanted.length, &wanted.host),
            )
        }),
        whole().map(|record| {
            (
                &record.target,
                line(&record.method, &record.target, record.length, &record.host),
            )
        }),
    ));

    let mut unreadable = 0;
    for record in &heard.records {
        let mut permitted = wanted.iter().chain(begun.iter().copied());
        let is_permitted = permitted
            .any(|wanted| wanted.method == record.method && wanted.target == record.target);
        if record.method.is_empty() || record.target.is_empty() {
            unreadable += 1;
        } else if !record.complete && !is_permitted {
            problems.push(format!(
                "the back end read a part of what nobody permitted: {record:?}"
            ));
        }
        if record.complete {
            problems.extend(odd(record, lane).map(|what| format!("{what}: {record:?}")));
        }
    }
    if unreadable > turned_down {
        problems.push(format!(
            "{unreadable} times the back end could not read a request: {:?}",
            heard.records
        ));
    }
    let name = |mark: &str| {
        cases()
            .find(|case| mark.contains(&case.mark))
            .map_or("", |case| &case.name)
            .to_owned()
    };
    problems
        .iter()
        .map(|problem| format!("{}: {}: {problem}", lane.service(), name(problem)))
        .collect()
}

/// Groups both sides by the mark of their case, and tells where they differ.
fn differences<'t>(
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
            found.push(format!("{mark}: {what} {got:?}, not {wanted:?}"));
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

fn line(method: &str, target: &str, length: u64, host: &str) -> String {
    format!("{method} {target} {length} {host}")
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
