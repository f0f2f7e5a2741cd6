//! Decisions in the order of their arrival, bounded in number and age.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use weft_wire::v1;

use super::rows::{self, Rows, number};
use super::tables::{META_DECISION_COUNT, META_DECISION_NEXT, Table};
use super::transaction::PRUNED_AT_ONCE;
use super::{StoreError, WriteTx};

impl WriteTx<'_> {
    /// Stores decisions in the order of their arrival and answers how many were taken. One that exists is updated, if
    /// the same sidecar reports it. The oldest go beyond the cap and after the retention.
    pub fn put_decisions(
        &mut self,
        now: Timestamp,
        decisions: Vec<v1::Decision>,
    ) -> Result<u32, StoreError> {
        let mut accepted = 0;
        for decision in decisions {
            let key = decision.id.clone().into_bytes();
            let known: Option<v1::Decision> = rows::message(self, Table::Decisions, &key)?;
            match known {
                Some(known) if known.reported_by != decision.reported_by => continue,
                Some(_) => (),
                None => self.order_decision(now, &decision.id)?,
            }
            self.put_message(Table::Decisions, &key, &decision);
            accepted += 1;
        }
        self.prune_decisions(now)?;
        Ok(accepted)
    }

    fn order_decision(&mut self, now: Timestamp, id: &str) -> Result<(), StoreError> {
        let next = number(self, META_DECISION_NEXT)?;
        let value = rows::decision_order(now, id);
        self.put(Table::DecisionOrder, &next.to_be_bytes(), value);
        self.put_number(META_DECISION_NEXT, next + 1);
        let count = number(self, META_DECISION_COUNT)?;
        self.put_number(META_DECISION_COUNT, count + 1);
        Ok(())
    }

    pub(crate) fn prune_decisions(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let mut count = number(self, META_DECISION_COUNT)?;
        let oldest_kept = now.as_millisecond() - DECISION_AGE.as_secs() * 1000;
        for (key, value) in self.rows(Table::DecisionOrder, Bound::Unbounded, PRUNED_AT_ONCE)? {
            let (arrived, id) = rows::read_decision_order(&value)
                .ok_or_else(|| StoreError::corrupt(Table::DecisionOrder, &key, &"too short"))?;
            if arrived >= oldest_kept && count <= DECISIONS {
                break;
            }
            self.delete(Table::Decisions, id);
            self.delete(Table::DecisionOrder, &key);
            count = count.saturating_sub(1);
        }
        self.put_number(META_DECISION_COUNT, count);
        Ok(())
    }
}

/// Most decisions kept.
const DECISIONS: u64 = 20_000;
/// How long a decision is kept.
const DECISION_AGE: SignedDuration = SignedDuration::from_hours(24);
