//! Recorded traffic: from the control plane, or from a file that `meshctl flows -o json` wrote.
//!
//! Invariant: equal flows are one, and what the record lost comes along with it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::Deserialize;
use tonic::Code;
use weft_identity::DnsLabel;
use weft_policy::{Flow, FlowDocument, FlowKey};
use weft_wire::{v1, write_timestamp};

use crate::client::{Client, refused};
use crate::failure::SaysNo;
use crate::moments::moment;

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) flows: Vec<Flow>,
    /// The window that was asked for; `None`: whatever a file holds.
    pub(crate) since: Option<Timestamp>,
    /// Connections and requests that are in no flow.
    pub(crate) dropped: u64,
    /// Requests that are told less exactly than they could be.
    pub(crate) folded: u64,
    /// SPIFFE IDs of those whose record lost anything.
    pub(crate) lossy: BTreeSet<String>,
}

/// Which traffic an edit can concern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    Mesh,
    /// Services of this namespace.
    Namespace(DnsLabel),
}

/// What the control plane has recorded since; `None`: it is a version that records nothing.
pub(crate) async fn recorded(
    client: &Client,
    since: Timestamp,
    scope: &Scope,
) -> anyhow::Result<Option<Traffic>> {
    let request = v1::ListFlowsRequest {
        namespace: match scope {
            Scope::Mesh => String::new(),
            Scope::Namespace(namespace) => namespace.to_string(),
        },
        since: Some(write_timestamp(since)),
        ..Default::default()
    };
    listed(client, request).await
}

/// Every page of what is asked for; `None`: it is a version that records nothing.
pub(crate) async fn listed(
    client: &Client,
    mut request: v1::ListFlowsRequest,
) -> anyhow::Result<Option<Traffic>> {
    let mut sum = Sum::default();
    let mut traffic = Traffic {
        since: moment(request.since),
        ..Traffic::default()
    };
    loop {
        let page = match client.flows().list(request.clone()).await {
            Ok(page) => page.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => return Ok(None),
            Err(status) => return Err(refused(status)),
        };
        for loss in &page.losses {
            traffic.lossy.insert(loss.reporter.clone());
            for loss in loss.sidecar.iter().chain(&loss.control_plane) {
                traffic.dropped = traffic.dropped.saturating_add(loss.dropped);
                traffic.folded = traffic.folded.saturating_add(loss.folded);
            }
        }
        for flow in &page.flows {
            sum.add(Flow::try_from(flow)?)?;
        }
        if page.next_page_token.is_empty() {
            traffic.flows = sum.into_flows();
            return Ok(Some(traffic));
        }
        request.page_token = page.next_page_token;
    }
}

/// What a file holds; `-` is standard input.
pub(crate) fn from_file(name: &str) -> anyhow::Result<Traffic> {
    let text = read_bounded(name).with_context(|| format!("cannot read {name}"))?;
    read(&text).with_context(|| format!("{name} holds no flows"))
}

fn read_bounded(name: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = FILE_LIMIT + 1;
    match name {
        "-" => std::io::stdin()
            .lock()
            .take(limit)
            .read_to_string(&mut text)?,
        _ => File::open(name)?.take(limit).read_to_string(&mut text)?,
    };
    if u64::try_from(text.len()).is_ok_and(|length| length > FILE_LIMIT) {
        let problem = format!("it is longer than {FILE_LIMIT} bytes");
        return Err(std::io::Error::other(problem));
    }
    Ok(text)
}

fn read(text: &str) -> anyhow::Result<Traffic> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let record = match value {
        serde_json::Value::Array(_) => Record {
            flows: serde_json::from_value(value)?,
            ..Record::default()
        },
        _ => serde_json::from_value(value)?,
    };
    let mut sum = Sum::default();
    for (place, document) in record.flows.into_iter().enumerate() {
        let flow = Flow::try_from(document).with_context(|| format!("flows[{place}]"))?;
        sum.add(flow)?;
    }
    Ok(Traffic {
        flows: sum.into_flows(),
        since: record.since,
        dropped: record.dropped,
        folded: record.folded,
        lossy: BTreeSet::new(),
    })
}

/// A file: this, or the list of flows alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    flows: Vec<FlowDocument>,
    #[serde(default)]
    since: Option<Timestamp>,
    #[serde(default)]
    dropped: u64,
    #[serde(default)]
    folded: u64,
}

/// Flows added up, for equal ones come from several hours and sidecars.
#[derive(Default)]
struct Sum(HashMap<FlowKey, (u64, Timestamp, Timestamp)>);

impl Sum {
    fn add(&mut self, flow: Flow) -> anyhow::Result<()> {
        if self.0.len() >= FLOWS_LIMIT && !self.0.contains_key(&flow.key) {
            bail!(SaysNo(format!(
                "there are more than {FLOWS_LIMIT} different flows; a shorter --since has fewer"
            )));
        }
        match self.0.entry(flow.key) {
            Entry::Vacant(entry) => {
                entry.insert((flow.count, flow.first_seen, flow.last_seen));
            }
            Entry::Occupied(mut entry) => {
                let (count, first, last) = entry.get_mut();
                *count = count.saturating_add(flow.count);
                *first = flow.first_seen.min(*first);
                *last = flow.last_seen.max(*last);
            }
        }
        Ok(())
    }

    fn into_flows(self) -> Vec<Flow> {
        let flow = |(key, (count, first_seen, last_seen))| Flow {
            key,
            count,
            first_seen,
            last_seen,
        };
        self.0.into_iter().map(flow).collect()
    }
}

/// About 200 MB of them.
const FLOWS_LIMIT: usize = 500_000;
const FILE_LIMIT: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = r#"{"source": "spiffe://weft.local/ns/shop/sa/web", "target": "shop/api:tcp", "denied": "noRule",
        "count": 2, "firstSeen": "2026-11-28T00:00:00Z", "lastSeen": "2026-11-28T01:00:00Z"}"#;

    #[test]
    fn equal_flows_add_up_and_a_file_is_a_list_or_a_record() {
        let later = FLOW.replace("T01:", "T05:");
        let list = read(&format!("[{FLOW}, {later}]")).unwrap();
        assert_eq!(list.flows.len(), 1);
        assert_eq!(list.flows[0].count, 4);
        assert_eq!(list.flows[0].last_seen.to_string(), "2026-11-28T05:00:00Z");
        let record = read(&format!("{{\"flows\": [{FLOW}], \"dropped\": 7}}")).unwrap();
        assert_eq!((record.flows.len(), record.dropped), (1, 7));
    }

    #[test]
    fn what_is_no_flow_names_its_place() {
        let wrong = FLOW.replace("\"denied\": \"noRule\",", "");
        let error = format!("{:#}", read(&format!("[{FLOW}, {wrong}]")).unwrap_err());
        assert!(
            error.starts_with("flows[1]: expected exactly one"),
            "{error}"
        );
        assert!(read("{\"flow\": []}").is_err());
    }
}
