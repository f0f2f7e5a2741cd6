//! Flows by the hour and by who reported them, bounded in number, in age and in each reporter's share; and what of them was lost.
//!
//! Invariant: a reporter adds to and pushes out its own flows alone, until all together are too many: then the oldest hour goes.

use std::ops::Bound;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use serde::{Deserialize, Serialize};
use weft_policy::Flow;
use weft_wire::{v1, write_timestamp};

use super::rows::{self, Reader, Rows, number};
use super::tables::{META_FLOW_COUNT, Table};
use super::transaction::PRUNED_AT_ONCE;
use super::{StoreError, WriteTx};

/// One report, as it was read.
pub struct FlowReport {
    /// The SPIFFE ID that reports.
    pub reporter: String,
    /// The process that reports, and the number of its report.
    pub run: u64,
    pub sequence: u64,
    pub flows: Vec<Flow>,
    /// What the sidecar lost before it reported.
    pub sidecar: Loss,
    /// Requests and connections in flows of this report that were refused.
    pub refused: u64,
}

/// Requests and connections of which the record tells too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// They are in no flow.
    pub dropped: u64,
    /// Their path or host is told less exactly.
    pub folded: u64,
}

/// What is kept of one reporter's hour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReporterHour {
    flows: u64,
    sidecar: Loss,
    /// Requests and connections in flows that were refused, or for which there was no room.
    dropped: u64,
}

/// How far one run's reports came.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Run {
    sequence: u64,
    at: Timestamp,
}

