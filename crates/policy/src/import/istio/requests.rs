//! What a rule of Istio allows to be sent: an `operation` and the conditions on headers, as conditions of ours.

use super::{Condition, Key, Operation};
use crate::{
    header::{HeaderCondition, HeaderTest},
    http::Method,
    import::{
        grants::{Requests, known_methods},
        meta::Holds,
        notes::{NoteKind, Notes},
        paths::PathTest,
        text::{Part, TextTest, Texts},
    },
    path::PathPattern,
};

/// The requests of an operation; none where nothing of it can be said.
pub(super) fn allowed(
    operation: &Operation,
    when: &[Condition],
    notes: &mut Notes,
    path: &str,
) -> Vec<Requests> {
    let Some(methods) = methods(operation, notes, path) else {
        return Vec::new();
    };
    let Some(paths) = paths(operation, notes, path) else {
        return Vec::new();
    };
    if !hosts_are_any(operation, notes, path) {
        return Vec::new();
    }
    let requests = Requests {
        methods,
        paths,
        hosts: None,
        headers: Vec::new(),
        http_only: operation.is_http(),
    };
    with_headers(requests, when, notes, path)
}

/// `Some(None)` is any method.
fn methods(operation: &Operation, notes: &mut Notes, path: &str) -> Option<Option<Vec<Method>>> {
    let texts = Texts::new(&operation.methods, &operation.not_methods);
    if texts.none_of.is_empty()
        && (texts.any_of.is_empty() || texts.any_of.contains(&TextTest::Present))
    {
        return Some(None);
    }
    let mut listed = Vec::new();
    for test in &texts.any_of {
        match test {
            TextTest::Exact(method) => match method.parse() {
                Ok(method) => listed.push(method),
                Err(error) => notes.add(
                    NoteKind::Method,
                    format!("{path}.methods"),
                    format!("left out: {error}"),
                ),
            },
            TextTest::Prefix(_) | TextTest::Suffix(_) | TextTest::Present | TextTest::Unclear => {
                listed.extend(
                    known_methods()
                        .into_iter()
                        .filter(|method| passes(test, method)),
                );
                note_listed(notes, &format!("{path}.methods"));
            }
        }
    }
    if texts.any_of.is_empty() {
        listed = known_methods();
        note_listed(notes, &format!("{path}.notMethods"));
    }
    let excluded = |method: &Method| {
        Holds::any(
            texts
                .none_of
                .iter()
                .map(|test| test.holds(&Part::Whole(method.as_str().to_owned()))),
        )
    };
    listed.retain(|method| excluded(method) == Holds::No);
    let mut seen = std::collections::HashSet::new();
    listed.retain(|method| seen.insert(method.clone()));
    (!listed.is_empty()).then_some(Some(listed))
}

fn passes(test: &TextTest, method: &Method) -> bool {
    test.holds(&Part::Whole(method.as_str().to_owned())) == Holds::Yes
}

fn note_listed(notes: &mut Notes, path: &str) {
    notes.add(NoteKind::Method, path, "rules list methods: the well-known ones that this means are listed, others are not allowed");
}

/// `Some(None)` is any path.
fn paths(operation: &Operation, notes: &mut Notes, path: &str) -> Option<Option<Vec<PathPattern>>> {
    let excluded: Vec<PathTest> = operation
        .not_paths
        .iter()
        .map(|text| PathTest::new(text))
        .collect();
    if operation.paths.is_empty() {
        if excluded.is_empty() {
            return Some(None);
        }
        let path = format!("{path}.notPaths");
        notes.add(NoteKind::Path, path, "a rule names the paths that it allows; `notPaths` alone has no equal, so this is left out");
        return None;
    }
    let mut listed = Vec::new();
    for text in &operation.paths {
        match PathTest::new(text).to_patterns() {
            Some(patterns) => listed.extend(patterns),
            None => notes.add(
                NoteKind::Path,
                format!("{path}.paths"),
                format!("no pattern matches the same as `{text}`, so it is left out"),
            ),
        }
    }
    listed.retain(|pattern| {
        let found = Holds::any(excluded.iter().map(|test| test.holds(pattern)));
        if found == Holds::Unknown {
            notes.add(
                NoteKind::Path,
                format!("{path}.notPaths"),
                format!("`{pattern}` is left out, for some of what it matches is excluded"),
            );
        }
        found == Holds::No
    });
    (!listed.is_empty()).then_some(Some(listed))
}

