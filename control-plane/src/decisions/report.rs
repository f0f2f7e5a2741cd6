//! What a sidecar may report: refusals to which itself was a party, at a bounded rate, in bounded words.

use jiff::Timestamp;
use weft_identity::{DnsLabel, ServiceName, SpiffeId};
use weft_wire::{read_timestamp, v1, write_timestamp};

use crate::escape;
use crate::reporter::Reporter;
use crate::reports::{Limits, Rate};

/// The decision as it is stored; `None`: it is not readable, or not the reporter's to tell.
pub(super) fn read(reporter: &Reporter<'_>, decision: v1::Decision) -> Option<v1::Decision> {
    let is_readable = is_decision_id(&decision.id)
        && !matches!(
            v1::Reason::try_from(decision.reason),
            Ok(v1::Reason::Unspecified) | Err(_)
        )
        && (decision.source.is_empty() || decision.source.parse::<SpiffeId>().is_ok())
        && (decision.service.is_empty() || decision.service.parse::<ServiceName>().is_ok())
        && (decision.port.is_empty() || DnsLabel::is_valid(&decision.port));
    if !is_readable || !is_party(reporter, &decision) {
        return None;
    }
    let last_seen = past(reporter, decision.last_seen);
    Some(v1::Decision {
        port: port_name(reporter, &decision).unwrap_or(decision.port),
        method: escape::line(&decision.method, METHOD_CHARS),
        path: escape::line(&decision.path, PATH_CHARS),
        host: escape::line(&decision.host, HOST_CHARS),
        upgrade: escape::line(&decision.upgrade, METHOD_CHARS),
        detail: escape::line(&decision.detail, DETAIL_CHARS),
        count: decision.count.max(1),
        first_seen: Some(write_timestamp(
            past(reporter, decision.first_seen).min(last_seen),
        )),
        last_seen: Some(write_timestamp(last_seen)),
        reported_by: reporter.id.to_string(),
        ..decision
    })
}

/// A client tells of its own calls, a server of calls to what it offers.
fn is_party(reporter: &Reporter<'_>, decision: &v1::Decision) -> bool {
    match v1::Side::try_from(decision.side) {
        Ok(v1::Side::Client) => decision.source == reporter.id.as_str(),
        Ok(v1::Side::Server) if decision.service.is_empty() => true,
        Ok(v1::Side::Server) => {
            let service = decision.service.parse();
            service.is_ok_and(|service| reporter.may_offer(&service))
        }
        Ok(v1::Side::Unspecified) | Err(_) => false,
    }
}

/// `None`: it is told as it came.
fn port_name(reporter: &Reporter<'_>, decision: &v1::Decision) -> Option<String> {
    let service = decision.service.parse().ok()?;
    let told = decision.port.parse().ok()?;
    Some(reporter.port_name(&service, &told).to_string())
}

fn past(reporter: &Reporter<'_>, time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.and_then(|time| read_timestamp(&time).ok());
    reporter.past(time.unwrap_or(reporter.now))
}

/// 26 characters of Crockford's base32, a ULID.
pub(super) fn is_decision_id(id: &str) -> bool {
    let is_digit =
        |byte: u8| byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !b"ILOU".contains(&byte));
    id.len() == 26 && id.bytes().all(is_digit)
}

/// How much is taken of refusals.
pub(crate) const LIMITS: Limits = Limits {
    what: "decisions",
    of_one: Rate {
        burst: 500,
        per_second: 50,
    },
    of_all: Rate {
        burst: 5000,
        per_second: 500,
    },
    in_one_report: 500,
};
const METHOD_CHARS: usize = 32;
const PATH_CHARS: usize = 512;
const HOST_CHARS: usize = 255;
const DETAIL_CHARS: usize = 512;

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
