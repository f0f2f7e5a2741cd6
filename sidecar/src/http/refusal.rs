//! What a client is told when its request does not go through: a decision id and nothing about rules.

use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::Body;
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

/// Policy said no.
pub fn refused(form: Form, refusal: &Refusal, decision: DecisionId) -> Response<Body> {
    let mut response = match form {
        Form::Json => {
            let body = format!(r#"{{"error":"refused by the mesh","decision":"{decision}"}}"#);
            json(status(refusal.status), body)
        }
        Form::Grpc => grpc(
            grpc_code(refusal),
            &format!("refused by the mesh, decision {decision}"),
        ),
    };
    if let Ok(id) = HeaderValue::from_str(decision.as_str()) {
        response.headers_mut().insert(DECISION, id);
    }
    response
}

/// Nothing was decided: the request could not be delivered. `why` is fixed text.
pub fn failed(form: Form, code: StatusCode, why: &'static str) -> Response<Body> {
    match form {
        Form::Json => json(code, format!(r#"{{"error":"{why}"}}"#)),
        Form::Grpc => grpc(UNAVAILABLE, why),
    }
}

/// The connection ends with this response.
pub fn closing(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn json(code: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn grpc(code: u8, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::from_str(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::FORBIDDEN)
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
        | Reason::Unauthenticated => PERMISSION_DENIED,
    }
}

/// Carries the decision id of a refusal.
pub const DECISION: HeaderName = HeaderName::from_static("x-weft-decision");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const UNAVAILABLE: u8 = 14;
