//! What a client is told when its request does not go through: a decision id and nothing about rules.

use crate::decisions::DecisionId;
use crate::enforce::Refusal;
use weft_policy::Reason;

/// How a client wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    /// A response of trailers only.
    Grpc,
}

/// An answer that this side itself gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Whole header lines.
    pub lines: String,
    pub content: String,
}

/// Policy said no.
pub fn refused(form: Form, refusal: &Refusal, decision: DecisionId) -> Answer {
    let mut answer = match form {
        Form::Json => json(
            refusal.status,
            format!(r#"{{"error":"refused by the mesh","decision":"{decision}"}}"#),
        ),
        Form::Grpc => {
            let (code, message) = (
                grpc_code(refusal),
                format!("refused by the mesh, decision {decision}"),
            );
            let details = weft_wire::refusal_details(code, &message, decision.as_str());
            let mut answer = grpc(code, &message);
            answer.lines += &format!("{DETAILS}: {details}\r\n");
            answer
        }
    };
    answer.lines += &format!("{DECISION}: {decision}\r\n");
    answer
}

/// Nothing was decided: the request could not be delivered. `why` is fixed text.
pub fn failed(form: Form, status: u16, why: &'static str) -> Answer {
    match form {
        Form::Json => json(status, format!(r#"{{"error":"{why}"}}"#)),
        Form::Grpc => grpc(UNAVAILABLE, why),
    }
}

fn json(status: u16, content: String) -> Answer {
    Answer {
        status,
        lines: "content-type: application/json\r\n".to_owned(),
        content,
    }
}

fn grpc(code: u8, message: &str) -> Answer {
    let lines = format!(
        "content-type: application/grpc\r\ngrpc-status: {code}\r\ngrpc-message: {message}\r\n"
    );
    Answer {
        status: 200,
        lines,
        content: String::new(),
    }
}

fn grpc_code(refusal: &Refusal) -> u8 {
    match refusal.reason {
        Reason::PathNotCanonical | Reason::Malformed => INVALID_ARGUMENT,
        Reason::Stale | Reason::PolicyUnreadable => UNAVAILABLE,
        Reason::NoRule
        | Reason::Quarantined
        | Reason::Revoked
        | Reason::UnknownTarget
        | Reason::Misdirected
        | Reason::WrongProtocol
        | Reason::UpgradeNotAllowed
        | Reason::Unauthenticated
        | Reason::ForbiddenAddress => PERMISSION_DENIED,
    }
}

/// Carries the decision id of a refusal.
pub const DECISION: &str = "x-weft-decision";
/// What gRPC libraries read as the status in full.
const DETAILS: &str = "grpc-status-details-bin";
const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const UNAVAILABLE: u8 = 14;
