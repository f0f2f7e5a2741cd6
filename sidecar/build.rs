//! How the released binary is linked: what every start runs lies together, and relocations are packed.
//!
//! A kernel maps sixteen pages around each one that is touched, so that a start which runs a third of the program would otherwise hold
//! nearly all of it. Each flag is tried on an empty program first: a linker or a loader that does not know it goes without.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={STARTED}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    let Ok(folder) = env::current_dir() else {
        return;
    };
    let order = format!("-Wl,-T,{}", folder.join(STARTED).display());
    for flag in [order.as_str(), PACKED] {
        if links_and_runs(flag) {
            println!("cargo:rustc-link-arg-bin={BINARY}={flag}");
        } else {
            println!("cargo:warning={BINARY} is linked without {flag}: it will need more memory");
        }
    }
}

fn links_and_runs(flag: &str) -> bool {
    let set = |name: &str| env::var(name).unwrap_or_default();
    let out = PathBuf::from(set("OUT_DIR"));
    let (source, program) = (out.join("tried.rs"), out.join("tried"));
    if std::fs::write(&source, "fn main() {}").is_err() {
        return false;
    }
    let mut rustc = Command::new(set("RUSTC"));
    rustc.arg("--target").arg(set("TARGET"));
    rustc.args(
        set("CARGO_ENCODED_RUSTFLAGS")
            .split('\x1f')
            .filter(|flag| !flag.is_empty()),
    );
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc
        .arg(format!("-Clink-arg={flag}"))
        .arg("-o")
        .arg(&program)
        .arg(&source);
    let is_linked = rustc.output().is_ok_and(|done| done.status.success());
    let is_foreign = set("HOST") != set("TARGET");
    is_linked && (is_foreign || runs(&program))
}

fn runs(program: &Path) -> bool {
    Command::new(program)
        .output()
        .is_ok_and(|done| done.status.success())
}

const BINARY: &str = "weft-sidecar";
/// Written by `sidecar/link/record`.
const STARTED: &str = "link/started.ld";
/// A twentieth of the room; glibc reads it since 2.36.
const PACKED: &str = "-Wl,-z,pack-relative-relocs";
