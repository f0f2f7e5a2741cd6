//! The workload's own SVID: one `Arc`, published when a renewal succeeded, read by every handshake.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use weft_identity::{Purpose, SpiffeId, TrustBundle, Verified, VerifyError, verify_svid};
use zeroize::Zeroizing;

/// The SVID that this sidecar presents, and its key.
pub struct OwnSvid {
    /// What the chain proves, found by verifying it as a peer would.
    pub verified: Verified,
    /// Chain and key as rustls takes them.
    pub certified: Arc<CertifiedKey>,
    /// Increases with each SVID of this process.
    pub renewed_revision: u64,
    /// When it was issued, by the control plane's clock.
    pub issued_at: Timestamp,
    /// When to renew without jitter.
    pub renew_every: Duration,
    pub(crate) key_pkcs8: Zeroizing<Vec<u8>>,
}

/// The own SVID of now; clones share it.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    svid: ArcSwap<OwnSvid>,
    renewed: watch::Sender<u64>,
}

/// What an SVID is made of before it is believed.
pub(crate) struct Candidate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key_pkcs8: Zeroizing<Vec<u8>>,
    pub issued_at: Timestamp,
    pub renew_every: Duration,
}

/// Why an SVID is not used as one's own.
#[derive(Debug, thiserror::Error)]
pub enum OwnSvidError {
    #[error("the SVID does not verify")]
    Verify(#[from] VerifyError),
    #[error("the SVID is of {got}, not of {expected}")]
    OtherIdentity { expected: SpiffeId, got: SpiffeId },
    #[error("the SVID's key is not the one that was asked to be certified")]
    OtherKey(#[source] rustls::Error),
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
}

impl OwnSvid {
    /// Believes an SVID only if it verifies as a peer would verify it, in both roles, names this workload and certifies this key.
    pub(crate) fn believe(
        candidate: Candidate,
        expected: &SpiffeId,
        bundle: &TrustBundle,
        now: Timestamp,
    ) -> Result<Self, OwnSvidError> {
        verify_svid(&candidate.chain, bundle, Purpose::ServerAuth, now)?;
        let verified = verify_svid(&candidate.chain, bundle, Purpose::ClientAuth, now)?;
        if verified.id != *expected {
            return Err(OwnSvidError::OtherIdentity {
                expected: expected.clone(),
                got: verified.id,
            });
        }
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(candidate.key_pkcs8.to_vec()));
        let signer =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(OwnSvidError::Key)?;
        let certified = CertifiedKey::new(candidate.chain, signer);
        certified.keys_match().map_err(OwnSvidError::OtherKey)?;
        Ok(Self {
            verified,
            certified: Arc::new(certified),
            renewed_revision: 0,
            issued_at: candidate.issued_at,
            renew_every: candidate.renew_every,
            key_pkcs8: candidate.key_pkcs8,
        })
    }
}

impl Identity {
    pub fn new(first: OwnSvid) -> Self {
        let renewed = watch::Sender::new(first.renewed_revision);
        Self {
            shared: Arc::new(Shared {
                svid: ArcSwap::from_pointee(first),
                renewed,
            }),
        }
    }

    /// The SVID of now.
    pub fn load(&self) -> Guard<Arc<OwnSvid>> {
        self.shared.svid.load()
    }

    /// Changes when an SVID has replaced another.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.renewed.subscribe()
    }

    /// New handshakes use this SVID from now on.
    pub(crate) fn publish(&self, mut svid: OwnSvid) {
        svid.renewed_revision = self.load().renewed_revision + 1;
        let revision = svid.renewed_revision;
        self.shared.svid.store(Arc::new(svid));
        self.shared.renewed.send_replace(revision);
    }
}

impl fmt::Debug for OwnSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("OwnSvid")
            .field("id", &self.verified.id)
            .finish_non_exhaustive()
    }
}
