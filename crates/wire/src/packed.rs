//! Resources of discovery as `google.protobuf.Any`, and the type URLs that name them.

use prost::Message;
use prost_types::Any;

use crate::error::{At, ConversionError, Problem};
use crate::v1;

/// The type URLs of discovery.
pub mod type_url {
    pub const OUTBOUND: &str = "type.googleapis.com/weft.v1.Outbound";
    pub const INBOUND: &str = "type.googleapis.com/weft.v1.Inbound";
    pub const REVOCATIONS: &str = "type.googleapis.com/weft.v1.Revocations";
    pub const BUNDLE: &str = "type.googleapis.com/weft.v1.TrustBundle";
    pub const MESH: &str = "type.googleapis.com/weft.v1.MeshSettings";

    /// Removals of power first: what a reader applies before anything else.
    pub const ALL: [&str; 5] = [REVOCATIONS, BUNDLE, MESH, INBOUND, OUTBOUND];
}

/// The names of resources of which there is one.
pub mod resource_name {
    pub const REVOCATIONS: &str = "revocations";
    pub const BUNDLE: &str = "bundle";
    pub const MESH: &str = "mesh";
}

/// A message that discovery carries.
pub trait Packed: Message + Default {
    const TYPE_URL: &'static str;
}

macro_rules! packed {
    ($($message:ident = $url:ident),* $(,)?) => {
        $(impl Packed for v1::$message {
            const TYPE_URL: &'static str = type_url::$url;
        })*
    };
}

packed! {
    Outbound = OUTBOUND,
    Inbound = INBOUND,
    Revocations = REVOCATIONS,
    TrustBundle = BUNDLE,
    MeshSettings = MESH,
}

pub fn pack<M: Packed>(message: &M) -> Any {
    Any {
        type_url: M::TYPE_URL.to_owned(),
        value: message.encode_to_vec(),
    }
}

/// Decodes a message that must be of this type.
pub fn unpack<M: Packed>(any: &Any) -> Result<M, ConversionError> {
    if any.type_url != M::TYPE_URL {
        let found = any
            .type_url
            .chars()
            .take(SHOWN_LIMIT)
            .flat_map(char::escape_default)
            .collect();
        return Err(Problem::Type {
            found,
            expected: M::TYPE_URL,
        })
        .at("typeUrl");
    }
    M::decode(any.value.as_slice()).at("value")
}

const SHOWN_LIMIT: usize = 100;
