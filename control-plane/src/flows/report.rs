//! What a sidecar may report: flows to which itself was a party, that say nothing but what rules can ask.
//!
//! Invariant: what a workload tells of others' calls to it, it may tell as it likes, for it decides about them; of its own calls it
//! may tell only that its own sidecar refused them, or let them out of the mesh where they may go. Who could report that it had been let
//! in could talk an operator into a rule.

use jiff::SignedDuration;
use prost::Message;
use weft_policy::{Flow, Judged};
use weft_wire::v1;

use crate::reporter::Reporter;
use crate::reports::{Limits, Rate};
use crate::store::{FlowReport, Loss};

/// What of a report is stored; the rest is counted.
pub(super) fn read(reporter: &Reporter<'_>, request: &v1::ReportFlowsRequest) -> FlowReport {
    let mut refused = 0_u64;
    let mut flows = Vec::with_capacity(request.flows.len());
    for message in &request.flows {
        match flow(reporter, message) {
            Some(flow) => flows.push(flow),
            None => refused = refused.saturating_add(message.count),
        }
    }
    let loss = request.loss.unwrap_or_default();
    FlowReport {
        reporter: reporter.id.to_string(),
        run: request.run,
        sequence: request.sequence,
        flows,
        sidecar: Loss {
            dropped: loss.dropped,
            folded: loss.folded,
        },
        refused,
    }
}

/// `None`: it cannot be read, or is not the reporter's to tell.
fn flow(reporter: &Reporter<'_>, message: &v1::Flow) -> Option<Flow> {
    if message.encoded_len() > FLOW_BYTES {
        return None;
    }
    let mut flow = Flow::try_from(message).ok()?;
    if !is_party(reporter, &flow) {
        return None;
    }
    let target = &mut flow.key.target;
    target.port = reporter.port_name(&target.service, &target.port);
    // No flow began before what is kept.
    let last_seen = reporter.past(flow.last_seen);
    let earliest = last_seen.saturating_sub(LONGEST).unwrap_or(last_seen);
    Some(Flow {
        first_seen: flow.first_seen.min(last_seen).max(earliest),
        last_seen,
        ..flow
    })
}

fn is_party(reporter: &Reporter<'_>, flow: &Flow) -> bool {
    if reporter.may_offer(&flow.key.target.service) {
        return true;
    }
    let is_own = flow.key.source == *reporter.id;
    // What reaches a server is told by that server.
    match flow.key.judged {
        Judged::Denied(_) => is_own,
        Judged::Allowed(_) | Judged::Learned(_) => {
            is_own && reporter.may_call_outside(&flow.key.target)
        }
    }
}

/// How much is taken of flows: a few thousand sidecars, each with a few dozen new flows at a time.
pub(crate) const LIMITS: Limits = Limits {
    what: "flows",
    of_one: Rate {
        burst: 5000,
        per_second: 500,
    },
    of_all: Rate {
        burst: 20_000,
        per_second: 5000,
    },
    in_one_report: 500,
};
/// The longest flow that is stored. Rules can be longer than that; what they ask is told as far as it fits.
const FLOW_BYTES: usize = 4096;
/// Flows are cut by the hour, but an idle one is told when it is looked at.
const LONGEST: SignedDuration = SignedDuration::from_hours(2);

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
