//! The programs under test: built once, in the profile of the tests themselves, or those of the folder that `WEFT_BINARIES` names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `meshctl`, `weft-control-plane` or `weft-sidecar`, built from the sources as they are now.
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let given = || std::env::var_os("WEFT_BINARIES").map(PathBuf::from);
    let folder = FOLDER.get_or_init(|| given().map_or_else(build, workspace_path));
    let path = folder.join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

/// A relative path is one from the workspace, wherever the tests run.
fn workspace_path(folder: PathBuf) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder)
}

fn build() -> PathBuf {
    // target/<profile>/deps/<test binary>
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/<profile>/deps")
        .to_owned();
    let target = folder
        .parent()
        .expect("a profile's folder lies in the target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => panic!("no profile in {}", folder.display()),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the workspace");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--bins", "--profile", profile])
        .args([
            "-p",
            "meshctl",
            "-p",
            "weft-control-plane",
            "-p",
            "weft-sidecar",
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace)
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the programs under test do not build");
    folder
}
