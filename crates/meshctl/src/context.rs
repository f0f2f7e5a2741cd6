//! The context: which mesh a command talks to and the operator's certificate for it.
//!
//! Invariant: nothing is read from a folder or file that another user owns or could have written. A planted `.weft/`
//! that passed for ours would choose the mesh an operator edits, so a found one is ignored with a warning and one that
//! was named is an error.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use weft_identity::{DnsLabel, TrustBundle, TrustDomain};
use zeroize::Zeroizing;

use crate::failure::SaysNo;

/// One mesh as its operator knows it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) bundle: TrustBundle,
}

/// What `context.yaml` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) operator: DnsLabel,
    /// `host:port` of the control plane's API.
    pub(crate) api: String,
    /// `host:port` of first contact.
    pub(crate) attestation: String,
    /// Where this host's control plane renews the operator's certificate, if it runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operator_socket: Option<PathBuf>,
}

/// Looks for the context: the named folder, else the nearest `.weft/` upwards, else the user's config folder.
pub(crate) fn find(named: Option<&Path>, mut warn: impl FnMut(String)) -> anyhow::Result<Context> {
    let uid = rustix::process::geteuid().as_raw();
    if let Some(folder) = named {
        return match open(folder, uid) {
            Ok(Some(context)) => Ok(context),
            Ok(None) => bail!(
                "{} holds no {SETTINGS}; `meshctl up` or `meshctl login` makes one",
                folder.display()
            ),
            Err(error) => Err(error.into()),
        };
    }
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    match search(candidates(&here), uid, &mut warn)? {
        Some(context) => Ok(context),
        None => bail!(
            "no mesh here: no .weft/ in {} or above and none in the user's config folder; start one with `meshctl up FILE`, \
             or name one with --context or $WEFT_CONTEXT",
            here.display()
        ),
    }
}

/// `.weft/` of the folder and of each one above it, then the user's config folder.
fn candidates(here: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = here
        .ancestors()
        .map(|folder| folder.join(".weft"))
        .collect();
    folders.extend(config_folder());
    folders
}

/// `$XDG_CONFIG_HOME/weft` or `~/.config/weft`.
pub(crate) fn config_folder() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CONFIG_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .map(|folder| folder.join("weft"))
}

fn search(
    folders: Vec<PathBuf>,
    uid: u32,
    warn: &mut dyn FnMut(String),
) -> anyhow::Result<Option<Context>> {
    for folder in folders {
        match open(&folder, uid) {
            Ok(Some(context)) => return Ok(Some(context)),
            Ok(None) => {}
            Err(error @ ContextError::Untrusted { .. }) => {
                warn(format!("ignoring a context: {error}"))
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Opens a context folder; `None` when there is none.
pub(crate) fn open(folder: &Path, uid: u32) -> Result<Option<Context>, ContextError> {
    let Some(trusted) = TrustedFolder::open(folder, uid)? else {
        return Ok(None);
    };
    let Some(settings) = trusted.read(SETTINGS, Secrecy::Public)? else {
        return Ok(None);
    };
    let damaged = |file: &'static str| {
        move |problem: String| ContextError::Damaged {
            path: folder.join(file),
            problem,
        }
    };
    let settings: Settings = std::str::from_utf8(&settings)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_saphyr::from_str(text).map_err(|error| error.to_string()))
        .map_err(damaged(SETTINGS))?;
    let read = |file, secrecy| {
        let missing = || ContextError::Damaged {
            path: folder.join(file),
            problem: "it is missing".into(),
        };
        trusted
            .read(file, secrecy)
            .and_then(|text| text.ok_or_else(missing))
    };
    let chain = certificates(&read(CHAIN, Secrecy::Public)?).map_err(damaged(CHAIN))?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY, Secrecy::Secret)?)
        .map_err(|error| damaged(KEY)(error.to_string()))?;
    let roots = certificates(&read(BUNDLE, Secrecy::Public)?).map_err(damaged(BUNDLE))?;
    let bundle = TrustBundle::new(settings.trust_domain.clone(), roots, 0)
        .map_err(|error| damaged(BUNDLE)(error.to_string()))?;
    Ok(Some(Context {
        folder: folder.to_owned(),
        settings,
        chain,
        key,
        bundle,
    }))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() {
        Err("it holds no certificate".to_owned())
    } else {
        Ok(found)
    }
}

