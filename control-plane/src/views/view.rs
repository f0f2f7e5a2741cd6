//! What one identity may see of the mesh: named, versioned resources, packed once and shared by all its sidecars.
//!
//! A version is a digest of the bytes, so that it means the same after a restart of the control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use prost_types::Any;
use weft_wire::{Packed, pack, type_url};

/// One state of a view. A change makes a new one, which shares what did not change.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The store's revision that last changed this view.
    pub revision: u64,
    resources: BTreeMap<Kind, Arc<BTreeMap<String, Arc<Item>>>>,
}

/// The kinds of resources, in the order in which a reader must apply them: what takes trust away comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Revocations,
    Bundle,
    Mesh,
    Inbound,
    Outbound,
}

/// One resource as it goes over the wire.
#[derive(Debug)]
pub struct Item {
    pub version: String,
    pub any: Any,
}

impl View {
    pub(crate) fn new(revision: u64) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    /// The resources of one kind, by name.
    pub fn of(&self, kind: Kind) -> &BTreeMap<String, Arc<Item>> {
        self.resources.get(&kind).map_or(&NONE, Arc::as_ref)
    }

    /// Puts a resource, or removes it; answers whether that changed the view.
    pub(crate) fn put(&mut self, kind: Kind, name: &str, item: Option<Arc<Item>>) -> bool {
        let before = self.of(kind).get(name).map(|item| &item.version);
        if before == item.as_ref().map(|item| &item.version) {
            return false;
        }
        let resources = Arc::make_mut(self.resources.entry(kind).or_default());
        match item {
            Some(item) => resources.insert(name.to_owned(), item),
            None => resources.remove(name),
        };
        true
    }
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Revocations,
        Kind::Bundle,
        Kind::Mesh,
        Kind::Inbound,
        Kind::Outbound,
    ];

    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Revocations => type_url::REVOCATIONS,
            Kind::Bundle => type_url::BUNDLE,
            Kind::Mesh => type_url::MESH,
            Kind::Inbound => type_url::INBOUND,
            Kind::Outbound => type_url::OUTBOUND,
        }
    }

    pub fn of_type_url(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.type_url() == text)
    }
}

impl Item {
    pub(crate) fn new<M: Packed>(message: &M) -> Arc<Self> {
        let any = pack(message);
        let digest = digest::digest(&digest::SHA256, &any.value);
        let version = digest
            .as_ref()
            .iter()
            .take(VERSION_BYTES)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Arc::new(Self { version, any })
    }
}

static NONE: BTreeMap<String, Arc<Item>> = BTreeMap::new();
/// Enough that two states of one resource never share a version by chance.
const VERSION_BYTES: usize = 16;
