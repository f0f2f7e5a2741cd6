//! Decisions in the order of their arrival, bounded in number, in age and in each reporter's share.

use std::collections::BTreeSet;
use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use weft_wire::v1;

use super::rows::{self, Rows, number};
use super::tables::{META_DECISION_COUNT, META_DECISION_NEXT, Table, read_number};
use super::transaction::PRUNED_AT_ONCE;
use super::{StoreError, WriteTx};

impl WriteTx<'_> {
    /// Stores decisions in the order of their arrival and answers how many were taken. One that exists is updated, if
    /// the same sidecar reports it. Beyond a reporter's share its own oldest go; the oldest of all go beyond the cap and
    /// after the retention.
    pub fn put_decisions(
        &mut self,
        now: Timestamp,
        decisions: Vec<v1::Decision>,
    ) -> Result<u32, StoreError> {
        let mut accepted = 0;
        let mut reporters = BTreeSet::new();
        for decision in decisions {
            let key = decision.id.clone().into_bytes();
            let known: Option<v1::Decision> = rows::message(self, Table::Decisions, &key)?;
            match known {
                Some(known) if known.reported_by != decision.reported_by => continue,
                Some(_) => (),
                None => {
                    self.order_decision(now, &decision)?;
                    reporters.insert(decision.reported_by.clone());
                }
            }
            self.put_message(Table::Decisions, &key, &decision);
            accepted += 1;
        }
        for reporter in &reporters {
            self.drop_surplus_decisions(reporter)?;
        }
        self.prune_decisions(now)?;
        Ok(accepted)
    }

    fn order_decision(
        &mut self,
        now: Timestamp,
        decision: &v1::Decision,
    ) -> Result<(), StoreError> {
        let next = number(self, META_DECISION_NEXT)?;
        let order = next.to_be_bytes();
        let value = rows::decision_order(now, &decision.id);
        self.put(Table::DecisionOrder, &order, value);
        self.put_number(META_DECISION_NEXT, next + 1);
        let count = number(self, META_DECISION_COUNT)?;
        self.put_number(META_DECISION_COUNT, count + 1);

        let own = reporter_key(&decision.reported_by, &order);
        let id = decision.id.clone().into_bytes();
        self.put(Table::DecisionReporters, &own, id);
        let count = self.reported_by(&decision.reported_by)?;
        self.put_reported_by(&decision.reported_by, count + 1);
        Ok(())
    }

    /// Drops a reporter's own oldest beyond its share.
    fn drop_surplus_decisions(&mut self, reporter: &str) -> Result<(), StoreError> {
        let surplus = self
            .reported_by(reporter)?
            .saturating_sub(DECISIONS_OF_ONE_REPORTER);
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        if surplus == 0 {
            return Ok(());
        }
        let first = reporter_key(reporter, &[]);
        let oldest = self.rows(Table::DecisionReporters, Bound::Included(&first), surplus)?;
        for (key, id) in oldest {
            let Some(order) = key.strip_prefix(first.as_slice()) else {
                break;
            };
            self.forget_decision(order, &id)?;
        }
        Ok(())
    }

    pub(crate) fn prune_decisions(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let oldest_kept = now.as_millisecond() - DECISION_AGE.as_secs() * 1000;
        for (order, value) in self.rows(Table::DecisionOrder, Bound::Unbounded, PRUNED_AT_ONCE)? {
            let (arrived, id) = rows::read_decision_order(&value)
                .ok_or_else(|| StoreError::corrupt(Table::DecisionOrder, &order, &"too short"))?;
            if arrived >= oldest_kept && number(self, META_DECISION_COUNT)? <= DECISIONS {
                break;
            }
            self.forget_decision(&order, id)?;
        }
        Ok(())
    }

    fn forget_decision(&mut self, order: &[u8], id: &[u8]) -> Result<(), StoreError> {
        let known: Option<v1::Decision> = rows::message(self, Table::Decisions, id)?;
        if let Some(known) = known {
            let own = reporter_key(&known.reported_by, order);
            if self.row(Table::DecisionReporters, &own)?.is_some() {
                self.delete(Table::DecisionReporters, &own);
                let count = self.reported_by(&known.reported_by)?;
                self.put_reported_by(&known.reported_by, count.saturating_sub(1));
            }
        }
        self.delete(Table::Decisions, id);
        self.delete(Table::DecisionOrder, order);
        let count = number(self, META_DECISION_COUNT)?;
        self.put_number(META_DECISION_COUNT, count.saturating_sub(1));
        Ok(())
    }

    /// How many decisions of this reporter are kept.
    fn reported_by(&self, reporter: &str) -> Result<u64, StoreError> {
        let key = reporter.as_bytes();
        match self.row(Table::DecisionReporters, key)? {
            Some(value) => read_number(key, &value),
            None => Ok(0),
        }
    }

    fn put_reported_by(&mut self, reporter: &str, count: u64) {
        let (table, key) = (Table::DecisionReporters, reporter.as_bytes());
        match count {
            0 => self.delete(table, key),
            _ => self.put(table, key, count.to_be_bytes().to_vec()),
        }
    }
}

/// A SPIFFE ID holds no NUL, so a reporter's decisions follow its own row and nobody else's lie between.
fn reporter_key(reporter: &str, order: &[u8]) -> Vec<u8> {
    [reporter.as_bytes(), b"\0", order].concat()
}

/// Most decisions kept.
const DECISIONS: u64 = if cfg!(test) { 200 } else { 20_000 };
/// Most of them that one workload reported: it can report more in minutes than all are kept for a day.
const DECISIONS_OF_ONE_REPORTER: u64 = DECISIONS / 10;
/// How long a decision is kept.
const DECISION_AGE: SignedDuration = SignedDuration::from_hours(24);