/// Writes a context so that only this user can read or change it; each file is replaced whole.
pub(crate) fn save(
    folder: &Path,
    settings: &Settings,
    chain: &[CertificateDer<'_>],
    key_pkcs8: &[u8],
    roots: &[CertificateDer<'_>],
) -> anyhow::Result<()> {
    let making = || {
        SaysNo(format!(
            "cannot make the context folder {}",
            folder.display()
        ))
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(making)?;
    if TrustedFolder::open(folder, rustix::process::geteuid().as_raw())?.is_none() {
        bail!(SaysNo(format!("{} went away", folder.display())));
    }
    let key = Zeroizing::new(pem("PRIVATE KEY", key_pkcs8));
    let many = |ders: &[CertificateDer<'_>]| {
        ders.iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect::<String>()
    };
    replace(folder, KEY, key.as_bytes())?;
    replace(folder, CHAIN, many(chain).as_bytes())?;
    replace(folder, BUNDLE, many(roots).as_bytes())?;
    // Last: a folder without it is no context.
    replace(
        folder,
        SETTINGS,
        serde_saphyr::to_string(settings)?.as_bytes(),
    )
}

fn replace(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    let write = || -> io::Result<()> {
        // Created with mode 0600 by the library.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| SaysNo(format!("cannot write {}", path.display())))
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    let mut text = String::with_capacity(body.len() + body.len() / PEM_COLUMNS + 64);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for (index, character) in body.chars().enumerate() {
        if index > 0 && index % PEM_COLUMNS == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

/// The key in the form that [`Context`] holds.
pub(crate) fn private_key(pkcs8: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()))
}

/// A folder that this user owns and nobody else can write, held open so that what is read is what was checked.
struct TrustedFolder {
    path: PathBuf,
    folder: File,
    uid: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
}

impl TrustedFolder {
    fn open(path: &Path, uid: u32) -> Result<Option<Self>, ContextError> {
        // The link itself must be ours too: whoever owns it chooses where it points.
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.uid() != uid => {
                return Err(untrusted(path, "it belongs to another user"));
            }
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => {
                return Err(ContextError::Unreadable {
                    path: path.to_owned(),
                    source,
                });
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unreadable = |source: io::Error| ContextError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let folder = match rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(folder) => File::from(folder),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        vouch(
            path,
            &folder.metadata().map_err(unreadable)?,
            uid,
            Secrecy::Public,
        )?;
        Ok(Some(Self {
            path: path.to_owned(),
            folder,
            uid,
        }))
    }

    /// The content of one file of the folder, if it is there; never through a symbolic link.
    fn read(
        &self,
        name: &str,
        secrecy: Secrecy,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ContextError> {
        let path = self.path.join(name);
        let unreadable = |source: io::Error| ContextError::Unreadable {
            path: path.clone(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if is_absent(&error.into()) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return Err(untrusted(&path, "it is a symbolic link")),
            Err(error) => return Err(unreadable(error.into())),
        };
        vouch(
            &path,
            &file.metadata().map_err(unreadable)?,
            self.uid,
            secrecy,
        )?;
        let mut content = Zeroizing::new(Vec::new());
        (&mut file)
            .take(FILE_LIMIT)
            .read_to_end(&mut content)
            .map_err(unreadable)?;
        Ok(Some(content))
    }
}

fn vouch(
    path: &Path,
    found: &std::fs::Metadata,
    uid: u32,
    secrecy: Secrecy,
) -> Result<(), ContextError> {
    let mode = found.permissions().mode();
    if found.uid() != uid {
        Err(untrusted(path, "it belongs to another user"))
    } else if mode & 0o022 != 0 {
        Err(untrusted(
            path,
            "others can write it (`chmod go-w` it if it is yours)",
        ))
    } else if secrecy == Secrecy::Secret && mode & 0o077 != 0 {
        Err(untrusted(
            path,
            "others can read the key (`chmod 600` it, and make a new one with `meshctl login`)",
        ))
    } else {
        Ok(())
    }
}

fn untrusted(path: &Path, why: &'static str) -> ContextError {
    ContextError::Untrusted {
        path: path.to_owned(),
        why,
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    #[error("{} is not trusted: {why}", .path.display())]
    Untrusted { path: PathBuf, why: &'static str },
    #[error("cannot read {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged { path: PathBuf, problem: String },
}

const SETTINGS: &str = "context.yaml";
const CHAIN: &str = "operator.pem";
const KEY: &str = "operator.key";
const BUNDLE: &str = "bundle.pem";
const PEM_COLUMNS: usize = 64;
/// No file of a context comes near this size.
const FILE_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests;
