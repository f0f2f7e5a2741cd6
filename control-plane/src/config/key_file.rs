//! The wrapping key: read from where a thief of the state folder does not find it, and never shown.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use weft_daemon::ConfigProblems;
use weft_identity::WrappingKey;
use zeroize::Zeroizing;

pub(super) fn read(
    problems: &mut ConfigProblems,
    path: &Path,
    state: Option<&Path>,
) -> Option<WrappingKey> {
    let mut refuse = |reason: &dyn std::fmt::Display| {
        problems.wrong("--key-file", path.display(), reason);
        None
    };
    if state.is_some_and(|state| super::lies_under(path, state)) {
        return refuse(
            &"it lies under the state folder, where a copy of the folder would hold both the lock and its key: move \
              it elsewhere",
        );
    }
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(&format_args!("{error}; {HOW_TO_MAKE_ONE}"));
        }
        Err(error) => return refuse(&error),
    };
    // Of the open file, so that what is checked is what is read.
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return refuse(&error),
    };
    if metadata.mode() & 0o077 != 0 {
        return refuse(&format_args!(
            "its mode is {:03o}, so others may read it: chmod 600 it",
            metadata.mode() & 0o777
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return refuse(&format_args!("user {} owns it", metadata.uid()));
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES));
    let limit = u64::try_from(KEY_FILE_BYTES).unwrap_or(u64::MAX);
    if let Err(error) = file.take(limit).read_to_string(&mut text) {
        return refuse(&error);
    }
    parse(problems, "--key-file", &text)
}

/// Never repeats the value: it is a secret, even a wrong one.
pub(super) fn parse(problems: &mut ConfigProblems, key: &str, text: &str) -> Option<WrappingKey> {
    WrappingKey::parse(text)
        .map_err(|error| problems.missing(key, error))
        .ok()
}

/// A key takes 64 characters at most.
const KEY_FILE_BYTES: usize = 256;

pub(super) const HOW_TO_MAKE_ONE: &str = "a key is needed to seal what is kept at rest; make one with `(umask 077; openssl rand -hex 32 > FILE)`, keep a \
     copy apart from the state folder, and give `--key-file FILE` or set WEFT_STATE_KEY to its content";
