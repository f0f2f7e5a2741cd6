//! The state folder: its owner alone may enter it, and one control plane at a time.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use weft_daemon::files::{PrivateFileError, private_folder};

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
    #[error("cannot use the state folder")]
    Private(#[from] PrivateFileError),
    #[error("another control plane uses the state folder {path}: stop it first")]
    InUse { path: PathBuf },
}

impl StateFolder {
    /// Makes the folder if need be, closed to others, and takes its lock.
    pub fn lock(path: &Path) -> Result<Self, FolderError> {
        let prepare = |cause| FolderError::Prepare {
            path: path.to_owned(),
            cause,
        };
        private_folder(path)?;
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
