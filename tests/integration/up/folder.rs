//! A folder with a mesh file, for an `up` that prints its table or does not get that far.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use weft_tests::{assert_free, binary};

#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        Self { folder }
    }

    /// With the example's files.
    pub(super) fn with_the_shop() -> Self {
        let read = |name: &str| {
            let path = format!("{}/../examples/shop/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).expect("the example")
        };
        Self::new(&[
            ("mesh.yaml", &read("mesh.yaml")),
            ("services.yaml", &read("services.yaml")),
            ("policy.yaml", &read("policy.yaml")),
        ])
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `meshctl up` in this folder; what it keeps elsewhere lies here too.
    pub(super) fn up(&self, arguments: &[&str]) -> Command {
        let mut command = self.meshctl(&["up"]);
        command.args(arguments);
        command
    }

    pub(super) fn meshctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("meshctl"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env("XDG_RUNTIME_DIR", self.path())
            .env_remove("WEFT_CONTEXT");
        command
    }

    /// The command lines of processes that run in this folder or below it, `up` itself left out.
    pub(super) fn processes(&self) -> Vec<String> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let here = entries
            .map(|entry| entry.path())
            .filter(|process| {
                std::fs::read_link(process.join("cwd"))
                    .is_ok_and(|cwd| cwd.starts_with(self.path()))
            })
            .map(command_line);
        here.filter(|line| !line.contains(" up mesh.yaml"))
            .collect()
    }

    /// No process, port or lock.
    #[track_caller]
    pub(super) fn assert_nothing_left(&self) {
        self.assert_nothing_left_of(".weft");
    }

    /// The same, with the state in another folder.
    #[track_caller]
    pub(super) fn assert_nothing_left_of(&self, state: &str) {
        let left = self.processes();
        assert!(left.is_empty(), "processes are left: {left:?}");
        let state = self.path().join(state);
        assert!(!state.join("up.lock").exists(), "the lock is left");
        let ports = std::fs::read(state.join("ports.json")).expect("ports were assigned");
        let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
        for port in ports.as_object().expect("a map").values() {
            let number = port.as_u64().and_then(|port| u16::try_from(port).ok());
            assert_free((Ipv4Addr::LOCALHOST, number.expect("a port")).into());
        }
    }
}

fn command_line(process: PathBuf) -> String {
    let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
