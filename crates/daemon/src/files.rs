//! Files that only this user may read, and that are whole or absent.
//!
//! Invariant: nothing is read from, or written to, a folder or file that another user owns or that others may open.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a private file or folder was not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The operating system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("{} is owned by user {owner}, not by {expected}: refused", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who should.
        expected: u32,
    },
    /// Others may open it.
    #[error("{} has mode {mode:03o}; expected {expected:03o}: refused", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        expected: u32,
    },
    /// A folder with content that others may enter.
    #[error("others may enter {} (mode {mode:03o}) and it is not empty: name a folder of its own, or close it with chmod 700", path.display())]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A link, a device or a folder in the place of a file.
    #[error("{} is not a regular file: refused", .0.display())]
    Kind(PathBuf),
    /// Larger than what the caller will read.
    #[error("{} is larger than {limit} bytes: refused", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The caller's limit.
        limit: u64,
    },
}

impl PrivateFileError {
    /// Whether there simply is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes the folder (0700) or takes the existing one, if it is this user's and closed to others. An empty one of this user's is closed;
/// one with content that others may enter is refused, as closing it might lock out whoever shares it (`/run`, `/dev/shm`, a home).
pub fn private_folder(path: &Path) -> Result<(), PrivateFileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(io_error("create", path))?;
    let metadata = fs::symlink_metadata(path).map_err(io_error("inspect", path))?;
    if !metadata.is_dir() {
        return Err(PrivateFileError::Kind(path.to_owned()));
    }
    check_owner(path, &metadata)?;
    let mode = metadata.mode() & PERMISSION_BITS;
    if mode == FOLDER_MODE {
        return Ok(());
    }
    let mut content = fs::read_dir(path).map_err(io_error("list", path))?;
    if mode & STICKY != 0 || content.next().is_some() {
        return Err(PrivateFileError::Shared {
            path: path.to_owned(),
            mode,
        });
    }
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE))
        .map_err(io_error("close", path))
}

/// Writes a file (0600) so that a reader, or a crash, meets the old content or the new one, never a part.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("remove", &temporary)(error)),
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&temporary)
        .map_err(io_error("create", &temporary))?;
    file.write_all(content)
        .map_err(io_error("write", &temporary))?;
    file.sync_all().map_err(io_error("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(io_error("rename to", path))?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync", folder))
}

/// Reads a file that must be this user's, 0600, regular, and no larger than `limit` bytes.
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>, PrivateFileError> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(no_follow)
        .open(path)
        .map_err(io_error("open", path))?;
    // Of the open file, so that what is checked is what is read.
    let metadata = file.metadata().map_err(io_error("inspect", path))?;
    if !metadata.is_file() {
        return Err(PrivateFileError::Kind(path.to_owned()));
    }
    check_owner(path, &metadata)?;
    let mode = metadata.mode() & PERMISSION_BITS;
    if mode != FILE_MODE {
        return Err(PrivateFileError::Mode {
            path: path.to_owned(),
            mode,
            expected: FILE_MODE,
        });
    }
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(io_error("read", path))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        return Err(PrivateFileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(content)
}

/// Whether the folder lies in memory only, so that what it holds never reaches a disk.
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    let kind = rustix::fs::statfs(path)?.f_type;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC]
        .iter()
        .any(|magic| i128::from(*magic) == i128::from(kind)))
}

/// Identifies this boot of this host: `None` where the system does not tell.
pub fn boot_id() -> Option<String> {
    read_trimmed("/proc/sys/kernel/random/boot_id")
}

/// Identifies this host: its machine id, else its name.
pub fn host_id() -> String {
    read_trimmed("/etc/machine-id").unwrap_or_else(|| {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    })
}

fn read_trimmed(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), PrivateFileError> {
    let expected = rustix::process::geteuid().as_raw();
    if metadata.uid() == expected {
        return Ok(());
    }
    Err(PrivateFileError::Owner {
        path: path.to_owned(),
        owner: metadata.uid(),
        expected,
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    let path = path.to_owned();
    move |source| PrivateFileError::Io {
        action,
        path,
        source,
    }
}

const FOLDER_MODE: u32 = 0o700;
/// Of folders that many share, such as `/tmp`.
const STICKY: u32 = 0o1000;
const FILE_MODE: u32 = 0o600;
const PERMISSION_BITS: u32 = 0o7777;
/// `statfs(2)`.
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("run");
        private_folder(&inner).unwrap();
        let path = inner.join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_private(&path, 3).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & PERMISSION_BITS, 0o600);
        assert_eq!(
            fs::metadata(&inner).unwrap().mode() & PERMISSION_BITS,
            0o700
        );
        assert_eq!(
            fs::read_dir(&inner).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn a_folder_that_others_use_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, mode| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & PERMISSION_BITS;

        let empty = open("empty", 0o755);
        private_folder(&empty).unwrap();
        assert_eq!(mode(&empty), 0o700);

        let shared = open("shared", 0o755);
        fs::write(shared.join("of-others"), "").unwrap();
        let sticky = open("sticky", 0o1777);
        for (path, as_before) in [(&shared, 0o755), (&sticky, 0o1777)] {
            let refused = private_folder(path);
            assert!(matches!(refused, Err(PrivateFileError::Shared { .. })));
            assert_eq!(mode(path), as_before);
        }
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_a_link_or_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_private(&path, b"secret").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_private(&link, 100).is_err());
        assert!(matches!(
            read_private(&path, 5),
            Err(PrivateFileError::TooLarge { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read_private(&path, 100),
            Err(PrivateFileError::Mode { mode: 0o640, .. })
        ));
        assert!(
            read_private(&folder.path().join("absent"), 1)
                .unwrap_err()
                .is_not_found()
        );
    }
}
