//! Why there is no mutual TLS with a peer.

use std::io;

use rustls::{CertificateError, OtherError};
use thiserror::Error;
use weft_identity::{SpiffeId, VerifyError};
use weft_policy::Reason;

use super::HANDSHAKE_TIMEOUT;
use crate::enforce::Refusal;

/// Why there is no connection. None of these is a denial by policy, except `Refused`.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("the handshake took longer than {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the configuration cannot be made")]
    Config(#[source] rustls::Error),
    #[error("the server name cannot be sent")]
    ServerName,
    #[error("the peer's SVID does not verify")]
    Peer(#[source] VerifyError),
    #[error("the peer is {got}, not {expected}")]
    OtherIdentity { expected: SpiffeId, got: SpiffeId },
    #[error("an SVID of this connection has expired")]
    Expired,
    #[error("the peer did not agree on the protocol")]
    Protocol,
    #[error("the peer may not be spoken with")]
    Refused(#[source] Refusal),
}

impl TlsError {
    /// How operators are told.
    pub fn refusal(&self) -> Refusal {
        if let Some(refusal) = self.refused() {
            return refusal.clone();
        }
        let mut detail = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            detail = format!("{detail}: {error}");
            cause = error.source();
        }
        Refusal::new(Reason::Unauthenticated).because(detail)
    }

    /// Whether the peer did something wrong, rather than leave or be slow.
    pub fn is_of_the_peer(&self) -> bool {
        match self {
            Self::Handshake(error) => rustls_error(error).is_some(),
            Self::Peer(_)
            | Self::OtherIdentity { .. }
            | Self::Protocol
            | Self::Expired
            | Self::Refused(_) => true,
            Self::Timeout | Self::Config(_) | Self::ServerName => false,
        }
    }

    /// The refusal, also where a verifier told it to rustls.
    fn refused(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Handshake(error) => match rustls_error(error)? {
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
                    cause.downcast_ref::<Self>().and_then(Self::refused)
                }
                _ => None,
            },
            Self::Timeout
            | Self::Config(_)
            | Self::ServerName
            | Self::Peer(_)
            | Self::OtherIdentity { .. }
            | Self::Expired
            | Self::Protocol => None,
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|cause| cause.downcast_ref())
}
