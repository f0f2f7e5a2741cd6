//! Each capability from outside: real processes, real sockets.

mod import_edges;
mod rollout;
