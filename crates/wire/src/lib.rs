//! The only crate that knows protobuf: generated code, and total conversions between it and the pure crates.
//!
//! Conversions are `TryFrom<&v1::…>` for reading and `From<&…>` for writing. Reading is all or nothing, and an error names the field.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod error;
mod facts;
mod flow;
mod key;
mod mesh;
mod namespace_settings;
mod packed;
mod refusal;
mod resource;
mod rule;
mod service;
#[cfg(test)]
mod tests;
pub mod text;
mod time;
mod trust;
mod verdict;
mod view;

pub use error::{ConversionError, Problem};
pub use facts::{OutsideServices, service_facts};
pub use key::{KeyError, Kind, ResourceKey};
pub use packed::{Packed, pack, resource_name, type_url, unpack};
pub use refusal::refusal_details;
pub use resource::{Resource, Spec, key_of};
pub use service::{read_address, read_health};
pub use time::{
    read_duration, read_optional_timestamp, read_timestamp, write_duration, write_timestamp,
};
pub use verdict::read_reason;
pub use view::{InboundView, OutboundView, encoded_slashes};
/// The newest schema of security messages that this crate reads.
pub use weft_policy::SCHEMA;

/// Generated code, nested as protobuf packages are.
mod generated {
    #![allow(missing_docs, clippy::all, unreachable_pub, rust_2018_idioms)]

    pub mod google {
        pub mod rpc {
            tonic::include_proto!("google.rpc");
        }
    }
    pub mod envoy {
        pub mod service {
            pub mod discovery {
                pub mod v3 {
                    tonic::include_proto!("envoy.service.discovery.v3");
                }
            }
        }
    }
    pub mod sample {
        pub mod v1 {
            tonic::include_proto!("sample.v1");
        }
    }
    pub mod weft {
        pub mod v1 {
            tonic::include_proto!("weft.v1");
        }
    }
}

/// Messages, clients and servers of the delta xDS transport.
pub use generated::envoy::service::discovery::v3 as xds;
/// `google.rpc.Status`, named by the xDS transport.
pub use generated::google::rpc;
/// Messages, client and server of the example shop's gRPC service; no part of the mesh.
pub use generated::sample::v1 as sample;
/// Messages, clients and servers of `weft.v1`, the public API.
pub use generated::weft::v1;

/// Every file descriptor of the public API, for server reflection.
pub const FILE_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
