//! What was counted, sent to the control plane every few seconds.
//!
//! A report is kept until it is answered and sent again as it was, with the same number, so that no count is lost or doubled with an answer.
//! While the control plane is away the tables go on counting, within their limits.

use std::time::Duration;

use jiff::Timestamp;
use weft_daemon::backoff::random_fraction;
use weft_wire::v1;

use super::table::Loss;
use super::{Flows, lock};
use crate::control_plane::ControlPlane;

/// The report under way.
pub(super) struct Outbox {
    run: u64,
    sequence: u64,
    sending: Option<v1::ReportFlowsRequest>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let mut run = [0; 8];
        if aws_lc_rs::rand::fill(&mut run).is_err() {
            // It must only be unlikely to repeat.
            run = random_fraction().to_be_bytes();
        }
        Self {
            run: u64::from_be_bytes(run),
            sequence: 0,
            sending: None,
        }
    }
}

/// Reports until the process leaves.
pub(crate) async fn report(flows: Flows, control_plane: ControlPlane) -> Result<(), tonic::Status> {
    loop {
        let Some(report) = flows.next_report(Timestamp::now()) else {
            if flows.shared.leave.is_cancelled() {
                flows.shared.left.cancel();
                return Ok(());
            }
            flows.wait().await;
            continue;
        };
        let count = report.flows.len();
        let mut client = v1::flows_client::FlowsClient::new(control_plane.channel());
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.report(report)).await;
        match answer {
            Ok(Ok(_)) => {}
            Ok(Err(status)) if status.code() == tonic::Code::InvalidArgument => {
                // It would be refused again and again, and nothing after it be sent.
                tracing::error!(%status, "a report of flows is not taken, and given up");
            }
            Ok(Err(status)) => return Err(status),
            Err(_) => {
                return Err(tonic::Status::deadline_exceeded(
                    "the report of flows was not answered",
                ));
            }
        }
        flows.answered();
        let reported = u64::try_from(count).unwrap_or(0);
        flows.shared.metrics.flows_reported.inc_by(reported);
        if count < FLOWS_IN_REPORT {
            flows.wait().await;
        } else {
            tokio::time::sleep(BETWEEN_REPORTS).await;
        }
    }
}

impl Flows {
    /// The report that is to be sent now; `None`: nothing has happened.
    pub(super) fn next_report(&self, now: Timestamp) -> Option<v1::ReportFlowsRequest> {
        let mut outbox = lock(&self.shared.outbox);
        if let Some(sending) = &outbox.sending {
            return Some(sending.clone());
        }
        let (flows, loss) = self.take(outbox.sequence + 1, now);
        if flows.is_empty() && loss == Loss::default() {
            return None;
        }
        outbox.sequence += 1;
        let report = v1::ReportFlowsRequest {
            run: outbox.run,
            sequence: outbox.sequence,
            flows,
            loss: Some(v1::FlowLoss {
                dropped: loss.dropped,
                folded: loss.folded,
            }),
        };
        outbox.sending = Some(report.clone());
        Some(report)
    }

    /// The report under way was taken, or given up.
    pub(super) fn answered(&self) {
        lock(&self.shared.outbox).sending = None;
    }

    /// What changed, of all workers: at most one report's worth. No table is locked for long at a time.
    fn take(&self, report: u64, now: Timestamp) -> (Vec<v1::Flow>, Loss) {
        let (mut flows, mut loss) = (Vec::new(), Loss::default());
        let mut entries = 0;
        let workers = lock(&self.shared.workers).clone();
        for worker in workers {
            loop {
                let left = FLOWS_IN_REPORT - flows.len();
                let taken = worker.table().take(left.min(TAKEN_AT_ONCE), report, now);
                if taken.is_empty() {
                    break;
                }
                flows.extend(taken.iter().map(v1::Flow::from));
            }
            let mut table = worker.table();
            let lost = table.take_loss();
            loss.dropped = loss.dropped.saturating_add(lost.dropped);
            loss.folded = loss.folded.saturating_add(lost.folded);
            table.forget_idle(now);
            entries += table.len();
        }
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.shared.metrics.flows_kept.set(entries);
        (flows, loss)
    }

    /// Until there may be something to report, or the process leaves.
    async fn wait(&self) {
        let pause = EVERY.mul_f64(0.75 + random_fraction() / 2.0);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shared.leave.cancelled() => {}
        }
    }
}

/// Often enough to see traffic as it comes, seldom enough that a thousand sidecars are two hundred writes a second; spread by a quarter.
const EVERY: Duration = Duration::from_secs(5);
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The control plane takes no more.
const FLOWS_IN_REPORT: usize = 500;
/// A table is locked for so many: some tens of microseconds.
const TAKEN_AT_ONCE: usize = 50;