/// Istio compares `Host` with its port and its final dot, we without: what looks the same would match more.
fn hosts_are_any(operation: &Operation, notes: &mut Notes, path: &str) -> bool {
    let any = operation.hosts.is_empty() || operation.hosts.iter().any(|host| host == "*");
    if any && operation.not_hosts.is_empty() {
        return true;
    }
    notes.add(
        NoteKind::Host,
        format!("{path}.hosts"),
        "the source compares `Host` with its port and final dot, a rule without them and would match more, so this is left out; add `hosts` by hand where that is meant",
    );
    false
}

/// A header's values are alternatives, and each condition must hold.
fn with_headers(
    requests: Requests,
    when: &[Condition],
    notes: &mut Notes,
    path: &str,
) -> Vec<Requests> {
    let mut all = vec![requests];
    for condition in when {
        let Key::Header(name) = &condition.key else {
            continue;
        };
        let alternatives = header(name, condition, notes, path);
        let with = |requests: &Requests, header: &HeaderCondition| {
            let mut requests = requests.clone();
            requests.headers.push(header.clone());
            requests.http_only = true;
            requests
        };
        all = all
            .iter()
            .flat_map(|requests| {
                alternatives
                    .iter()
                    .map(move |header| with(requests, header))
            })
            .collect();
        if all.len() > ALTERNATIVES_LIMIT {
            notes.add(
                NoteKind::TooComplex,
                path,
                "too many alternatives of headers, so this is left out",
            );
            return Vec::new();
        }
    }
    all
}

fn header(
    name: &str,
    condition: &Condition,
    notes: &mut Notes,
    path: &str,
) -> Vec<HeaderCondition> {
    let path = format!("{path}.when: request.headers[{name}]");
    let name = match name.parse() {
        Ok(name) => name,
        Err(error) => {
            notes.add(NoteKind::Header, path, format!("left out: {error}"));
            return Vec::new();
        }
    };
    let texts = Texts::new(&condition.values, &condition.not_values);
    if texts.any_of.is_empty() {
        notes.add(NoteKind::Header, path, "a rule names the values that it allows; `notValues` alone has no equal, so this is left out");
        return Vec::new();
    }
    let mut conditions = Vec::new();
    for test in &texts.any_of {
        let (test, part) = match test {
            TextTest::Exact(value) => {
                (HeaderTest::Exact(value.clone()), Part::Whole(value.clone()))
            }
            TextTest::Prefix(prefix) => (
                HeaderTest::Prefix(prefix.clone()),
                Part::Begins(prefix.clone()),
            ),
            TextTest::Suffix(_) | TextTest::Unclear => {
                notes.add(
                    NoteKind::Header,
                    &path,
                    "no condition asks how a value ends, so this is left out",
                );
                continue;
            }
            TextTest::Present => {
                notes.add(NoteKind::Header, &path, "`*` is a value that is not empty; `present` would also match an empty one, so this is left out");
                continue;
            }
        };
        let excluded = Holds::any(texts.none_of.iter().map(|test| test.holds(&part)));
        if excluded == Holds::No {
            conditions.push(HeaderCondition {
                name: crate::header::HeaderName::clone(&name),
                test,
            });
        } else if excluded == Holds::Unknown {
            notes.add(
                NoteKind::Header,
                &path,
                "a prefix of which some values are excluded is left out",
            );
        }
    }
    conditions
}

const ALTERNATIVES_LIMIT: usize = 64;
