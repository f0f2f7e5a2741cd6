//! HTTP/2 on its way through.

pub mod hpack;
