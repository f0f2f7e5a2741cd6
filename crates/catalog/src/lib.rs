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

mod address;
pub mod documents;
mod endpoint;
mod external;
mod host;
mod invalid;
mod length;
mod mesh;
mod namespace_settings;
mod protocol;
mod service;
pub mod view;

pub use address::{AddressKind, Cidr, CidrError, may_dial};
pub use documents::{
    EncodedSlashes, HealthSpec, HttpProbeSpec, MeshSpec, ModeSpec, NamespaceSettingsSpec, PortSpec,
    ServiceSpec, ServiceType, TcpProbeSpec,
};
pub use endpoint::{Endpoint, Health, InstanceError, check_address, check_instance};
pub use external::{External, named, overlaps};
pub use host::{HostError, HostName, HostPattern};
pub use invalid::{Invalid, Problem};
pub use length::{Length, LengthError};
pub use mesh::Mesh;
pub use namespace_settings::{NamespaceMode, NamespaceSettings};
pub use protocol::{Protocol, UnknownProtocol};
pub use service::{
    HealthCheck, Port, Probe, Service, check_health, check_mesh_ports, check_outside_ports,
    check_ports, required_schema,
};
