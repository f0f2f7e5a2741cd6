//! Who is no longer believed, although the certificate would still verify.

use std::collections::HashSet;

use crate::{
    spiffe::SpiffeId,
    verify::{Serial, Verified},
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    pub identities: HashSet<SpiffeId>,
    pub serials: HashSet<Serial>,
    /// Cut off by a `Quarantine`: still verified, but nothing is allowed to or from them.
    pub quarantined: HashSet<SpiffeId>,
}

impl Revocations {
    pub fn is_revoked(&self, peer: &Verified) -> bool {
        self.identities.contains(&peer.id) || self.serials.contains(&peer.serial)
    }

    pub fn is_quarantined(&self, id: &SpiffeId) -> bool {
        self.quarantined.contains(id)
    }
}
