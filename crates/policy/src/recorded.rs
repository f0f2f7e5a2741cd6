//! Flows as documents: what `meshctl flows -o json` prints, and what pipelines give back to `policy preview` and `policy suggest`.
//!
//! Invariant: reading is all or nothing, and what was written reads as the same flow.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_identity::{RuleName, ServicePort, SpiffeId};

use crate::flow::{Flow, FlowError, FlowHost, FlowKey, FlowRequest, HeaderSeen, Judged};
use crate::fold::FoldedPath;
use crate::header::HeaderCondition;
use crate::request::Reason;

/// One flow, as written in documents. Exactly one of `allowedBy`, `learned` and `denied` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowDocument {
    pub source: SpiffeId,
    pub target: ServicePort,
    /// Absent: a connection of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<RuleName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Reason>,
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestDocument {
    pub method: String,
    /// Absent: there was none, or `anyHost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The host was not kept apart from others.
    #[serde(default, skip_serializing_if = "is_no")]
    pub any_host: bool,
    /// Absent: a CONNECT, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<FoldedPath>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
    #[serde(default, skip_serializing_if = "is_no")]
    pub connect: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderDocument {
    pub condition: HeaderCondition,
    pub seen: SeenDocument,
}

/// [`HeaderSeen`] as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeenDocument {
    Matched,
    Differed,
    Absent,
    Many,
}

/// What the types of a document cannot refuse by themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowDocumentError {
    #[error("expected exactly one of `allowedBy`, `learned` and `denied`")]
    Verdict,
    #[error("a request has a `host` or `anyHost`, not both")]
    Host,
    #[error("`count` is 0, or `lastSeen` is before `firstSeen`")]
    Counted,
    #[error(transparent)]
    Flow(#[from] FlowError),
}

impl TryFrom<FlowDocument> for Flow {
    type Error = FlowDocumentError;

    fn try_from(document: FlowDocument) -> Result<Self, FlowDocumentError> {
        let judged = match (document.allowed_by, document.learned, document.denied) {
            (Some(rule), None, None) => Judged::Allowed(rule),
            (None, Some(reason), None) => Judged::Learned(reason),
            (None, None, Some(reason)) => Judged::Denied(reason),
            _ => return Err(FlowDocumentError::Verdict),
        };
        if document.count == 0 || document.last_seen < document.first_seen {
            return Err(FlowDocumentError::Counted);
        }
        Ok(Self {
            key: FlowKey {
                source: document.source,
                target: document.target,
                request: document.request.map(FlowRequest::try_from).transpose()?,
                judged,
            },
            count: document.count,
            first_seen: document.first_seen,
            last_seen: document.last_seen,
        })
    }
}

impl TryFrom<RequestDocument> for FlowRequest {
    type Error = FlowDocumentError;

    fn try_from(document: RequestDocument) -> Result<Self, FlowDocumentError> {
        let host = match (document.host, document.any_host) {
            (None, false) => FlowHost::None,
            (Some(host), false) => FlowHost::Named(host.into()),
            (None, true) => FlowHost::Folded,
            (Some(_), true) => return Err(FlowDocumentError::Host),
        };
        let headers = document.headers.into_iter();
        let request = Self {
            method: document.method.into(),
            host,
            path: document.path,
            headers: headers
                .map(|header| (header.condition, header.seen.into()))
                .collect(),
            upgrade: document.upgrade.map(Into::into),
            connect: document.connect,
        };
        request.check()?;
        Ok(request)
    }
}

impl From<&Flow> for FlowDocument {
    fn from(flow: &Flow) -> Self {
        let key = &flow.key;
        let (mut allowed_by, mut learned, mut denied) = (None, None, None);
        match &key.judged {
            Judged::Allowed(rule) => allowed_by = Some(rule.clone()),
            Judged::Learned(reason) => learned = Some(*reason),
            Judged::Denied(reason) => denied = Some(*reason),
        }
        Self {
            source: key.source.clone(),
            target: key.target.clone(),
            request: key.request.as_ref().map(RequestDocument::from),
            allowed_by,
            learned,
            denied,
            count: flow.count,
            first_seen: flow.first_seen,
            last_seen: flow.last_seen,
        }
    }
}

impl From<&FlowRequest> for RequestDocument {
    fn from(request: &FlowRequest) -> Self {
        let (host, any_host) = match &request.host {
            FlowHost::None => (None, false),
            FlowHost::Named(host) => (Some(host.to_string()), false),
            FlowHost::Folded => (None, true),
        };
        let headers = request.headers.iter();
        Self {
            method: request.method.to_string(),
            host,
            any_host,
            path: request.path.clone(),
            headers: headers
                .map(|(condition, seen)| HeaderDocument {
                    condition: condition.clone(),
                    seen: (*seen).into(),
                })
                .collect(),
            upgrade: request.upgrade.as_deref().map(str::to_owned),
            connect: request.connect,
        }
    }
}

impl From<SeenDocument> for HeaderSeen {
    fn from(seen: SeenDocument) -> Self {
        match seen {
            SeenDocument::Matched => Self::Matched,
            SeenDocument::Differed => Self::Differed,
            SeenDocument::Absent => Self::Absent,
            SeenDocument::Many => Self::Many,
        }
    }
}

impl From<HeaderSeen> for SeenDocument {
    fn from(seen: HeaderSeen) -> Self {
        match seen {
            HeaderSeen::Matched => Self::Matched,
            HeaderSeen::Differed => Self::Differed,
            HeaderSeen::Absent => Self::Absent,
            HeaderSeen::Many => Self::Many,
        }
    }
}

fn is_no(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
      "source": "spiffe://weft.local/ns/shop/sa/web", "target": "shop/api:http",
      "request": {"method": "GET", "host": "api.shop", "path": "/orders/{number}", "upgrade": "websocket",
        "headers": [{"condition": {"name": "x-tenant", "exact": "blue"}, "seen": "differed"}]},
      "allowedBy": "shop/web", "count": 3,
      "firstSeen": "2026-11-28T00:00:00Z", "lastSeen": "2026-11-29T00:00:00Z"}"#;

    fn read(text: &str) -> Result<Flow, String> {
        let document: FlowDocument =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        Flow::try_from(document).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_written_reads_as_the_same_flow() {
        let flow = read(FULL).unwrap();
        let written = serde_json::to_string(&FlowDocument::from(&flow)).unwrap();
        assert_eq!(read(&written).unwrap(), flow);
        let bytes = FULL.split("\"request\"").next().unwrap().to_owned()
            + "\"denied\": \"noRule\", \"count\": 1, \"firstSeen\": \"2026-11-28T00:00:00Z\", \"lastSeen\": \"2026-11-28T00:00:00Z\"}";
        assert_eq!(read(&bytes).unwrap().key.request, None);
    }

    #[test]
    fn what_says_more_or_less_than_a_flow_is_refused_as_a_whole() {
        for (from, to) in [
            ("\"count\": 3", "\"count\": 0"),
            ("\"count\": 3", "\"count\": 3, \"extra\": 1"),
            ("\"count\": 3", "\"count\": 3, \"denied\": \"noRule\""),
            ("\"allowedBy\": \"shop/web\", ", ""),
            ("2026-11-29", "2026-11-27"),
            ("api.shop", "API.shop"),
            ("\"upgrade\"", "\"anyHost\": true, \"upgrade\""),
            ("/orders/{number}", "/orders/../x"),
            ("\"path\": \"/orders/{number}\", ", ""),
        ] {
            let text = FULL.replace(from, to);
            assert_ne!(text, FULL);
            assert!(read(&text).is_err(), "{text}");
        }
    }
}
