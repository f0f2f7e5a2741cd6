//! Chains that verified, so that a peer which comes again costs no signature of its issuers.
//!
//! Invariant: what is kept is only that a chain led to a root of one bundle, which never becomes untrue; another bundle is another key.
//! Whether the chain has expired, and whether its peer is revoked or quarantined, is asked each time.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use weft_identity::{Purpose, TrustBundle};

use super::error::TlsError;
use super::recent::Recent;
use crate::enforce;
use crate::proof::Proof;
use crate::view::Enforced;

pub(super) struct Chains {
    proofs: Mutex<Recent<Key, Arc<Proof>>>,
}

type Key = [u8; SHA256_OUTPUT_LEN];

impl Chains {
    pub(super) fn new() -> Self {
        Self {
            proofs: Mutex::new(Recent::new(KEPT_BYTES)),
        }
    }

    /// Believes a chain, the leaf first, or says why not. The signatures are verified only if they were not under this bundle before.
    pub(super) fn prove(
        &self,
        chain: &[CertificateDer<'_>],
        enforced: &Enforced,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Arc<Proof>, TlsError> {
        let key = key_of(chain, &enforced.bundle, purpose);
        let proof = match self.find(&key, now) {
            Some(kept) => kept,
            None => {
                let proof = Proof::of(chain, &enforced.bundle, purpose, now);
                let proof = Arc::new(proof.map_err(TlsError::Peer)?);
                self.keep(key, &proof, chain);
                proof
            }
        };
        enforce::admit_peer(enforced, &proof.verified).map_err(TlsError::Refused)?;
        Ok(proof)
    }

    fn find(&self, key: &Key, now: Timestamp) -> Option<Arc<Proof>> {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = proofs.find(key)?;
        // What is outside its time is verified in full, which says what is wrong with it.
        proof.verified.is_valid(now).then(|| Arc::clone(proof))
    }

    fn keep(&self, key: Key, proof: &Arc<Proof>, chain: &[CertificateDer<'_>]) {
        let bytes: usize = chain.iter().map(|der| der.len()).sum();
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.insert(key, Arc::clone(proof), bytes + size_of::<Proof>());
    }
}

fn key_of(chain: &[CertificateDer<'_>], bundle: &TrustBundle, purpose: Purpose) -> Key {
    let mut hash = Context::new(&SHA256);
    hash.update(bundle.digest());
    hash.update(match purpose {
        Purpose::ClientAuth => b"c",
        Purpose::ServerAuth => b"s",
    });
    for der in chain {
        // With its length, so that no two chains look alike.
        hash.update(&der.len().to_be_bytes());
        hash.update(der);
    }
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(hash.finish().as_ref());
    key
}

/// A chain of ours takes 1.5 KiB. A member of the mesh can make many that verify, so it is bytes that are bounded, at twice this.
const KEPT_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_identity::VerifyError;

    use super::*;
    use crate::two_sidecars::Authority;

    #[tokio::test]
    async fn row_01_a_chain_that_verified_before_is_not_believed_past_its_end() {
        let authority = Authority::new();
        let sidecar = authority.sidecar("shop/web", "").await;
        let enforced = authority.enforced(&sidecar, |_| {});
        let own = sidecar.identity.load();
        let chains = Chains::new();
        let prove = |purpose, now| chains.prove(&own.certified.cert, &enforced, purpose, now);

        let now = Timestamp::now();
        let first = prove(Purpose::ClientAuth, now).unwrap();
        let again = prove(Purpose::ClientAuth, now).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = prove(Purpose::ServerAuth, now).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));

        let second = Duration::from_secs(1);
        for outside in [
            first.verified.not_after + second,
            first.verified.not_before - second,
        ] {
            let error = prove(Purpose::ClientAuth, outside).unwrap_err();
            assert!(
                matches!(error, TlsError::Peer(VerifyError::Chain(_))),
                "{error:?}"
            );
        }
    }
}
