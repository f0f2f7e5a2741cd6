//! Rules by who is at the other end: a verified identity, or the address of a plaintext source. Neither ever looks at the other's.

use weft_identity::TrustDomain;

use super::{
    addresses::{Addresses, Enclosing},
    edit::Edit,
    sources::{Matching, Part, Sources},
};
use crate::sources::Source;

#[derive(Debug)]
#[repr(C)]
pub(super) struct Peers<P> {
    pub(super) identities: Sources<P>,
    pub(super) addresses: Addresses<P>,
}

impl<P> Default for Peers<P> {
    fn default() -> Self {
        Self {
            identities: Sources::default(),
            addresses: Addresses::default(),
        }
    }
}

impl<P> Clone for Peers<P> {
    fn clone(&self) -> Self {
        Self {
            identities: self.identities.clone(),
            addresses: self.addresses.clone(),
        }
    }
}

impl<P> Peers<P> {
    /// The parts whose source matches. A rule that names several of them is in each.
    pub(super) fn matching<'s>(
        &'s self,
        source: Source<'_>,
        trust_domain: &TrustDomain,
    ) -> Matched<'s, P> {
        match source {
            Source::Identity(id) => Matched::Identity(self.identities.matching(id, trust_domain)),
            Source::Address(address) => Matched::Address(self.addresses.matching(address)),
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &P> {
        self.identities.parts().chain(self.addresses.parts())
    }
}

#[cfg(test)]
impl<P> Peers<P> {
    pub(super) fn is(&self, other: &Self) -> bool {
        self.identities.is(&other.identities) && self.addresses.is(&other.addresses)
    }

    pub(super) fn by_pattern(&self) -> std::collections::BTreeMap<String, &P> {
        let mut parts = self.identities.by_pattern();
        parts.extend(self.addresses.by_text());
        parts
    }
}

impl<P: Part> Peers<P> {
    /// These after an edit; what it does not name is shared.
    pub(super) fn edited(&self, edit: &Edit, trust_domain: &TrustDomain) -> Self {
        Self {
            identities: self.identities.edited(edit, trust_domain),
            addresses: self.addresses.edited(edit),
        }
    }
}

/// The parts that match one source, in no order.
#[derive(Debug)]
pub(super) enum Matched<'s, P> {
    Identity(Matching<'s, P>),
    Address(Enclosing<'s, P>),
}

impl<P> Clone for Matched<'_, P> {
    fn clone(&self) -> Self {
        match self {
            Self::Identity(matching) => Self::Identity(matching.clone()),
            Self::Address(enclosing) => Self::Address(enclosing.clone()),
        }
    }
}

impl<'s, P> Iterator for Matched<'s, P> {
    type Item = &'s P;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Identity(matching) => matching.next(),
            Self::Address(enclosing) => enclosing.next(),
        }
    }
}
