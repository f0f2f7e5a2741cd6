//! What the user typed ([`Flags`]) becomes what the program needs ([`Config`]), or every problem is told at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_daemon::ConfigProblems;
use weft_daemon::logs::{Format, Level};
use weft_identity::TrustDomain;
use weft_identity::WrappingKey;
use zeroize::Zeroizing;

mod key_file;

/// Runs the control plane: certificates, the catalog and the policy of one mesh.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// The mesh's root of trust, for example `weft.local`.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// Folder of the store; one control plane at a time, closed to other users.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Folder for what dies with the process: addresses and the operator's socket.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// The key that everything secret at rest is sealed under: 32 bytes as hex or base64, in a file closed to others
    /// and outside the state folder. Without it, $WEFT_STATE_KEY holds the key.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// mTLS gRPC: everything but first contact.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012")]
    api: String,
    /// First contact: TLS without a client certificate.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    attestation: String,
    /// HTTP for people and monitors: /ready, /live, /metrics.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014")]
    admin: String,
    /// Unix socket where this user becomes an operator [default: operator.sock in the runtime folder]
    #[arg(long, value_name = "PATH")]
    operator_socket: Option<PathBuf>,
    /// How long the endpoints of a lost sidecar stay in the catalog.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    lease_grace: String,
    /// How long open streams may go on after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    drain: String,
    /// text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
    /// off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// What the control plane needs; cannot be invalid.
pub struct Config {
    pub trust_domain: TrustDomain,
    pub state: PathBuf,
    pub runtime: PathBuf,
    pub wrapping_key: WrappingKey,
    pub api: SocketAddr,
    pub attestation: SocketAddr,
    pub admin: SocketAddr,
    pub operator_socket: PathBuf,
    pub lease_grace: Duration,
    pub drain: Duration,
    pub log_format: Format,
    pub log_level: Level,
}

impl Config {
    /// `state_key` is the value of `$WEFT_STATE_KEY`.
    pub fn from_flags(
        flags: Flags,
        state_key: Option<Zeroizing<String>>,
    ) -> Result<Self, ConfigProblems> {
        let mut problems = ConfigProblems::new();
        let trust_domain =
            problems.require::<TrustDomain>("--trust-domain", flags.trust_domain.as_deref());
        let state = folder(&mut problems, "--state", flags.state);
        let runtime = folder(&mut problems, "--runtime", flags.runtime);
        let wrapping_key = match (&flags.key_file, state_key) {
            (Some(file), _) => key_file::read(&mut problems, file, state.as_deref()),
            (None, Some(text)) => key_file::parse(&mut problems, "$WEFT_STATE_KEY", &text),
            (None, None) => {
                problems.missing("--key-file", key_file::HOW_TO_MAKE_ONE);
                None
            }
        };
        let api = problems.parse("--api", &flags.api);
        let attestation = problems.parse("--attestation", &flags.attestation);
        let admin = problems.parse("--admin", &flags.admin);
        let lease_grace = length(&mut problems, "--lease-grace", &flags.lease_grace);
        let drain = length(&mut problems, "--drain", &flags.drain);
        let log_format = problems.parse("--log-format", &flags.log_format);
        let log_level = problems.parse("--log-level", &flags.log_level);
        let operator_socket = flags
            .operator_socket
            .or_else(|| runtime.as_ref().map(|folder| folder.join("operator.sock")));
        let config = (|| {
            Some(Self {
                trust_domain: trust_domain?,
                state: state?,
                runtime: runtime?,
                wrapping_key: wrapping_key?,
                api: api?,
                attestation: attestation?,
                admin: admin?,
                operator_socket: operator_socket?,
                lease_grace: lease_grace?,
                drain: drain?,
                log_format: log_format?,
                log_level: log_level?,
            })
        })();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }
}

fn folder(problems: &mut ConfigProblems, key: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    match path {
        Some(path) => std::path::absolute(&path)
            .map_err(|error| problems.wrong(key, path.display(), error))
            .ok(),
        None => {
            problems.missing(key, "it is required");
            None
        }
    }
}

fn length(problems: &mut ConfigProblems, key: &str, text: &str) -> Option<Duration> {
    let length: weft_catalog::Length = problems.parse(key, text)?;
    if length.get() > LONGEST {
        problems.wrong(key, text, "at most 1h");
        return None;
    }
    Some(length.get())
}

/// The environment variable that holds the wrapping key when no file does.
pub const STATE_KEY: &str = "WEFT_STATE_KEY";

const LONGEST: Duration = Duration::from_secs(3600);

/// Whether `path` lies in `folder`, links resolved as far as they exist.
fn lies_under(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(path).starts_with(real(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn flags(folder: &Path) -> Flags {
        Flags {
            trust_domain: Some("weft.local".into()),
            state: Some(folder.join("state")),
            runtime: Some(folder.join("run")),
            key_file: None,
            api: "127.0.0.1:0".into(),
            attestation: "127.0.0.1:0".into(),
            admin: "127.0.0.1:0".into(),
            operator_socket: None,
            lease_grace: "10s".into(),
            drain: "5s".into(),
            log_format: "text".into(),
            log_level: "info".into(),
        }
    }

    fn problems(flags: Flags, key: Option<&str>) -> String {
        let key = key.map(|key| Zeroizing::new(key.to_owned()));
        match Config::from_flags(flags, key) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    }

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn every_problem_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut flags = flags(folder.path());
        flags.trust_domain = Some("Not A Domain".into());
        flags.state = None;
        flags.api = "nowhere".into();
        flags.lease_grace = "soon".into();
        let told = problems(flags, None);
        for key in [
            "--trust-domain",
            "--state",
            "--api",
            "--lease-grace",
            "--key-file",
        ] {
            assert!(told.contains(key), "{key} is missing in {told}");
        }
    }

    #[test]
    fn a_key_under_the_state_folder_or_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let inside = state.join("key");
        let open = folder.path().join("open.key");
        let good = folder.path().join("good.key");
        for (path, mode) in [(&inside, 0o600), (&open, 0o640), (&good, 0o600)] {
            std::fs::write(path, KEY).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let with = |key: &Path| Flags {
            key_file: Some(key.to_owned()),
            ..flags(folder.path())
        };
        assert!(problems(with(&inside), None).contains("under the state folder"));
        assert!(problems(with(&open), None).contains("chmod 600"));
        assert_eq!(problems(with(&good), None), "");
        assert_eq!(problems(flags(folder.path()), Some(KEY)), "");
        let told = problems(flags(folder.path()), Some("a word that is secret"));
        assert!(!told.is_empty() && !told.contains("a word"), "{told}");
    }
}
