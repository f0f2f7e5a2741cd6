//! One concrete connection or request that is recorded as a given flow, so that the evaluator itself can judge it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::{Flow, FlowHost, FlowRequest, HeaderSeen};
use crate::header::{HeaderCondition, HeaderTest};
use crate::request::{Connection, HeaderLookup, HeaderValue, HttpRequest, Reason, Verdict};
use crate::rule::Rule;
use crate::set::PolicySet;
use crate::sources::Source;

/// What the rules of a set say of a flow. Quarantine is not looked at, and what only learning lets pass is no rule's.
pub(crate) fn verdict_of<'s>(
    set: &'s PolicySet,
    flow: &Flow,
    now: Timestamp,
) -> Result<&'s Arc<Rule>, Reason> {
    let connection = Connection {
        source: Source::Identity(&flow.key.source),
        port: &flow.key.target.port,
        quarantined: false,
    };
    let Some(recorded) = &flow.key.request else {
        return ruled(set.decide_bytes(&connection, now));
    };
    let path = path_of(recorded);
    let headers = Recorded::of(recorded);
    let request = HttpRequest {
        method: &recorded.method,
        path: &path,
        authority: host_of(recorded),
        headers: &headers,
        upgrade: recorded.upgrade.as_deref(),
        connect: recorded.connect,
    };
    ruled(set.decide_request(&connection, &request, now))
}

/// What passes only while its namespace learns is what no rule allows.
fn ruled(verdict: Verdict<'_>) -> Result<&Arc<Rule>, Reason> {
    match verdict {
        Verdict::Allow(rule) => Ok(rule),
        Verdict::Learn(reason) | Verdict::Deny(reason) => Err(reason),
    }
}

/// The host, where one is recorded by its name.
pub(super) fn host_of(request: &FlowRequest) -> Option<&str> {
    match &request.host {
        FlowHost::Named(host) => Some(host),
        FlowHost::None | FlowHost::Folded => None,
    }
}

pub(super) fn path_of(request: &FlowRequest) -> String {
    match &request.path {
        None => String::new(),
        Some(path) => path.instance().unwrap_or_else(|| NOT_CANONICAL.to_owned()),
    }
}

/// Headers as far as rules asked for them: those that no rule named were not recorded and are absent.
struct Recorded(Vec<Header>);

struct Header {
    name: String,
    value: Value,
}

enum Value {
    One(Vec<u8>),
    Many,
}

impl Recorded {
    fn of(request: &FlowRequest) -> Self {
        let mut headers = Vec::<Header>::new();
        for (condition, _) in &request.headers {
            let name = condition.name.as_str();
            if headers.iter().any(|header| header.name == name) {
                continue;
            }
            if let Some(value) = value_of(name, &request.headers) {
                headers.push(Header {
                    name: name.to_owned(),
                    value,
                });
            }
        }
        Self(headers)
    }
}

impl HeaderLookup for Recorded {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        match self.0.iter().find(|header| header.name == name) {
            None => HeaderValue::Absent,
            Some(header) => match &header.value {
                Value::One(value) => HeaderValue::One(value),
                Value::Many => HeaderValue::Many,
            },
        }
    }
}

/// A value of which every condition came out as it is recorded; `None`: there was none.
fn value_of(name: &str, seen: &[(HeaderCondition, HeaderSeen)]) -> Option<Value> {
    let about = || {
        seen.iter()
            .filter(|(condition, _)| condition.name.as_str() == name)
    };
    if about().any(|(_, outcome)| *outcome == HeaderSeen::Many) {
        return Some(Value::Many);
    }
    if about().all(|(_, outcome)| *outcome == HeaderSeen::Absent) {
        return None;
    }
    let mut candidates = vec![UNLIKELY.to_owned()];
    for (condition, outcome) in about() {
        match (&condition.test, outcome) {
            (HeaderTest::Exact(value), HeaderSeen::Matched) => candidates.push(value.clone()),
            (HeaderTest::Prefix(prefix), HeaderSeen::Matched) => {
                candidates.push(format!("{prefix}{UNLIKELY}"));
                candidates.push(prefix.clone());
            }
            (HeaderTest::Exact(_) | HeaderTest::Prefix(_) | HeaderTest::Present, _) => {}
        }
    }
    let fits = |value: &&String| {
        about().all(|(condition, outcome)| {
            let lookup = vec![(name.to_owned(), (*value).clone())];
            condition.matches(&lookup) == (*outcome == HeaderSeen::Matched)
        })
    };
    let value = candidates.iter().find(fits).or(candidates.last())?;
    Some(Value::One(value.clone().into_bytes()))
}

/// What nobody is likely to have spelt out in a rule.
const UNLIKELY: &str = "x0q1z2y3";
/// Has an empty segment.
const NOT_CANONICAL: &str = "/x//x";
