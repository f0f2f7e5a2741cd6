//! What `flows` and `graph` ask of the record, and what they say where it is incomplete.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use weft_identity::{DnsLabel, ServiceName, ServicePort, SpiffeId, WorkloadName};
use weft_policy::Flow;
use weft_wire::{v1, write_timestamp};

use crate::client::Client;
use crate::failure::SaysNo;
use crate::moments::parse_length;
use crate::output::Output;
use crate::traffic::{self, Traffic};

/// What of the record is asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FlowsAsked {
    /// Only what this workload sent: `namespace/service-account` or a SPIFFE ID.
    #[arg(long, value_name = "WORKLOAD", value_parser = parse_source)]
    from: Option<String>,
    /// Only what went to this service: `namespace/service` or `namespace/service:port`.
    #[arg(long, value_name = "SERVICE", value_parser = parse_target)]
    to: Option<Target>,
    /// Only what this namespace sent or received.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<DnsLabel>,
    /// Only what was judged so.
    #[arg(long, value_enum)]
    verdict: Option<VerdictArg>,
    /// How far to look back; counts are kept by the hour, so that the whole of its first hour may count.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_length)]
    since: SignedDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VerdictArg {
    Allowed,
    /// Passed without a rule, in learn mode.
    Learned,
    Denied,
}

#[derive(Debug, Clone)]
struct Target {
    service: ServiceName,
    port: Option<DnsLabel>,
}

/// What is recorded of it, in order: by source, target and verdict, the most frequent first.
pub(crate) async fn read(client: &Client, asked: &FlowsAsked) -> anyhow::Result<Traffic> {
    let since = Timestamp::now().saturating_sub(asked.since)?;
    let to = asked.to.as_ref();
    let request = v1::ListFlowsRequest {
        source: asked.from.clone().unwrap_or_default(),
        service: to.map(|to| to.service.to_string()).unwrap_or_default(),
        namespace: asked
            .namespace
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        verdict: asked
            .verdict
            .map_or(v1::FlowVerdict::Unspecified, VerdictArg::on_the_wire)
            .into(),
        since: Some(write_timestamp(since)),
        ..Default::default()
    };
    let traffic = traffic::listed(client, request).await?;
    let mut traffic = traffic.context(SaysNo::new(
        "the control plane is of a version that records no flows",
    ))?;
    traffic
        .flows
        .retain(|flow| asked.wants_port(&flow.key.target));
    traffic.flows.sort_by_cached_key(|flow| {
        let Flow { key, count, .. } = flow;
        // The last makes the order the same each time.
        let rest = format!("{:?}", key.request);
        let (source, target) = (key.source.to_string(), key.target.to_string());
        (source, target, key.judged.clone(), u64::MAX - count, rest)
    });
    Ok(traffic)
}

impl FlowsAsked {
    fn wants_port(&self, target: &ServicePort) -> bool {
        let port = self.to.as_ref().and_then(|to| to.port.as_ref());
        port.is_none_or(|port| *port == target.port)
    }
}

impl VerdictArg {
    fn on_the_wire(self) -> v1::FlowVerdict {
        match self {
            Self::Allowed => v1::FlowVerdict::Allowed,
            Self::Learned => v1::FlowVerdict::Learned,
            Self::Denied => v1::FlowVerdict::Denied,
        }
    }
}

/// Says where the record cannot be relied on.
pub(crate) fn warn(traffic: &Traffic, out: &Output) {
    let Traffic {
        dropped,
        folded,
        lossy,
        ..
    } = traffic;
    if *dropped == 0 && *folded == 0 {
        return;
    }
    let reporters: Vec<&str> = lossy.iter().map(String::as_str).collect();
    out.warn(format!(
        "the record is incomplete: {dropped} requests and connections are in no flow, {folded} are told less exactly (reported by {})",
        reporters.join(", ")
    ));
}

/// `namespace/name` for workloads of the trust domain, else the whole SPIFFE ID.
pub(crate) fn caller(source: &SpiffeId, own: &str) -> String {
    let is_own = source.trust_domain_str() == own;
    match source.workload().filter(|_| is_own) {
        Some(workload) => workload.to_string(),
        None => source.to_string(),
    }
}

fn parse_source(text: &str) -> Result<String, String> {
    let problem = if text.starts_with("spiffe://") {
        text.parse::<SpiffeId>()
            .err()
            .map(|error| error.to_string())
    } else {
        text.parse::<WorkloadName>()
            .err()
            .map(|error| error.to_string())
    };
    problem.map_or_else(|| Ok(text.to_owned()), Err)
}

fn parse_target(text: &str) -> Result<Target, String> {
    let (service, port) = match text.split_once(':') {
        Some((service, port)) => (service, Some(port)),
        None => (text, None),
    };
    Ok(Target {
        service: service
            .parse()
            .map_err(|error: weft_identity::NameError| error.to_string())?,
        port: port
            .map(str::parse)
            .transpose()
            .map_err(|error: weft_identity::NameError| error.to_string())?,
    })
}
