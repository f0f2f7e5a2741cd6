//! One event for each exchange, when it ends, and only where it is asked for. What a peer chose is escaped, so that no line can be forged.

use std::time::Instant;

use weft_identity::ServicePort;

use crate::enforce::Side;

/// One exchange; written when it is dropped.
pub struct Record {
    pub side: Side,
    pub source: String,
    pub target: ServicePort,
    pub method: String,
    pub path: String,
    pub rule: String,
    pub status: u16,
    started: Instant,
}

impl Record {
    pub fn new(side: Side, source: String, target: ServicePort) -> Self {
        Self {
            side,
            source,
            target,
            method: String::new(),
            path: String::new(),
            rule: String::new(),
            status: 0,
            started: Instant::now(),
        }
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
            service = %self.target,
            method = %self.method.escape_debug(),
            path = %self.path.escape_debug(),
            status = self.status,
            rule = %self.rule,
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn row_15_control_characters_are_escaped() {
        assert_eq!(
            "/a\n{\"level\":\"x\"}\u{1b}[0m".escape_debug().to_string(),
            "/a\\n{\\\"level\\\":\\\"x\\\"}\\u{1b}[0m"
        );
    }
}
