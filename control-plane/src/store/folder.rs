//! The state folder: its owner alone may enter it, and one control plane at a time.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// The exclusive right to a state folder, held until it is dropped (or the process dies).
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot prepare the state folder {path}")]
    Prepare {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("another control plane uses the state folder {path}: stop it first")]
    InUse { path: PathBuf },
}

impl StateFolder {
    /// Makes the folder if need be, closes it to others, and takes its lock.
    pub fn lock(path: &Path) -> Result<Self, FolderError> {
        let prepare = |cause| FolderError::Prepare {
            path: path.to_owned(),
            cause,
        };
        std::fs::create_dir_all(path).map_err(prepare)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(prepare)?;
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(prepare)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(FolderError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(prepare(errno.into())),
        }
        // For people: which process it is.
        lock.set_len(0).map_err(prepare)?;
        writeln!(lock, "{}", std::process::id()).map_err(prepare)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }
}
