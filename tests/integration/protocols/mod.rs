//! What applications speak passes through two sidecars unchanged: HTTP/1.1, HTTP/2, gRPC, WebSocket and bytes.

mod answers_early;
mod grpc;
mod http1;
mod http2;
mod large;
mod tcp;
