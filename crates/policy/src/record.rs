//! The record of flows as a JSON document: what `meshctl flows -o json` prints and what is read offline.
//!
//! Invariant: what was read is what was written; a flow of which any part cannot be read refuses the whole document.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_identity::{DnsLabel, RuleName, ServiceName, ServicePort, SpiffeId};

use crate::flow::{Flow, FlowKey, FlowRequest, HeaderSeen, Judged};
use crate::fold::FoldedPath;
use crate::header::HeaderCondition;
use crate::request::Reason;

/// Flows, and what of the traffic is not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowRecord {
    #[serde(with = "flows")]
    pub flows: Vec<Flow>,
    /// Requests and connections that are in no flow.
    #[serde(default)]
    pub dropped: u64,
    /// Requests of which the path or the host is told less exactly than it could have been.
    #[serde(default)]
    pub folded: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FlowSpec {
    source: SpiffeId,
    service: ServiceName,
    port: DnsLabel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RequestSpec>,
    verdict: VerdictSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<RuleName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    count: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestSpec {
    method: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<FoldedPath>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<SeenSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgrade: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    connect: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeenSpec {
    condition: HeaderCondition,
    seen: HeaderSeenSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum HeaderSeenSpec {
    Matched,
    Differed,
    Absent,
    Many,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum VerdictSpec {
    Allowed,
    Learned,
    Denied,
}

mod flows {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Flow, FlowSpec};

    pub(super) fn serialize<S: Serializer>(
        flows: &[Flow],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(flows.iter().map(FlowSpec::from))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Flow>, D::Error> {
        Vec::<FlowSpec>::deserialize(deserializer)?
            .into_iter()
            .enumerate()
            .map(|(index, spec)| {
                Flow::try_from(spec)
                    .map_err(|problem| D::Error::custom(format!("flows[{index}]: {problem}")))
            })
            .collect()
    }
}

impl From<&Flow> for FlowSpec {
    fn from(flow: &Flow) -> Self {
        let (verdict, rule, reason) = match &flow.key.judged {
            Judged::Allowed(rule) => (VerdictSpec::Allowed, Some(rule.clone()), None),
            Judged::Learned(reason) => (VerdictSpec::Learned, None, Some(*reason)),
            Judged::Denied(reason) => (VerdictSpec::Denied, None, Some(*reason)),
        };
        Self {
            source: flow.key.source.clone(),
            service: flow.key.target.service.clone(),
            port: flow.key.target.port.clone(),
            request: flow.key.request.as_ref().map(RequestSpec::from),
            verdict,
            rule,
            reason,
            count: flow.count,
            first_seen: flow.first_seen,
            last_seen: flow.last_seen,
        }
    }
}

impl TryFrom<FlowSpec> for Flow {
    type Error = &'static str;

    fn try_from(spec: FlowSpec) -> Result<Self, &'static str> {
        let judged = match (spec.verdict, spec.rule, spec.reason) {
            (VerdictSpec::Allowed, Some(rule), None) => Judged::Allowed(rule),
            (VerdictSpec::Learned, None, Some(reason)) => Judged::Learned(reason),
            (VerdictSpec::Denied, None, Some(reason)) => Judged::Denied(reason),
            (VerdictSpec::Allowed, _, _) => return Err("what was allowed names its `rule` alone"),
            (VerdictSpec::Learned | VerdictSpec::Denied, _, _) => {
                return Err("what no rule allowed names its `reason` alone");
            }
        };
        if spec.count == 0 || spec.last_seen < spec.first_seen {
            return Err("`count` is at least 1 and `lastSeen` is not before `firstSeen`");
        }
        Ok(Self {
            key: FlowKey {
                source: spec.source,
                target: ServicePort {
                    service: spec.service,
                    port: spec.port,
                },
                request: spec.request.map(FlowRequest::try_from).transpose()?,
                judged,
            },
            count: spec.count,
            first_seen: spec.first_seen,
            last_seen: spec.last_seen,
        })
    }
}

impl From<&FlowRequest> for RequestSpec {
    fn from(request: &FlowRequest) -> Self {
        let headers = request.headers.iter();
        Self {
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            headers: headers
                .map(|(condition, seen)| SeenSpec {
                    condition: condition.clone(),
                    seen: match seen {
                        HeaderSeen::Matched => HeaderSeenSpec::Matched,
                        HeaderSeen::Differed => HeaderSeenSpec::Differed,
                        HeaderSeen::Absent => HeaderSeenSpec::Absent,
                        HeaderSeen::Many => HeaderSeenSpec::Many,
                    },
                })
                .collect(),
            upgrade: request.upgrade.clone(),
            connect: request.connect,
        }
    }
}

impl TryFrom<RequestSpec> for FlowRequest {
    type Error = &'static str;

    fn try_from(spec: RequestSpec) -> Result<Self, &'static str> {
        if spec.path.is_none() && !spec.connect {
            return Err("`path`: only a CONNECT has none");
        }
        let seen = |seen: SeenSpec| {
            let outcome = match seen.seen {
                HeaderSeenSpec::Matched => HeaderSeen::Matched,
                HeaderSeenSpec::Differed => HeaderSeen::Differed,
                HeaderSeenSpec::Absent => HeaderSeen::Absent,
                HeaderSeenSpec::Many => HeaderSeen::Many,
            };
            (seen.condition, outcome)
        };
        Ok(Self {
            method: spec.method,
            host: spec.host,
            path: spec.path,
            headers: spec.headers.into_iter().map(seen).collect(),
            upgrade: spec.upgrade,
            connect: spec.connect,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"flows":[{"source":"spiffe://weft.local/ns/shop/sa/web","service":"shop/api","port":"http","request":{"method":"GET","host":"api","path":"/orders/{number}","headers":[{"condition":{"name":"x-tier","exact":"gold"},"seen":"differed"}],"upgrade":"websocket"},"verdict":"learned","reason":"noRule","count":3,"firstSeen":"2026-11-28T10:00:00Z","lastSeen":"2026-11-29T10:00:00Z"},{"source":"spiffe://weft.local/ns/shop/sa/web","service":"shop/db","port":"sql","verdict":"allowed","rule":"shop/web-to-db","count":1,"firstSeen":"2026-11-28T10:00:00Z","lastSeen":"2026-11-28T10:00:00Z"}],"dropped":2,"folded":0}"#;

    #[test]
    fn what_is_written_is_what_was_read() {
        let record: FlowRecord = serde_json::from_str(RECORD).unwrap();
        assert_eq!(record.flows.len(), 2);
        assert_eq!(serde_json::to_string(&record).unwrap(), RECORD);
    }

    #[test]
    fn a_record_with_a_flow_that_cannot_be_is_refused_as_a_whole() {
        for (from, to) in [
            ("\"rule\":\"shop/web-to-db\"", "\"reason\":\"noRule\""),
            ("\"reason\":\"noRule\"", "\"rule\":\"shop/x\""),
            ("\"count\":1", "\"count\":0"),
            ("\"lastSeen\":\"2026-11-29", "\"lastSeen\":\"2026-11-27"),
            ("\"path\":\"/orders/{number}\",", ""),
            ("/orders/{number}", "/orders/../{number}"),
            ("\"dropped\"", "\"droped\""),
        ] {
            let text = RECORD.replacen(from, to, 1);
            assert_ne!(text, RECORD, "{from}");
            assert!(serde_json::from_str::<FlowRecord>(&text).is_err(), "{to}");
        }
    }
}
