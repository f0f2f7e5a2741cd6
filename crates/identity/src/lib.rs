//! Identity: names, certificates and the rules that decide whom to believe.
//!
//! Pure: no socket, no file, no clock. Time and the randomness of serials, tokens and jitter are arguments; only the making
//! of a key draws randomness by itself.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod document;
mod name;
mod spiffe;

pub use name::{
    DnsLabel, NameError, NameKind, Problem, RuleName, ServiceName, ServicePort, WorkloadName,
    parse_mesh_host, parse_server_name, server_name,
};
pub use spiffe::{SpiffeId, TrustDomain};
