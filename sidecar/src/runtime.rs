//! The runtime folder: the SVID and its key, a key that waits for its certificate, the snapshot, and what is listened on.
//!
//! Invariant: the folder is this user's alone; a file in it that is not is as good as absent, and said so. One process has it at a time: a
//! second one would renew from an SVID that the first has left behind, and its lineage would be frozen.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use prost::Message;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use weft_daemon::files::{self, PrivateFileError};
use weft_identity::{CsrError, KeyAndCsr, SpiffeId, TrustBundle, new_key_and_csr};
use weft_wire::v1;
use zeroize::Zeroizing;

use crate::identity::{Candidate, OwnSvid, OwnSvidError};
use crate::snapshot::MacKey;

/// The opened runtime folder.
#[derive(Debug, Clone)]
pub struct Runtime {
    folder: PathBuf,
    /// Given back with the last clone, or by the system when the process is gone.
    _lock: Arc<File>,
}

/// What was found of an earlier process of this workload.
pub(crate) struct Found {
    pub svid: OwnSvid,
    pub bundle: TrustBundle,
    /// The key of a snapshot that was written before the last renewal.
    pub previous_mac_key: Option<MacKey>,
}

/// Why something in the folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("the runtime folder {} cannot be locked", folder.display())]
    Lock {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("another process uses the runtime folder {}: stop it first, or give each sidecar a folder of its own", .0.display())]
    InUse(PathBuf),
    #[error("the stored SVID cannot be read: {0}")]
    Content(&'static str),
    #[error("the stored SVID is not used")]
    Svid(#[from] OwnSvidError),
    #[error("no key could be made")]
    Key(#[from] CsrError),
}

#[derive(Serialize, Deserialize)]
struct StoredSvid {
    chain: Vec<String>,
    key: Secret,
    issued_at: Timestamp,
    renew_every_seconds: u64,
    bundle: String,
    previous_mac_key: Option<Secret>,
}

#[derive(Serialize, Deserialize)]
struct StoredRequest {
    key: Secret,
    csr: String,
}

/// Text that is wiped when it is dropped.
struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Runtime {
    /// Makes or takes the folder, and locks it.
    pub fn open(folder: &Path) -> Result<Self, RuntimeError> {
        files::private_folder(folder)?;
        let lock = Arc::new(lock(folder)?);
        let in_memory = files::is_in_memory(folder).unwrap_or(false);
        if !in_memory {
            tracing::warn!(
                folder = %folder.display(),
                "THE RUNTIME FOLDER IS NOT IN MEMORY: the private key will be written to a disk; use a tmpfs such as /dev/shm or /run"
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The SVID of an earlier process, if it is still to be believed.
    pub(crate) fn load_svid(
        &self,
        own_id: &SpiffeId,
        now: Timestamp,
    ) -> Result<Option<Found>, RuntimeError> {
        let content = match files::read_private(&self.path(SVID), SVID_LIMIT) {
            Ok(content) => Zeroizing::new(content),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stored: StoredSvid = serde_json::from_slice(&content)
            .map_err(|_| RuntimeError::Content("not its format"))?;
        let bundle = v1::TrustBundle::decode(decode(&stored.bundle)?.as_slice())
            .ok()
            .and_then(|bundle| TrustBundle::try_from(&bundle).ok())
            .ok_or(RuntimeError::Content("its bundle"))?;
        let chain = stored
            .chain
            .iter()
            .map(|der| decode(der).map(CertificateDer::from))
            .collect::<Result<_, _>>()?;
        let candidate = Candidate {
            chain,
            key_pkcs8: Zeroizing::new(decode(&stored.key.0)?),
            issued_at: stored.issued_at,
            renew_every: Duration::from_secs(stored.renew_every_seconds),
        };
        let previous_mac_key = stored
            .previous_mac_key
            .as_ref()
            .and_then(|key| MacKey::from_text(&key.0));
        let svid = OwnSvid::believe(candidate, own_id, &bundle, now)?;
        Ok(Some(Found {
            svid,
            bundle,
            previous_mac_key,
        }))
    }

    pub(crate) fn store_svid(
        &self,
        svid: &OwnSvid,
        bundle: &TrustBundle,
        previous: Option<&MacKey>,
    ) -> Result<(), RuntimeError> {
        let stored = StoredSvid {
            chain: svid
                .certified
                .cert
                .iter()
                .map(|der| BASE64.encode(der))
                .collect(),
            key: Secret(Zeroizing::new(BASE64.encode(&*svid.key_pkcs8))),
            issued_at: svid.issued_at,
            renew_every_seconds: svid.renew_every.as_secs(),
            bundle: BASE64.encode(v1::TrustBundle::from(bundle).encode_to_vec()),
            previous_mac_key: previous.map(|key| Secret(key.to_text())),
        };
        self.write_json(SVID, &stored)
    }

    /// The key that waits for its certificate; the same one until [`Runtime::request_answered`], over restarts too, so that a lost answer
    /// can be asked for again.
    pub(crate) fn pending_request(&self) -> Result<KeyAndCsr, RuntimeError> {
        if let Some(pending) = self.stored_request() {
            return Ok(pending);
        }
        let made = new_key_and_csr()?;
        let stored = StoredRequest {
            key: Secret(Zeroizing::new(BASE64.encode(&*made.key_pkcs8))),
            csr: BASE64.encode(&made.csr_der),
        };
        self.write_json(PENDING, &stored)?;
        Ok(made)
    }

    /// The pending key has become the own key, or is given up.
    pub(crate) fn request_answered(&self) {
        // A key that stays is tried again, or found out by `forget_answered`.
        let _ = std::fs::remove_file(self.path(PENDING));
    }

    /// Gives up the pending key if it has become the own key before: a crash came between keeping the SVID and saying so. Renewed with
    /// its own key it would be refused every time.
    pub(crate) fn forget_answered(&self, own: &OwnSvid) {
        let is_own = |pending: KeyAndCsr| *pending.key_pkcs8 == *own.key_pkcs8;
        if self.stored_request().is_some_and(is_own) {
            self.request_answered();
        }
    }

    pub(crate) fn read_snapshot(&self) -> Result<Vec<u8>, PrivateFileError> {
        files::read_private(&self.path(SNAPSHOT), SNAPSHOT_LIMIT)
    }

    pub(crate) fn write_snapshot(&self, content: &[u8]) -> Result<(), PrivateFileError> {
        files::write_private(&self.path(SNAPSHOT), content)
    }

    pub(crate) fn read_hearing(&self) -> Result<Vec<u8>, PrivateFileError> {
        files::read_private(&self.path(HEARING), HEARING_LIMIT)
    }

    pub(crate) fn write_hearing(&self, content: &[u8]) -> Result<(), PrivateFileError> {
        files::write_private(&self.path(HEARING), content)
    }

    pub(crate) fn forget_hearing(&self) {
        // One that stays names another snapshot and is passed over.
        let _ = std::fs::remove_file(self.path(HEARING));
    }

    /// Tells whoever started this process where it listens.
    pub(crate) fn write_addresses(
        &self,
        addresses: &serde_json::Value,
    ) -> Result<(), PrivateFileError> {
        files::write_private(&self.path(ADDRESSES), addresses.to_string().as_bytes())
    }

    fn stored_request(&self) -> Option<KeyAndCsr> {
        let content = Zeroizing::new(files::read_private(&self.path(PENDING), SVID_LIMIT).ok()?);
        let stored: StoredRequest = serde_json::from_slice(&content).ok()?;
        let key_pkcs8 = Zeroizing::new(decode(&stored.key.0).ok()?);
        Some(KeyAndCsr {
            key_pkcs8,
            csr_der: decode(&stored.csr).ok()?,
        })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RuntimeError> {
        let text =
            serde_json::to_vec(value).map_err(|_| RuntimeError::Content("it cannot be written"))?;
        Ok(files::write_private(
            &self.path(name),
            &Zeroizing::new(text),
        )?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn lock(folder: &Path) -> Result<File, RuntimeError> {
    let cannot = |source| RuntimeError::Lock {
        folder: folder.to_owned(),
        source,
    };
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(folder.join(LOCK))
        .map_err(cannot)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RuntimeError::InUse(folder.to_owned())),
        Err(error) => Err(cannot(error.into())),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, RuntimeError> {
    BASE64
        .decode(text)
        .map_err(|_| RuntimeError::Content("not base64"))
}

/// Never deleted: who holds a lock on a deleted file shuts nobody out.
const LOCK: &str = "lock";
const SVID: &str = "svid.json";
const PENDING: &str = "pending.json";
const SNAPSHOT: &str = "snapshot";
/// When the control plane was last heard, if the snapshot does not tell it.
const HEARING: &str = "heard";
const ADDRESSES: &str = "sidecar.json";
const SVID_LIMIT: u64 = 1 << 20;
const SNAPSHOT_LIMIT: u64 = 256 << 20;
const HEARING_LIMIT: u64 = 1 << 12;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::fixture::{API, id};
    use crate::two_sidecars::Authority;

    #[test]
    fn row_18_a_snapshot_with_another_mode_or_owner_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(folder.path()).unwrap();
        let path = folder.path().join(SNAPSHOT);
        runtime.write_snapshot(b"content").unwrap();
        assert_eq!(runtime.read_snapshot().unwrap(), b"content");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            runtime.read_snapshot(),
            Err(PrivateFileError::Mode { .. })
        ));
        runtime.write_snapshot(b"content").unwrap();
        // Only root may give a file away.
        if chown(&path, Some(65_534), None).is_ok() {
            assert!(matches!(
                runtime.read_snapshot(),
                Err(PrivateFileError::Owner { .. })
            ));
        }
    }

    #[test]
    fn a_pending_key_stays_the_same_until_it_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(folder.path()).unwrap();
        let first = runtime.pending_request().unwrap().csr_der;
        assert_eq!(runtime.pending_request().unwrap().csr_der, first);
        runtime.request_answered();
        assert_ne!(runtime.pending_request().unwrap().csr_der, first);
    }

    #[test]
    fn a_pending_key_that_became_the_own_key_is_given_up_and_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(folder.path()).unwrap();
        let authority = Authority::new();
        let pending = runtime.pending_request().unwrap();
        let csr = pending.csr_der.clone();
        runtime.forget_answered(&authority.svid(&id(API)));
        assert_eq!(runtime.pending_request().unwrap().csr_der, csr);

        let own = authority.svid_of(&id(API), pending);
        runtime.forget_answered(&own);
        assert_ne!(runtime.pending_request().unwrap().csr_der, csr);
    }

    #[test]
    fn one_process_has_the_folder_at_a_time_and_another_is_told_which() {
        let folder = tempfile::tempdir().unwrap();
        let first = Runtime::open(folder.path()).unwrap();
        let second = Runtime::open(folder.path()).unwrap_err();
        assert!(matches!(second, RuntimeError::InUse(_)), "{second:?}");
        let named = folder.path().display().to_string();
        assert!(second.to_string().contains(&named), "{second}");
        drop(first.clone());
        assert!(Runtime::open(folder.path()).is_err());
        drop(first);
        assert!(Runtime::open(folder.path()).is_ok());
    }
}
