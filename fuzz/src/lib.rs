//! What each fuzz target does with its input. `tests/integration/fuzz_replay.rs` runs the same bodies over the seeds on every `cargo test`.

pub mod bodies;
