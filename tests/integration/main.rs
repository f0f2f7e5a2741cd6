//! Each capability from outside: real processes, real sockets.

mod rollout;
