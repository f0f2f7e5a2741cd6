//! The other end of a connection. Only this file makes a [`Peer`], of a finished handshake.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::CommonState;
use weft_identity::{Purpose, SpiffeId};

use super::chains::Chains;
use super::error::TlsError;
use crate::identity::OwnSvid;
use crate::proof::Proof;
use crate::view::{Current, Enforced};

/// The other end of a connection, proven by a handshake.
pub struct Peer {
    pub proof: Arc<Proof>,
    /// SHA-256 of its leaf certificate, in hexadecimal.
    pub leaf_sha256: Arc<str>,
    /// What this side presented.
    own: Arc<OwnSvid>,
}

impl Peer {
    /// Asks everything of what is in force now: rustls asked no verifier if the handshake resumed a session (then the chain is the one of
    /// the handshake that began it), and what it asked may have changed meanwhile.
    pub(super) fn of(
        connection: &CommonState,
        purpose: Purpose,
        own: Arc<OwnSvid>,
        chains: &Chains,
        current: &Current,
    ) -> Result<Self, TlsError> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let proof = chains.prove(chain, &current.load(), purpose, Timestamp::now())?;
        let peer = Self {
            leaf_sha256: Arc::clone(&proof.leaf_sha256),
            proof,
            own,
        };
        // Also the own SVID, which no verifier of this side looked at.
        if peer.is_expired(Timestamp::now()) {
            return Err(TlsError::Expired);
        }
        Ok(peer)
    }

    /// What a handshake would have made of a chain that verified.
    #[cfg(test)]
    pub(crate) fn without_handshake(proof: Arc<Proof>, own: Arc<OwnSvid>) -> Self {
        Self {
            leaf_sha256: Arc::clone(&proof.leaf_sha256),
            proof,
            own,
        }
    }

    /// Whether a request may begin now: neither SVID has expired and the peer would be believed again.
    pub fn may_begin(&self, enforced: &Enforced, now: Timestamp) -> Result<(), TlsError> {
        if self.is_expired(now) {
            return Err(TlsError::Expired);
        }
        self.proof.admit(enforced).map_err(TlsError::Refused)
    }

    /// Whom the handshake proved.
    pub fn id(&self) -> &SpiffeId {
        &self.proof.verified.id
    }

    /// Whether one of both SVIDs has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.own.verified.is_expired(now) || self.proof.verified.is_expired(now)
    }

    /// When the first of both SVIDs expires.
    pub fn expires(&self) -> Timestamp {
        let theirs = self.proof.verified.not_after;
        theirs.min(self.own.verified.not_after)
    }

    /// Whether this side would present the same SVID today.
    pub fn is_of(&self, own: &OwnSvid) -> bool {
        self.own.renewed_revision == own.renewed_revision
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}
