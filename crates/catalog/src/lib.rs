//! Services, their endpoints and the settings of the whole mesh and of namespaces; and how two views of them differ.
//!
//! Pure: documents become models here, all or nothing, and every model that exists satisfies the bounds that its file states.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod documents;
mod endpoint;
mod invalid;
mod length;
mod mesh;
mod namespace_settings;
mod protocol;
mod service;
pub mod view;

pub use documents::{
    EncodedSlashes, HealthSpec, HttpProbeSpec, MeshSpec, ModeSpec, NamespaceSettingsSpec, PortSpec,
    ServiceSpec, TcpProbeSpec,
};
pub use endpoint::{Endpoint, Health, InstanceError, check_address, check_instance};
pub use invalid::{Invalid, Problem};
pub use length::{Length, LengthError};
pub use mesh::Mesh;
pub use namespace_settings::{NamespaceMode, NamespaceSettings};
pub use protocol::{Protocol, UnknownProtocol};
pub use service::{HealthCheck, Port, Probe, Service, check_health, check_ports};
