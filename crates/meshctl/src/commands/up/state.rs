//! Where `up` keeps what it keeps: `.weft/` for what may lie on a disk, a runtime folder in memory for keys, and the
//! wrapping key in the user's config folder, outside both.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use weft_daemon::files;

use crate::context;
use crate::failure::SaysNo;

/// The folders of one mesh on this host, held by a lock so that one `up` uses them at a time.
#[derive(Debug)]
pub(super) struct State {
    /// `.weft/`: the context, the control plane's store, port numbers and logs.
    pub(super) folder: PathBuf,
    /// In memory: SVIDs, keys, snapshots, sockets.
    pub(super) runtime: PathBuf,
    /// The wrapping key's own file.
    pub(super) key_file: PathBuf,
    /// Not the runtime folder that keys should lie in: what to tell the user.
    pub(super) warning: Option<String>,
    /// Held as long as this lives.
    _lock: Lock,
}

impl State {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?;
        files::private_folder(&folder)
            .with_context(|| format!("cannot use the state folder {}", folder.display()))?;
        files::private_folder(&folder.join("logs"))?;
        let lock = Lock::take(&folder)?;
        let (runtime, warning) = runtime_folder(&folder)?;
        forget_another_mesh(&folder, &runtime)?;
        let key_file = wrapping_key()?;
        Ok(Self {
            folder,
            runtime,
            key_file,
            warning,
            _lock: lock,
        })
    }

    /// A replica's own part of the runtime folder.
    pub(super) fn replica_folder(&self, instance: &str) -> anyhow::Result<PathBuf> {
        let folder = self.runtime.join(instance);
        files::private_folder(&folder)?;
        Ok(folder)
    }

    pub(super) fn log_file(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }
}

/// Keeps a second `up` away from a state. The file goes with it; one that a dead process left locks nobody out.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// The file may be removed by the one that held it, so what was locked must still be what is there.
    fn take(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(LOCK);
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                bail!(SaysNo(format!(
                    "another `meshctl up` runs with the state in {}; stop it, or use --state",
                    state.display()
                )));
            }
            let held = file.metadata()?.ino();
            if std::fs::metadata(&path).is_ok_and(|there| there.ino() == held) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held: what another process locks from now on is its own file.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The runtime folder for this state: in memory where the system has such a place.
fn runtime_folder(state: &Path) -> anyhow::Result<(PathBuf, Option<String>)> {
    let uid = rustix::process::geteuid().as_raw();
    let user = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .map(|folder| folder.join("weft"));
    let shared = Path::new("/dev/shm");
    let base = match user.filter(|folder| folder.parent().is_some_and(Path::is_dir)) {
        Some(folder) => folder,
        None if shared.is_dir() => shared.join(format!("weft-{uid}")),
        None => std::env::temp_dir().join(format!("weft-{uid}")),
    };
    files::private_folder(&base)?;
    let runtime = base.join(short_name(state));
    files::private_folder(&runtime)?;
    let warning = (!files::is_in_memory(&runtime)?).then(|| {
        format!("{} is on a disk; private keys of workloads will lie there (set XDG_RUNTIME_DIR to a tmpfs)", runtime.display())
    });
    Ok((runtime, warning))
}

/// What lies in the runtime folder belongs to one state; where that was deleted and made anew, its SVIDs prove nothing any more.
fn forget_another_mesh(state: &Path, runtime: &Path) -> anyhow::Result<()> {
    let (mark, copy) = (state.join(MARK), runtime.join(MARK));
    if !mark.exists() {
        let mut random = [0u8; 16];
        fill_random(&mut random)?;
        files::write_private(&mark, hex(&random).as_bytes())?;
    }
    let current = files::read_private(&mark, MARK_LIMIT)?;
    if files::read_private(&copy, MARK_LIMIT).is_ok_and(|known| known == current) {
        return Ok(());
    }
    for entry in std::fs::read_dir(runtime)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?
        } else {
            std::fs::remove_file(&path)?
        }
    }
    files::write_private(&copy, &current)?;
    Ok(())
}

/// A short name that differs for each state folder: socket paths must stay under 108 bytes.
fn short_name(state: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    // FNV-1a: a name, not a secret; a collision would meet the other mesh's trust domain and be refused.
    let hash = state
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}

/// The key that wraps what the control plane stores, made once.
fn wrapping_key() -> anyhow::Result<PathBuf> {
    let Some(folder) = context::config_folder() else {
        bail!(SaysNo::new(
            "neither XDG_CONFIG_HOME nor HOME is set: there is no place for the wrapping key"
        ));
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| SaysNo(format!("cannot make {}", folder.display())))?;
    let path = folder.join("state.key");
    if !path.exists() {
        let mut key = zeroize::Zeroizing::new([0u8; 32]);
        fill_random(key.as_mut())?;
        let text = zeroize::Zeroizing::new(hex(key.as_ref()) + "\n");
        files::write_private(&path, text.as_bytes())?;
    }
    Ok(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| SaysNo::new("the system gives no random bytes").into())
}

const LOCK: &str = "up.lock";
/// Tells one state from another that had the same place.
const MARK: &str = "mesh-id";
const MARK_LIMIT: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_goes_with_its_holder_and_is_not_inherited_from_the_dead() {
        let state = tempfile::tempdir().expect("a folder");
        // As a killed process leaves it: a file that nobody holds.
        std::fs::write(state.path().join(LOCK), "").expect("written");
        let first = Lock::take(state.path()).expect("nobody holds it");
        let refused = Lock::take(state.path()).expect_err("it is held");
        assert!(refused.to_string().contains("another"), "{refused}");
        drop(first);
        assert!(!state.path().join(LOCK).exists());
        Lock::take(state.path()).expect("it is free again");
    }
}
