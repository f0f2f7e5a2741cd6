//! Who calls, and whom a rule admits.
//!
//! Invariant: a rule admits somebody. A pattern of identities never matches an address, and a range never a verified identity,
//! from wherever it comes.

use std::{fmt, net::IpAddr};

use weft_identity::{SpiffeId, TrustDomain};

use crate::{address::AddressRange, lists::NonEmpty, source::SourcePattern};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source<'a> {
    /// As the handshake verified it.
    Identity(&'a SpiffeId),
    /// Plaintext: nobody verified who it is, and this is where its packets come from.
    Address(IpAddr),
}

impl<'a> Source<'a> {
    /// The verified identity.
    pub fn identity(self) -> Option<&'a SpiffeId> {
        match self {
            Self::Identity(id) => Some(id),
            Self::Address(_) => None,
        }
    }
}

impl<'a> From<&'a SpiffeId> for Source<'a> {
    fn from(id: &'a SpiffeId) -> Self {
        Self::Identity(id)
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => id.fmt(f),
            Self::Address(address) => address.to_canonical().fmt(f),
        }
    }
}

/// A [`Source`] that belongs to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OwnedSource {
    Identity(SpiffeId),
    Address(IpAddr),
}

impl OwnedSource {
    pub fn borrowed(&self) -> Source<'_> {
        match self {
            Self::Identity(id) => Source::Identity(id),
            Self::Address(address) => Source::Address(*address),
        }
    }
}

/// Whom a rule admits: at least one pattern of identities or range of addresses, each list in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    identities: Vec<SourcePattern>,
    addresses: Vec<AddressRange>,
}

impl Sources {
    /// `None`: nobody is named.
    pub fn new(identities: Vec<SourcePattern>, addresses: Vec<AddressRange>) -> Option<Self> {
        let names_somebody = !identities.is_empty() || !addresses.is_empty();
        names_somebody.then_some(Self {
            identities,
            addresses,
        })
    }

    /// `from` of a document; empty where only addresses are admitted.
    pub fn identities(&self) -> &[SourcePattern] {
        &self.identities
    }

    /// `fromAddresses` of a document; empty where only identities are admitted.
    pub fn addresses(&self) -> &[AddressRange] {
        &self.addresses
    }

    /// Whether only plaintext sources are admitted.
    pub fn are_addresses_only(&self) -> bool {
        self.identities.is_empty()
    }

    pub fn matches(&self, source: Source<'_>, trust_domain: &TrustDomain) -> bool {
        match source {
            Source::Identity(id) => self
                .identities
                .iter()
                .any(|pattern| pattern.matches(id, trust_domain)),
            Source::Address(address) => self.addresses.iter().any(|range| range.matches(address)),
        }
    }

    /// Each as people write it, identities first.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        let identities = self.identities.iter().map(ToString::to_string);
        identities.chain(self.addresses.iter().map(ToString::to_string))
    }
}

impl From<NonEmpty<SourcePattern>> for Sources {
    fn from(identities: NonEmpty<SourcePattern>) -> Self {
        Self {
            identities: identities.into_vec(),
            addresses: Vec::new(),
        }
    }
}

impl From<NonEmpty<AddressRange>> for Sources {
    fn from(addresses: NonEmpty<AddressRange>) -> Self {
        Self {
            identities: Vec::new(),
            addresses: addresses.into_vec(),
        }
    }
}

impl From<SourcePattern> for Sources {
    fn from(identity: SourcePattern) -> Self {
        NonEmpty::one(identity).into()
    }
}
