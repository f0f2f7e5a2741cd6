//! Starts real processes of the mesh on free ports and temporary folders, for every test in this folder.
//!
//! A [`Mesh`] is a control plane and an operator; [`Sidecar`]s are added to it; [`backend`] holds small programs to put
//! behind them, run in the test's own process. What is dropped is stopped: nothing stays behind.

#![allow(
    clippy::print_stderr,
    reason = "a failed test shows what its processes wrote"
)]

pub mod backend;
mod binaries;
mod defences;
mod dns;
pub mod documents;
mod fake_control_plane;
mod first_view;
pub mod flood;
pub mod flooded;
pub mod forge;
pub mod frames;
pub mod guard;
mod http;
mod keep_alive;
mod load;
mod mesh;
mod others;
pub mod peer;
mod process;
mod recorder;
mod replica;
mod sidecar;
mod terminal;
mod up;
mod wait;

pub use binaries::binary;
pub use defences::{Defence, TestName};
pub use dns::Dns;
pub use fake_control_plane::FakeControlPlane;
pub use first_view::{inbound, ready_after_first_view};
pub use forge::Forge;
pub use http::{Response, get, raw, request};
pub use keep_alive::KeepAlive;
pub use load::{Load, Outcome};
pub use mesh::{Mesh, MeshOptions, Ran};
pub use others::Noticed;
pub use peer::Svid;
pub use process::Process;
pub use recorder::Recorder;
pub use replica::Replica;
pub use sidecar::{Sidecar, SidecarSpec};
pub use terminal::Terminal;
pub use up::{Up, assert_free};
pub use wait::{eventually, eventually_within};