impl WriteTx<'_> {
    /// Adds a report's flows to what is kept, and answers how many were; a report that was taken already changes nothing.
    pub fn put_flows(&mut self, now: Timestamp, report: FlowReport) -> Result<u32, StoreError> {
        if !self.is_next_report(now, &report)? {
            return Ok(0);
        }
        let mut accepted = 0;
        let this_hour = hour_of(now);
        let mut current = self.reporter_hour(this_hour, &report.reporter)?;
        current.sidecar.add(report.sidecar);
        current.dropped = current.dropped.saturating_add(report.refused);
        self.put_reporter_hour(this_hour, &report.reporter, &current)?;
        for flow in &report.flows {
            let hour = hour_of(flow.last_seen);
            if hour < oldest_kept(now) || hour > this_hour || !self.add_flow(hour, &report, flow)? {
                self.count_dropped(this_hour, &report.reporter, flow.count)?;
                continue;
            }
            accepted += 1;
        }
        self.drop_surplus_flows(now, &report.reporter)?;
        if number(self, META_FLOW_COUNT)? > FLOWS {
            self.prune_flows(now)?;
        }
        Ok(accepted)
    }

    /// `false`: the reporter has no room for another flow in this hour.
    fn add_flow(
        &mut self,
        hour: u64,
        report: &FlowReport,
        flow: &Flow,
    ) -> Result<bool, StoreError> {
        let mut message = v1::Flow::from(flow);
        let key = flow_key(hour, &report.reporter, &message);
        if let Some(known) = rows::message::<v1::Flow>(self, Table::Flows, &key)? {
            merge(&mut message, &known);
            self.put_message(Table::Flows, &key, &message);
            return Ok(true);
        }
        let mut own = self.reporter_hour(hour, &report.reporter)?;
        if own.flows >= FLOWS_OF_ONE_HOUR {
            return Ok(false);
        }
        own.flows += 1;
        self.put_reporter_hour(hour, &report.reporter, &own)?;
        self.put_message(Table::Flows, &key, &message);
        let count = number(self, META_FLOW_COUNT)?;
        self.put_number(META_FLOW_COUNT, count + 1);
        Ok(true)
    }

    /// Whether this report was not taken yet; from then on it was.
    fn is_next_report(&mut self, now: Timestamp, report: &FlowReport) -> Result<bool, StoreError> {
        let key = run_key(&report.reporter, report.run);
        match self.record::<Run>(Table::FlowRuns, &key)? {
            Some(run) if run.sequence >= report.sequence => return Ok(false),
            Some(_) => {}
            None => self.forget_oldest_run(&report.reporter)?,
        }
        let run = Run {
            sequence: report.sequence,
            at: now,
        };
        self.put_record(Table::FlowRuns, &key, &run)?;
        Ok(true)
    }

    /// Makes room for one more run of this reporter.
    fn forget_oldest_run(&mut self, reporter: &str) -> Result<(), StoreError> {
        let first = run_key(reporter, 0);
        let limit = RUNS_OF_ONE_REPORTER + 1;
        let runs = self.rows(Table::FlowRuns, Bound::Included(&first), limit)?;
        let mut own = Vec::new();
        for (key, value) in runs {
            if !key.starts_with(first.get(..first.len() - RUN_BYTES).unwrap_or_default()) {
                break;
            }
            let run: Run = rows::read_record(Table::FlowRuns, &key, &value)?;
            own.push((run.at, key));
        }
        if own.len() >= RUNS_OF_ONE_REPORTER
            && let Some((_, oldest)) = own.iter().min()
        {
            self.delete(Table::FlowRuns, oldest);
        }
        Ok(())
    }

    /// Drops a reporter's own oldest hours beyond its share.
    fn drop_surplus_flows(&mut self, now: Timestamp, reporter: &str) -> Result<(), StoreError> {
        let hours = oldest_kept(now)..=hour_of(now);
        let mut kept = 0;
        let mut oldest = None;
        for hour in hours {
            let own = self.reporter_hour(hour, reporter)?;
            kept += own.flows;
            if own.flows > 0 && oldest.is_none() {
                oldest = Some(hour);
            }
        }
        let Some(hour) = oldest.filter(|_| kept > FLOWS_OF_ONE_REPORTER) else {
            return Ok(());
        };
        let first = flow_prefix(hour, reporter);
        let surplus = usize::try_from(kept - FLOWS_OF_ONE_REPORTER).unwrap_or(usize::MAX);
        let own = self.rows(
            Table::Flows,
            Bound::Included(&first),
            surplus.min(PRUNED_AT_ONCE),
        )?;
        for (key, value) in own {
            if !key.starts_with(&first) {
                break;
            }
            self.forget_flow(&key)?;
            let flow: v1::Flow = rows::decode(Table::Flows, &key, &value)?;
            let mut record = self.reporter_hour(hour, reporter)?;
            record.flows = record.flows.saturating_sub(1);
            record.dropped = record.dropped.saturating_add(flow.count);
            self.put_reporter_hour(hour, reporter, &record)?;
        }
        Ok(())
    }

    /// Forgets what is past its retention, and the oldest hour while there are too many.
    pub(crate) fn prune_flows(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let oldest = oldest_kept(now).to_be_bytes();
        for (key, _) in self.rows(Table::Flows, Bound::Unbounded, PRUNED_AT_ONCE)? {
            if key.as_slice() >= oldest.as_slice() && number(self, META_FLOW_COUNT)? <= FLOWS {
                break;
            }
            self.forget_flow(&key)?;
        }
        for (key, _) in self.rows(Table::FlowReporters, Bound::Unbounded, PRUNED_AT_ONCE)? {
            if key.as_slice() >= oldest.as_slice() {
                break;
            }
            self.delete(Table::FlowReporters, &key);
        }
        Ok(())
    }

    /// Forgets runs that have been silent for as long as flows are kept.
    pub(crate) fn prune_flow_runs(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for (key, value) in self.rows(Table::FlowRuns, Bound::Unbounded, usize::MAX)? {
            let run: Run = rows::read_record(Table::FlowRuns, &key, &value)?;
            if hour_of(run.at) < oldest_kept(now) {
                self.delete(Table::FlowRuns, &key);
            }
        }
        Ok(())
    }

    fn forget_flow(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.delete(Table::Flows, key);
        let count = number(self, META_FLOW_COUNT)?;
        self.put_number(META_FLOW_COUNT, count.saturating_sub(1));
        Ok(())
    }

    fn count_dropped(&mut self, hour: u64, reporter: &str, count: u64) -> Result<(), StoreError> {
        let mut own = self.reporter_hour(hour, reporter)?;
        own.dropped = own.dropped.saturating_add(count);
        self.put_reporter_hour(hour, reporter, &own)
    }

    fn reporter_hour(&self, hour: u64, reporter: &str) -> Result<ReporterHour, StoreError> {
        let key = reporter_key(hour, reporter);
        Ok(self.record(Table::FlowReporters, &key)?.unwrap_or_default())
    }

    fn put_reporter_hour(
        &mut self,
        hour: u64,
        reporter: &str,
        record: &ReporterHour,
    ) -> Result<(), StoreError> {
        self.put_record(Table::FlowReporters, &reporter_key(hour, reporter), record)
    }
}

impl Reader {
    /// At most `limit` flows after `after`, or from the hour of `since` on, in the order of their keys. Equal flows of several hours and
    /// reporters are several.
    pub fn flows(
        &self,
        since: Option<Timestamp>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, v1::Flow)>, StoreError> {
        let first = since.map_or(0, hour_of).to_be_bytes();
        let from = match after {
            Some(after) if after > first.as_slice() => Bound::Excluded(after),
            Some(_) | None => Bound::Included(first.as_slice()),
        };
        self.rows(Table::Flows, from, limit)?
            .into_iter()
            .map(|(key, value)| {
                let flow = rows::decode(Table::Flows, &key, &value)?;
                Ok((key, flow))
            })
            .collect()
    }

