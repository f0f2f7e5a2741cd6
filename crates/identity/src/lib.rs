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

mod bundle;
mod ca;
mod csr;
pub mod document;
mod key;
pub mod lineage;
mod name;
pub mod renewal;
mod revocation;
mod seal;
mod spiffe;
mod templates;
mod token;
mod verify;

pub use bundle::{BundleError, TrustBundle, fingerprint};
pub use ca::{CaError, Intermediate, IssuedSvid, Root, RootParts, SvidRequest};
pub use csr::{CsrError, KeyAndCsr, PublicKey, new_key_and_csr, read_csr};
pub use name::{
    DnsLabel, NameError, NameKind, Problem, RuleName, ServiceName, ServicePort, WorkloadName,
    is_mesh_host, parse_mesh_host, parse_server_name, server_name, split_mesh_host,
};
pub use revocation::Revocations;
pub use seal::{SealError, WrappingKey, WrappingKeyError, open, seal};
pub use spiffe::{SpiffeId, TrustDomain};
pub use token::{JoinToken, TokenError};
pub use verify::{Purpose, Serial, SerialError, Verified, VerifyError, verify_svid};
