//! HTTP/1.1 on its way through: from a client's connection to an upstream's, head by head and byte by byte, without a general HTTP stack.
//!
//! [`connection`] is the spine: one client connection, its requests one after the other. [`head`] and [`content`] say what the bytes are,
//! [`request`] asks whether they may pass, [`exchange`] moves one request and its answer, [`flow`] one direction of that.
//!
//! Invariants: what is passed on was read by these parsers and by no other; a message with two readings is refused, never repaired; a
//! request is registered before it is judged; bytes leave only under a `Permit`; a message that was cut never looks complete.

pub mod answer;
pub mod connection;
pub mod content;
pub mod exchange;
pub mod fields;
pub mod flow;
pub mod head;
pub mod proxy;
pub mod request;
pub mod side;
pub mod timer;
pub mod upgrade;

pub use connection::{Connection, Inside};
pub use content::Content;
pub use head::{RequestHead, ResponseHead};
pub use request::{Inlet, Way};
pub use side::Side;
pub use upgrade::Upgrade;
