//! Compiles the protocol definitions with a compiler written in Rust: nothing else needs to be installed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let files = [
        "weft/v1/attestation.proto",
        "weft/v1/resources.proto",
        "weft/v1/registration.proto",
        "weft/v1/discovery.proto",
        "weft/v1/decisions.proto",
        "weft/v1/flows.proto",
        "weft/v1/operations.proto",
        "sample/v1/orders.proto",
        "envoy/service/discovery/v3/discovery.proto",
    ];
    let descriptors = protox::compile(files, [&proto])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
