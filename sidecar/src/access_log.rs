//! One event for each exchange, when it ends, and only where it is asked for: the rule that allowed it, that it was learned, or the decision
//! that refused it.
//! What a peer chose is escaped, so that no line can be forged.

use std::time::Instant;

use weft_policy::Reason;

use crate::decisions::DecisionId;
use crate::enforce::{Permit, Side};

/// One exchange; written when it is dropped.
pub struct Record {
    pub side: Side,
    pub source: String,
    /// `namespace/service:port`, as far as it is known.
    pub target: String,
    pub method: String,
    pub path: String,
    rule: String,
    /// Why no rule allows it, where learn mode let it pass.
    learned: Option<Reason>,
    pub status: u16,
    pub refused: Option<(DecisionId, Reason)>,
    started: Instant,
}

impl Record {
    pub fn new(side: Side, source: String, target: String) -> Self {
        Self {
            side,
            source,
            target,
            method: String::new(),
            path: String::new(),
            rule: String::new(),
            learned: None,
            status: 0,
            refused: None,
            started: Instant::now(),
        }
    }

    pub fn permitted_by(&mut self, permit: &Permit) {
        self.rule = permit.rule().map(ToString::to_string).unwrap_or_default();
        self.learned = permit.learned_for();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let side = match self.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        tracing::info!(
            target: "access",
            side,
            source = %self.source.escape_debug(),
            service = %self.target.escape_debug(),
            method = %self.method.escape_debug(),
            path = %self.path.escape_debug(),
            status = self.status,
            rule = %self.rule,
            learned = self.learned.map(Reason::as_str),
            decision = self.refused.map(|(decision, _)| tracing::field::display(decision)),
            reason = self.refused.map(|(_, reason)| reason.as_str()),
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
    }
}
