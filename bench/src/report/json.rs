//! The results for programs: every round, with the middle and the bounds, and the ratios.

use serde_json::{Map, Value, json};

use super::{Cell, Results, statistics};
use crate::options::Named as _;
use crate::peers::Peer;
use crate::workloads::Workload;

pub(super) fn render(results: &Results) -> Value {
    let mut workloads = Map::new();
    for workload in results.workloads() {
        let mut peers = Map::new();
        for peer in results.peers() {
            peers.insert(peer.name().to_owned(), cell(results, workload, peer));
        }
        workloads.insert(
            workload.name().to_owned(),
            json!({"what": workload.description(), "peers": peers, "weftTo": ratios(results, workload)}),
        );
    }
    json!({"conditions": results.conditions, "workloads": workloads})
}

fn cell(results: &Results, workload: Workload, peer: Peer) -> Value {
    let mut metrics = Map::new();
    for metric in results.metrics(workload) {
        let values = results.values(workload, peer, metric);
        if let Some(spread) = statistics::spread(&values) {
            let value = json!({
                "title": metric.title(),
                "min": spread.min,
                "median": spread.median,
                "max": spread.max,
                "rounds": values,
            });
            metrics.insert(key(&metric), value);
        }
    }
    let troubles: Vec<String> = results
        .cells(workload, peer)
        .filter_map(|cell| match cell {
            Cell::Absent(why) => Some(why.clone()),
            Cell::Measured { .. } | Cell::Failed(_) => cell.trouble(),
        })
        .collect();
    json!({"metrics": metrics, "troubles": troubles})
}

fn ratios(results: &Results, workload: Workload) -> Value {
    let mut peers = Map::new();
    for peer in results.peers() {
        let mut metrics = Map::new();
        for metric in results.metrics(workload) {
            let pairs = results.pairs(workload, peer, metric);
            let ratio = metric.better().and_then(|_| statistics::ratio(&pairs));
            if let Some(ratio) = ratio {
                metrics.insert(key(&metric), json!(ratio));
            }
        }
        if peer != Peer::Weft && !metrics.is_empty() {
            peers.insert(peer.name().to_owned(), metrics.into());
        }
    }
    peers.into()
}

/// A metric's name.
fn key(metric: &crate::measured::Metric) -> String {
    let name = serde_json::to_value(metric).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}
