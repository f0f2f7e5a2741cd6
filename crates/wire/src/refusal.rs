//! A refusal as gRPC clients read it: `google.rpc.Status` with an `ErrorInfo` (AIP-193), in the header `grpc-status-details-bin`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message;

use crate::rpc;

/// The value of `grpc-status-details-bin` for a refusal: its code and message again, and the decision in a form for programs.
pub fn refusal_details(code: u8, message: &str, decision: &str) -> String {
    let info = ErrorInfo {
        reason: REASON.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: BTreeMap::from([("decision".to_owned(), decision.to_owned())]),
    };
    let status = rpc::Status {
        code: i32::from(code),
        message: message.to_owned(),
        details: vec![prost_types::Any {
            type_url: ERROR_INFO.to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    // gRPC over HTTP/2, "Custom-Metadata": binary values are base64, and senders leave the padding out
    STANDARD_NO_PAD.encode(status.encode_to_vec())
}

/// `google.rpc.ErrorInfo`, by its public field numbers.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    /// Unique within the domain, in capitals.
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

const REASON: &str = "REFUSED_BY_MESH";
const DOMAIN: &str = "weft.dev";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_details_hold_the_status_again_and_the_decision() {
        let text = refusal_details(7, "refused", "01ARYZ6S410000000000000000");
        assert!(!text.contains('='));
        let bytes = STANDARD_NO_PAD.decode(text).unwrap();
        let status = rpc::Status::decode(bytes.as_slice()).unwrap();
        assert_eq!((status.code, status.message.as_str()), (7, "refused"));
        let [any] = status.details.as_slice() else {
            panic!("{status:?}");
        };
        assert_eq!(any.type_url, ERROR_INFO);
        let info = ErrorInfo::decode(any.value.as_slice()).unwrap();
        assert_eq!(info.metadata["decision"], "01ARYZ6S410000000000000000");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (REASON, DOMAIN)
        );
    }
}
