//! How a sidecar comes by its first SVID: the one of an earlier process if it still holds, else by its join token.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tonic::Code;
use weft_daemon::Backoff;
use weft_identity::{JoinToken, KeyAndCsr, SpiffeId, TokenError, TrustBundle, fingerprint};
use weft_wire::v1;
use weft_wire::v1::attestation_client::AttestationClient;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::control_plane::{ControlPlaneError, first_contact};
use crate::identity::{Candidate, OwnSvid, OwnSvidError};
use crate::runtime::{Runtime, RuntimeError};
use crate::snapshot::MacKey;

/// Who this sidecar is, and whom it believes.
pub(crate) struct Proven {
    pub svid: OwnSvid,
    pub bundle: Arc<TrustBundle>,
    /// The key of a snapshot that was written before the last renewal.
    pub previous_mac_key: Option<MacKey>,
}

/// Why there is no SVID.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    #[error(
        "no SVID is stored and the configuration names no joinTokenFile; create one with `meshctl token create {0}`"
    )]
    NoToken(String),
    #[error("cannot read the join token at {}", path.display())]
    ReadToken {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the join token at {} is not one", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: TokenError,
    },
    #[error("the join token is for the trust domain {token}, not {expected}")]
    OtherTrustDomain { token: String, expected: String },
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("the control plane refused to attest this workload ({code:?}): {message}")]
    Refused { code: Code, message: String },
    #[error("the control plane's answer is not believed: {0}")]
    Answer(&'static str),
    #[error("the control plane's answer is not believed")]
    Svid(#[from] OwnSvidError),
}

/// The stored SVID, or a first one.
pub(crate) async fn prove(config: &Config, runtime: &Runtime) -> Result<Proven, BootstrapError> {
    match runtime.load_svid(&config.own_id, Timestamp::now()) {
        Ok(Some(found)) if names_another_root(config, &found.bundle) => {
            tracing::warn!(
                "the join token is for a mesh with another root; the stored SVID is not used"
            );
        }
        Ok(Some(found)) => {
            tracing::info!(id = %config.own_id, not_after = %found.svid.verified.not_after, "going on with the stored SVID");
            let bundle = Arc::new(found.bundle);
            return Ok(Proven {
                svid: found.svid,
                bundle,
                previous_mac_key: found.previous_mac_key,
            });
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(error = %chain_of(&error), "the stored SVID is not used"),
    }
    attest(config, runtime).await
}

/// Whether a join token lies ready that was made by a control plane which the stored SVID knows nothing of: its store was made
/// anew, and what is stored here would be refused for ever.
fn names_another_root(config: &Config, stored: &TrustBundle) -> bool {
    let Some(Ok((_, token))) = config.join_token_file.as_deref().map(read_token) else {
        return false;
    };
    let pinned = token.root_fingerprint();
    !stored.roots.iter().any(|root| fingerprint(root) == *pinned)
}

/// Exchanges the join token, for as long as it takes to reach a control plane.
pub(crate) async fn attest(config: &Config, runtime: &Runtime) -> Result<Proven, BootstrapError> {
    let path = config
        .join_token_file
        .as_deref()
        .ok_or_else(|| BootstrapError::NoToken(config.workload.to_string()))?;
    let (text, token) = read_token(path)?;
    if *token.trust_domain() != config.trust_domain {
        let (token, expected) = (
            token.trust_domain().to_string(),
            config.trust_domain.to_string(),
        );
        return Err(BootstrapError::OtherTrustDomain { token, expected });
    }
    let request = runtime.pending_request()?;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_AT_MOST);
    let answer = loop {
        match ask(config, &text, &token, &request).await? {
            Ok(answer) => break answer,
            Err(status) if is_final(status.code()) => {
                runtime.request_answered();
                return Err(BootstrapError::Refused {
                    code: status.code(),
                    message: status.message().to_owned(),
                });
            }
            Err(status) => {
                tracing::warn!(code = ?status.code(), error = %chain_of(&status), "cannot attest yet")
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    };
    let bundle = read_bundle(&answer)?;
    if !bundle
        .roots
        .iter()
        .any(|root| fingerprint(root) == *token.root_fingerprint())
    {
        return Err(BootstrapError::Answer(
            "its bundle lacks the root that the join token names",
        ));
    }
    let svid = believe(answer, request, &config.own_id, &bundle)?;
    runtime.store_svid(&svid, &bundle, None)?;
    runtime.request_answered();
    // It was used up; what is left of it only tempts.
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "the used join token cannot be deleted");
    }
    tracing::info!(id = %config.own_id, serial = %svid.verified.serial, "attested");
    Ok(Proven {
        svid,
        bundle: Arc::new(bundle),
        previous_mac_key: None,
    })
}

type Answered = Result<v1::IssuedSvid, tonic::Status>;

async fn ask(
    config: &Config,
    text: &str,
    token: &JoinToken,
    request: &KeyAndCsr,
) -> Result<Answered, BootstrapError> {
    let mut client = AttestationClient::new(first_contact(&config.attestation, token.clone())?);
    let message = v1::AttestRequest {
        csr: request.csr_der.clone().into(),
        evidence: Some(v1::attest_request::Evidence::JoinToken(text.to_owned())),
        expected_workload: config.workload.to_string(),
    };
    let answer = tokio::time::timeout(CALL_TIMEOUT, client.attest(message)).await;
    Ok(answer
        .unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer")))
        .map(tonic::Response::into_inner))
}

/// Verifies an answer before it is believed: own identity, own key, a chain to the bundle that it brings.
pub(crate) fn believe(
    answer: v1::IssuedSvid,
    request: KeyAndCsr,
    own_id: &SpiffeId,
    bundle: &TrustBundle,
) -> Result<OwnSvid, BootstrapError> {
    let issued_at = answer
        .issued_at
        .as_ref()
        .ok_or(BootstrapError::Answer("it lacks issued_at"))?;
    let issued_at = weft_wire::read_timestamp(issued_at)
        .map_err(|_| BootstrapError::Answer("its issued_at"))?;
    let candidate = Candidate {
        chain: answer
            .chain
            .iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect(),
        key_pkcs8: request.key_pkcs8,
        issued_at,
        renew_every: Duration::from_secs(answer.renew_every_seconds.max(1).into()),
    };
    Ok(OwnSvid::believe(
        candidate,
        own_id,
        bundle,
        Timestamp::now(),
    )?)
}

pub(crate) fn read_bundle(answer: &v1::IssuedSvid) -> Result<TrustBundle, BootstrapError> {
    let bundle = answer
        .bundle
        .as_ref()
        .ok_or(BootstrapError::Answer("it lacks the bundle"))?;
    TrustBundle::try_from(bundle).map_err(|_| BootstrapError::Answer("its bundle cannot be read"))
}

fn read_token(path: &Path) -> Result<(Zeroizing<String>, JoinToken), BootstrapError> {
    let text = fs::read_to_string(path)
        .map_err(|source| BootstrapError::ReadToken {
            path: path.to_owned(),
            source,
        })
        .map(Zeroizing::new)?;
    let text = Zeroizing::new(text.trim().to_owned());
    let token = text.parse().map_err(|source| BootstrapError::Token {
        path: path.to_owned(),
        source,
    })?;
    Ok((text, token))
}

/// Asking again with the same evidence cannot help.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unimplemented
    )
}

/// An error and its causes on one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
