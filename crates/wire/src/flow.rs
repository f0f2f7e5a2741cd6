//! Flows: judged traffic, as sidecars report it and operators read it.
//!
//! Invariant: what was read says no more than rules can ask; a flow of which any part is not that is refused as a whole.

use jiff::Timestamp;
use weft_identity::ServicePort;
use weft_policy::{
    Flow, FlowError, FlowHost, FlowKey, FlowRequest, HeaderCondition, HeaderSeen, Judged, Reason,
};

use crate::error::{At, ConversionError, Problem, each, required};
use crate::rule::{read_header, write_header};
use crate::time::{read_timestamp, write_timestamp};
use crate::v1;
use crate::verdict::read_reason;

impl TryFrom<&v1::Flow> for Flow {
    type Error = ConversionError;

    fn try_from(message: &v1::Flow) -> Result<Self, ConversionError> {
        let (first_seen, last_seen) = (
            read_moment(&message.first_seen, "firstSeen")?,
            read_moment(&message.last_seen, "lastSeen")?,
        );
        if message.count == 0 {
            return Err(Problem::Missing).at("count");
        }
        if last_seen < first_seen {
            return Err(Problem::Timestamp).at("lastSeen");
        }
        Ok(Self {
            key: FlowKey {
                source: message.source.parse().map_err(Problem::Name).at("source")?,
                target: ServicePort {
                    service: message
                        .service
                        .parse()
                        .map_err(Problem::Name)
                        .at("service")?,
                    port: message.port.parse().map_err(Problem::Name).at("port")?,
                },
                request: match required(&message.traffic, "traffic")? {
                    v1::flow::Traffic::Connection(v1::Any {}) => None,
                    v1::flow::Traffic::Request(request) => {
                        Some(read_request(request).at("request")?)
                    }
                },
                judged: read_judged(required(&message.judged, "judged")?)?,
            },
            count: message.count,
            first_seen,
            last_seen,
        })
    }
}

impl From<&Flow> for v1::Flow {
    fn from(flow: &Flow) -> Self {
        let key = &flow.key;
        let traffic = match &key.request {
            None => v1::flow::Traffic::Connection(v1::Any {}),
            Some(request) => v1::flow::Traffic::Request(request.into()),
        };
        let reason = |reason: Reason| v1::Reason::from(reason).into();
        let judged = match &key.judged {
            Judged::Allowed(rule) => v1::flow::Judged::Allowed(rule.to_string()),
            Judged::Learned(why) => v1::flow::Judged::Learned(reason(*why)),
            Judged::Denied(why) => v1::flow::Judged::Denied(reason(*why)),
        };
        Self {
            source: key.source.to_string(),
            service: key.target.service.to_string(),
            port: key.target.port.to_string(),
            traffic: Some(traffic),
            judged: Some(judged),
            count: flow.count,
            first_seen: Some(write_timestamp(flow.first_seen)),
            last_seen: Some(write_timestamp(flow.last_seen)),
        }
    }
}

impl From<&FlowRequest> for v1::FlowRequest {
    fn from(request: &FlowRequest) -> Self {
        let any = || v1::Any {};
        let host = match &request.host {
            FlowHost::None => v1::flow_request::Host::NoHost(any()),
            FlowHost::Named(name) => v1::flow_request::Host::NamedHost(name.to_string()),
            FlowHost::Folded => v1::flow_request::Host::AnyHost(any()),
        };
        let path = match &request.path {
            None => v1::flow_request::Path::NoPath(any()),
            Some(path) => v1::flow_request::Path::FoldedPath(path.to_string()),
        };
        let headers = request.headers.iter();
        Self {
            method: request.method.to_string(),
            host: Some(host),
            path: Some(path),
            headers: headers
                .map(|(condition, seen)| v1::FlowHeader {
                    condition: Some(write_header(condition)),
                    seen: v1::HeaderSeen::from(*seen).into(),
                })
                .collect(),
            upgrade: request.upgrade.as_deref().unwrap_or_default().to_owned(),
            connect: request.connect,
        }
    }
}

fn read_request(request: &v1::FlowRequest) -> Result<FlowRequest, ConversionError> {
    let read = FlowRequest {
        method: request.method.as_str().into(),
        host: match required(&request.host, "host")? {
            v1::flow_request::Host::NoHost(v1::Any {}) => FlowHost::None,
            v1::flow_request::Host::NamedHost(name) => FlowHost::Named(name.as_str().into()),
            v1::flow_request::Host::AnyHost(v1::Any {}) => FlowHost::Folded,
        },
        path: match required(&request.path, "path")? {
            v1::flow_request::Path::NoPath(v1::Any {}) => None,
            v1::flow_request::Path::FoldedPath(path) => Some(path.parse().at("foldedPath")?),
        },
        headers: each(&request.headers, "headers", read_flow_header)?,
        upgrade: (!request.upgrade.is_empty()).then(|| request.upgrade.as_str().into()),
        connect: request.connect,
    };
    read.check().map_err(|error| {
        let field = match error {
            FlowError::Method => "method",
            FlowError::Host => "namedHost",
            FlowError::Upgrade => "upgrade",
            FlowError::Headers => "headers",
            FlowError::Path => "noPath",
        };
        ConversionError::from(Problem::Flow(error)).under(field)
    })?;
    Ok(read)
}

fn read_flow_header(
    header: &v1::FlowHeader,
) -> Result<(HeaderCondition, HeaderSeen), ConversionError> {
    let condition = read_header(required(&header.condition, "condition")?).at("condition")?;
    Ok((condition, read_seen(header.seen).at("seen")?))
}

fn read_seen(value: i32) -> Result<HeaderSeen, Problem> {
    match v1::HeaderSeen::try_from(value).map_err(|_| Problem::UnknownValue(value))? {
        v1::HeaderSeen::Unspecified => Err(Problem::Missing),
        v1::HeaderSeen::Matched => Ok(HeaderSeen::Matched),
        v1::HeaderSeen::Differed => Ok(HeaderSeen::Differed),
        v1::HeaderSeen::Absent => Ok(HeaderSeen::Absent),
        v1::HeaderSeen::Many => Ok(HeaderSeen::Many),
    }
}

impl From<HeaderSeen> for v1::HeaderSeen {
    fn from(seen: HeaderSeen) -> Self {
        match seen {
            HeaderSeen::Matched => Self::Matched,
            HeaderSeen::Differed => Self::Differed,
            HeaderSeen::Absent => Self::Absent,
            HeaderSeen::Many => Self::Many,
        }
    }
}

fn read_judged(judged: &v1::flow::Judged) -> Result<Judged, ConversionError> {
    match judged {
        v1::flow::Judged::Allowed(rule) => rule
            .parse()
            .map(Judged::Allowed)
            .map_err(Problem::Name)
            .at("allowed"),
        v1::flow::Judged::Learned(reason) => {
            read_reason(*reason).map(Judged::Learned).at("learned")
        }
        v1::flow::Judged::Denied(reason) => read_reason(*reason).map(Judged::Denied).at("denied"),
    }
}

fn read_moment(
    time: &Option<prost_types::Timestamp>,
    name: &str,
) -> Result<Timestamp, ConversionError> {
    read_timestamp(required(time, name)?).at(name)
}
