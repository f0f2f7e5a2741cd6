//! Pages of flows for operators. Each looks at a bounded part of the record, so that no question holds up the others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use tonic::Status;
use weft_identity::{DnsLabel, ServiceName, SpiffeId, TrustDomain, WorkloadName};
use weft_wire::{read_optional_timestamp, v1};

use crate::store::{Reader, StoreError};

/// What an operator asks for.
pub(super) struct Asked {
    source: Option<SpiffeId>,
    service: Option<ServiceName>,
    namespace: Option<DnsLabel>,
    verdict: v1::FlowVerdict,
    since: Option<Timestamp>,
    size: usize,
    /// The last row that was looked at.
    after: Option<Vec<u8>>,
}

impl Asked {
    pub(super) fn read(
        request: &v1::ListFlowsRequest,
        trust_domain: &TrustDomain,
    ) -> Result<Self, Status> {
        let wrong = |field: &str, why: &dyn std::fmt::Display| {
            Status::invalid_argument(format!("{field}: {why}"))
        };
        let unless_empty = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let source = unless_empty(&request.source)
            .map(|text| read_source(&text, trust_domain))
            .transpose()
            .map_err(|error| wrong("source", &error))?;
        let service = unless_empty(&request.service)
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| wrong("service", &error))?;
        let namespace = unless_empty(&request.namespace)
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| wrong("namespace", &error))?;
        let verdict =
            v1::FlowVerdict::try_from(request.verdict).map_err(|error| wrong("verdict", &error))?;
        let since = read_optional_timestamp(request.since.as_ref())
            .map_err(|error| wrong("since", &error))?;
        let after = unless_empty(&request.page_token)
            .map(|token| read_token(&token).ok_or_else(|| wrong("page_token", &"it is not one")))
            .transpose()?;
        let size = match usize::try_from(request.page_size) {
            Ok(0) | Err(_) => LARGEST_PAGE,
            Ok(size) => size.min(LARGEST_PAGE),
        };
        Ok(Self {
            source,
            service,
            namespace,
            verdict,
            since,
            size,
            after,
        })
    }

    fn wants(&self, flow: &v1::Flow) -> bool {
        let is_late_enough = self.since.is_none_or(|since| {
            let last = flow.last_seen.as_ref();
            last.is_some_and(|last| last.seconds >= since.as_second())
        });
        let is_source = |source: &SpiffeId| source.as_str() == flow.source;
        let is_service = |service: &ServiceName| service.to_string() == flow.service;
        is_late_enough
            && self.source.as_ref().is_none_or(is_source)
            && self.service.as_ref().is_none_or(is_service)
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| touches(flow, namespace))
            && is_verdict(self.verdict, flow)
    }
}

pub(super) fn page(reader: &Reader, asked: &Asked) -> Result<v1::ListFlowsResponse, StoreError> {
    let rows = reader.flows(asked.since, asked.after.as_deref(), SCANNED_AT_ONCE)?;
    let is_last = rows.len() < SCANNED_AT_ONCE;
    let mut answer = v1::ListFlowsResponse::default();
    let mut last = None;
    let mut is_cut = false;
    for (key, flow) in rows {
        if answer.flows.len() == asked.size {
            is_cut = true;
            break;
        }
        if asked.wants(&flow) {
            answer.flows.push(flow);
        }
        last = Some(key);
    }
    if is_cut || !is_last {
        answer.next_page_token = last
            .map(|key| URL_SAFE_NO_PAD.encode(key))
            .unwrap_or_default();
    }
    if asked.after.is_none() {
        answer.losses = reader.flow_losses(asked.since, LOSSES)?;
    }
    Ok(answer)
}

/// `namespace/service-account` of this trust domain, or a SPIFFE ID.
fn read_source(text: &str, trust_domain: &TrustDomain) -> Result<SpiffeId, String> {
    if text.starts_with("spiffe://") {
        return text.parse().map_err(|error| format!("{error}"));
    }
    let workload: WorkloadName = text.parse().map_err(|error| format!("{error}"))?;
    Ok(SpiffeId::for_workload(trust_domain, &workload))
}

fn touches(flow: &v1::Flow, namespace: &DnsLabel) -> bool {
    let of_service = flow.service.split_once('/').map(|(namespace, _)| namespace);
    let source = flow.source.parse::<SpiffeId>().ok();
    let of_source = source
        .as_ref()
        .and_then(SpiffeId::workload_parts)
        .map(|(namespace, _)| namespace);
    [of_service, of_source].contains(&Some(namespace.as_str()))
}

fn is_verdict(asked: v1::FlowVerdict, flow: &v1::Flow) -> bool {
    match (asked, &flow.judged) {
        (v1::FlowVerdict::Unspecified, _) => true,
        (v1::FlowVerdict::Allowed, Some(v1::flow::Judged::Allowed(_)))
        | (v1::FlowVerdict::Learned, Some(v1::flow::Judged::Learned(_)))
        | (v1::FlowVerdict::Denied, Some(v1::flow::Judged::Denied(_))) => true,
        (
            v1::FlowVerdict::Allowed | v1::FlowVerdict::Learned | v1::FlowVerdict::Denied,
            Some(
                v1::flow::Judged::Allowed(_)
                | v1::flow::Judged::Learned(_)
                | v1::flow::Judged::Denied(_),
            )
            | None,
        ) => false,
    }
}

fn read_token(token: &str) -> Option<Vec<u8>> {
    let key = URL_SAFE_NO_PAD.decode(token).ok()?;
    (key.len() <= TOKEN_BYTES).then_some(key)
}

const LARGEST_PAGE: usize = 500;
/// Rows that one page looks at.
const SCANNED_AT_ONCE: usize = if cfg!(test) { 20 } else { 2000 };
/// Reporters' hours that are told.
const LOSSES: usize = 200;
const TOKEN_BYTES: usize = 64;
