//! What the other end of a connection proved itself with, kept so that it can be asked again when trust changes.
//!
//! Invariant: a [`Proof`] exists only for a chain that verified. Expiry is not asked again: what is open lives on, and what begins asks
//! the time itself.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
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
    /// SHA-256 of the leaf, in hexadecimal.
    pub leaf_sha256: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    purpose: Purpose,
    /// The last bundle that the chain verified against, as [`tag`] tells it.
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
        let leaf = chain.first().ok_or(VerifyError::NoCertificate)?;
        Ok(Self {
            verified,
            leaf_sha256: hex(digest::digest(&digest::SHA256, leaf).as_ref()).into(),
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            purpose,
            believed: AtomicU64::new(tag(bundle)),
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
        let bundle_tag = tag(bundle);
        if self.believed.load(Ordering::Acquire) == bundle_tag {
            return Ok(());
        }
        let alive = Timestamp::now().min(self.verified.not_after);
        verify_svid(&self.chain, bundle, self.purpose, alive)?;
        self.believed.store(bundle_tag, Ordering::Release);
        Ok(())
    }
}

/// Tells bundles apart by what they hold, as a revision may come again where a control plane was restored.
fn tag(bundle: &TrustBundle) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bundle.digest();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use weft_policy::Reason;

    use crate::fixture::{other_bundle, peer, received};

    #[test]
    fn row_14_a_chain_whose_root_left_the_bundle_is_believed_no_more() {
        let (proof, bundle) = peer("shop/web");
        // A control plane that was restored may give a revision twice.
        let bundle_revision = bundle.revision;
        let mut enforced = received(Vec::new()).enforced(false);
        enforced.bundle = bundle;
        assert_eq!(proof.admit(&enforced), Ok(()));
        enforced.bundle = other_bundle(bundle_revision);
        let refusal = proof.admit(&enforced).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unauthenticated);
    }
}