    /// Where the record is incomplete, from the hour of `since` on: the first `limit`.
    pub fn flow_losses(
        &self,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<v1::ReporterLoss>, StoreError> {
        let first = since.map_or(0, hour_of).to_be_bytes();
        let mut losses = Vec::new();
        for (key, value) in self.rows(Table::FlowReporters, Bound::Included(&first), usize::MAX)? {
            let own: ReporterHour = rows::read_record(Table::FlowReporters, &key, &value)?;
            if own.sidecar == Loss::default() && own.dropped == 0 {
                continue;
            }
            let (hour, reporter) = read_reporter_key(&key)?;
            losses.push(v1::ReporterLoss {
                reporter,
                hour: Some(write_timestamp(hour)),
                sidecar: Some(v1::FlowLoss {
                    dropped: own.sidecar.dropped,
                    folded: own.sidecar.folded,
                }),
                control_plane: Some(v1::FlowLoss {
                    dropped: own.dropped,
                    folded: 0,
                }),
            });
            if losses.len() == limit {
                break;
            }
        }
        Ok(losses)
    }
}

impl Loss {
    fn add(&mut self, more: Self) {
        self.dropped = self.dropped.saturating_add(more.dropped);
        self.folded = self.folded.saturating_add(more.folded);
    }
}

/// Adds to a flow what is known of its like.
fn merge(flow: &mut v1::Flow, known: &v1::Flow) {
    let order = |time: &Option<prost_types::Timestamp>| {
        time.as_ref().map(|time| (time.seconds, time.nanos))
    };
    flow.count = flow.count.saturating_add(known.count);
    if order(&known.first_seen) < order(&flow.first_seen) {
        flow.first_seen = known.first_seen;
    }
    if order(&known.last_seen) > order(&flow.last_seen) {
        flow.last_seen = known.last_seen;
    }
}

/// Hours since 1970.
fn hour_of(time: Timestamp) -> u64 {
    u64::try_from(time.as_second() / 3600).unwrap_or(0)
}

fn oldest_kept(now: Timestamp) -> u64 {
    hour_of(now.saturating_sub(FLOW_AGE).unwrap_or(now))
}

/// Hour, reporter, and what makes the flow what it is; protobuf writes equal messages equally, as they hold no map.
fn flow_key(hour: u64, reporter: &str, flow: &v1::Flow) -> Vec<u8> {
    let identity = v1::Flow {
        count: 0,
        first_seen: None,
        last_seen: None,
        ..flow.clone()
    };
    let mut key = flow_prefix(hour, reporter);
    key.extend_from_slice(&hash(&identity.encode_to_vec()));
    key
}

fn flow_prefix(hour: u64, reporter: &str) -> Vec<u8> {
    [hour.to_be_bytes().as_slice(), &hash(reporter.as_bytes())].concat()
}

fn hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut short = [0; HASH_BYTES];
    short
        .iter_mut()
        .zip(digest(&SHA256, bytes).as_ref())
        .for_each(|(to, from)| *to = *from);
    short
}

fn reporter_key(hour: u64, reporter: &str) -> Vec<u8> {
    [hour.to_be_bytes().as_slice(), reporter.as_bytes()].concat()
}

fn read_reporter_key(key: &[u8]) -> Result<(Timestamp, String), StoreError> {
    let corrupt = || StoreError::corrupt(Table::FlowReporters, key, &"its key has no reporter");
    let (hour, reporter) = key.split_first_chunk::<8>().ok_or_else(corrupt)?;
    let seconds = i64::try_from(u64::from_be_bytes(*hour).saturating_mul(3600));
    let hour = Timestamp::from_second(seconds.map_err(|_| corrupt())?).map_err(|_| corrupt())?;
    let reporter = String::from_utf8(reporter.to_vec()).map_err(|_| corrupt())?;
    Ok((hour, reporter))
}

/// A SPIFFE ID holds no NUL, so the two parts cannot run into each other.
fn run_key(reporter: &str, run: u64) -> Vec<u8> {
    [reporter.as_bytes(), b"\0", &run.to_be_bytes()].concat()
}

/// Most flows kept, each counted once an hour: some 200 MB.
const FLOWS: u64 = if cfg!(test) { 400 } else { 500_000 };
/// Most of them that one identity reported, in one hour and in all.
const FLOWS_OF_ONE_HOUR: u64 = FLOWS / 20;
const FLOWS_OF_ONE_REPORTER: u64 = FLOWS / 10;
/// Processes with one identity whose reports are told apart; each of them reports anew what it is not sure of.
const RUNS_OF_ONE_REPORTER: usize = if cfg!(test) { 10 } else { 1000 };
/// How long a flow is kept: a day, and the hour that it began in.
const FLOW_AGE: SignedDuration = SignedDuration::from_hours(24);
const HASH_BYTES: usize = 16;
const RUN_BYTES: usize = 8;
