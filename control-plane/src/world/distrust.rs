//! Who is no longer trusted, and whose trust differs between two states.

use std::collections::{BTreeMap, BTreeSet};

use weft_identity::{Serial, SpiffeId};

/// What is no longer trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distrust {
    pub identities: BTreeSet<SpiffeId>,
    /// With the identity that a serial was issued to; `None`: it is not known.
    pub serials: BTreeMap<Serial, Option<SpiffeId>>,
    pub quarantined: BTreeSet<SpiffeId>,
}

/// Whose trust changed.
#[derive(Default)]
pub struct Distrusted {
    pub identities: BTreeSet<SpiffeId>,
    /// A serial of an unknown identity concerns everyone.
    pub is_everyone: bool,
}

impl Distrust {
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.serials.is_empty() && self.quarantined.is_empty()
    }

    /// Whose trust differs between two states.
    pub(super) fn difference(&self, after: &Self) -> Distrusted {
        let identities = self.identities.symmetric_difference(&after.identities);
        let quarantined = self.quarantined.symmetric_difference(&after.quarantined);
        let mut distrusted = Distrusted {
            identities: identities.chain(quarantined).cloned().collect(),
            is_everyone: false,
        };
        let gone = self
            .serials
            .iter()
            .filter(|(serial, _)| !after.serials.contains_key(serial));
        let new = after
            .serials
            .iter()
            .filter(|(serial, _)| !self.serials.contains_key(serial));
        for (_, identity) in gone.chain(new) {
            match identity {
                Some(id) => drop(distrusted.identities.insert(id.clone())),
                None => distrusted.is_everyone = true,
            }
        }
        distrusted
    }
}
