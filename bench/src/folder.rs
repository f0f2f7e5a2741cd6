//! Where configurations, keys and logs of a run lie: in memory, so that Weft's keys do not reach a disk, and gone with the run.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::report;

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Removes it; none if it is kept.
    _removed: Option<TempDir>,
}

impl Folder {
    pub(crate) fn make(keep: bool) -> anyhow::Result<Self> {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        remove_stale(&parent);
        let prefix = if keep {
            KEPT.to_owned()
        } else {
            format!("{PREFIX}{}-", std::process::id())
        };
        let made = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
        let path = made.path().to_owned();
        if !keep {
            return Ok(Self {
                path,
                _removed: Some(made),
            });
        }
        report::progress(&format!(
            "configurations and logs stay in {}",
            made.keep().display()
        ));
        Ok(Self {
            path,
            _removed: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the folders of benchmarks that were killed before they could.
fn remove_stale(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another user's is theirs to remove.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

const PREFIX: &str = "weft-bench-";
const KEPT: &str = "weft-bench-kept-";
