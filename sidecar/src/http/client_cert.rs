//! What an application is told of the peer that asks.

use weft_identity::SpiffeId;

/// The header that names a client's certificate, as Envoy writes it.
pub const CLIENT_CERT: &str = "x-forwarded-client-cert";

/// Its line in a head.
pub fn line(own: &SpiffeId, peer: &SpiffeId, peer_leaf_sha256: &str) -> Vec<u8> {
    format!("{CLIENT_CERT}: By={own};Hash={peer_leaf_sha256};URI={peer}\r\n").into_bytes()
}
