//! What the other end of a connection proved itself with, kept so that it can be asked again when trust changes.
//!
//! Invariant: a [`Proof`] exists only for a chain that verified. Expiry is not asked again: what is open lives on, and what begins asks
//! the time itself.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use weft_identity::{Purpose, TrustBundle, Verified, VerifyError, verify_svid};
use weft_policy::Reason;

use crate::enforce::{self, Refusal};
use crate::view::Enforced;

/// A chain that verified, and what it proves.
#[derive(Debug)]
pub struct Proof {
    pub verified: Verified,
    chain: Vec<CertificateDer<'static>>,
    purpose: Purpose,
    /// The revision of the last bundle that the chain verified against.
    believed: AtomicU64,
}

impl Proof {
    /// Verifies a chain, the leaf first.
    pub fn of(
        chain: &[CertificateDer<'_>],
        bundle: &TrustBundle,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Self, VerifyError> {
        let verified = verify_svid(chain, bundle, purpose, now)?;
        Ok(Self {
            verified,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            purpose,
            believed: AtomicU64::new(bundle.revision),
        })
    }

    /// Whether the peer may still be spoken with: not revoked, not quarantined, and its chain ends at a root that is in force.
    pub fn admit(&self, enforced: &Enforced) -> Result<(), Refusal> {
        enforce::admit_peer(enforced, &self.verified)?;
        self.believe(&enforced.bundle).map_err(|error| {
            Refusal::new(Reason::Unauthenticated)
                .because(format!("the peer's chain no longer verifies: {error}"))
        })
    }

    fn believe(&self, bundle: &TrustBundle) -> Result<(), VerifyError> {
        if self.believed.load(Ordering::Acquire) == bundle.revision {
            return Ok(());
        }
        let alive = Timestamp::now().min(self.verified.not_after);
        verify_svid(&self.chain, bundle, self.purpose, alive)?;
        self.believed.store(bundle.revision, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use weft_policy::Reason;

    use crate::fixture::{other_bundle, peer, received};

    #[test]
    fn row_14_a_chain_whose_root_left_the_bundle_is_believed_no_more() {
        let (proof, bundle) = peer("shop/web");
        let mut enforced = received(Vec::new()).enforced(false);
        enforced.bundle = bundle;
        assert_eq!(proof.admit(&enforced), Ok(()));
        enforced.bundle = other_bundle(7);
        let refusal = proof.admit(&enforced).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unauthenticated);
    }
}
