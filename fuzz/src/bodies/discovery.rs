//! What a sidecar reads from the control plane, and the flows that the control plane reads from it.

use prost::Message;
use weft_catalog::Mesh;
use weft_identity::{Revocations, TrustBundle};
use weft_policy::Flow;
use weft_wire::{InboundView, OutboundView, Resource, v1};

/// The first byte names the message. What can be read is written as a message that is read as the same.
pub(super) fn discovery(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    match kind % 7 {
        0 => round_trip::<v1::Outbound, OutboundView>(bytes),
        1 => round_trip::<v1::Inbound, InboundView>(bytes),
        2 => round_trip::<v1::Revocations, Revocations>(bytes),
        3 => round_trip::<v1::TrustBundle, TrustBundle>(bytes),
        4 => round_trip::<v1::Resource, Resource>(bytes),
        5 => {
            if let Ok(message) = v1::MeshSettings::decode(bytes) {
                let _ = Mesh::try_from(&message);
            }
        }
        _ => round_trip::<v1::Flow, Flow>(bytes),
    }
}

fn round_trip<M, T>(bytes: &[u8])
where
    M: Message + Default + for<'t> From<&'t T> + std::fmt::Debug,
    T: for<'m> TryFrom<&'m M> + PartialEq,
{
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    let Ok(read) = T::try_from(&message) else {
        return;
    };
    let written = M::from(&read).encode_to_vec();
    let again = M::decode(written.as_slice()).expect("what was written decodes");
    let again = T::try_from(&again).ok();
    assert!(again.is_some_and(|again| again == read), "{message:?}");
}
