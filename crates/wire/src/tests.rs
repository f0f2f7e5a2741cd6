//! Every model survives the wire and its text; no bytes make a reader panic; nothing that is missing widens anything.

mod models;
mod refusals;

use proptest::prelude::*;
use prost::Message;
use weft_catalog::{Endpoint, Mesh};
use weft_identity::Revocations;
use weft_identity::document::Origin;
use weft_policy::Flow;

use crate::{InboundView, OutboundView, Packed, Resource, ResourceKey, pack, text, unpack, v1};

proptest! {
    #[test]
    fn every_resource_survives_the_wire(resource in models::resource()) {
        let bytes = v1::Resource::from(&resource).encode_to_vec();
        let message = v1::Resource::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(Resource::try_from(&message).unwrap(), resource);
    }

    #[test]
    fn every_resource_survives_its_text_and_the_text_is_stable(resource in models::resource()) {
        let written = text::write(&resource).unwrap();
        let read = text::read(&written, &Origin::file("it.yaml"));
        let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{written}")))?;
        prop_assert_eq!(&read.spec, &resource.spec);
        prop_assert_eq!(&read.labels, &resource.labels);
        prop_assert_eq!(text::write(&read).unwrap(), written);
    }

    #[test]
    fn every_view_survives_discovery(outbound in models::outbound(), outside in models::outbound_outside(), inbound in models::inbound()) {
        prop_assert_eq!(OutboundView::try_from(&through::<v1::Outbound>(&(&outbound).into())).unwrap(), outbound);
        prop_assert_eq!(OutboundView::try_from(&through::<v1::Outbound>(&(&outside).into())).unwrap(), outside);
        prop_assert_eq!(InboundView::try_from(&through::<v1::Inbound>(&(&inbound).into())).unwrap(), inbound);
    }

    #[test]
    fn revocations_and_settings_survive_discovery(revocations in models::revocations(), mesh in models::mesh()) {
        let message: v1::Revocations = through(&(&revocations).into());
        prop_assert_eq!(Revocations::try_from(&message).unwrap(), revocations);
        let message: v1::MeshSettings = through(&(&mesh).into());
        prop_assert_eq!(Mesh::try_from(&message).unwrap(), mesh);
    }

    #[test]
    fn every_flow_survives_the_wire(flow in models::flow()) {
        let bytes = v1::Flow::from(&flow).encode_to_vec();
        let message = v1::Flow::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(Flow::try_from(&message).unwrap(), flow);
    }

    #[test]
    fn row_16_arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        read_everything(&bytes);
    }

    #[test]
    fn row_16_a_valid_message_with_spoilt_bytes_never_panics(
        outbound in models::outbound(),
        resource in models::resource(),
        flow in models::flow(),
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let messages = [
            v1::Outbound::from(&outbound).encode_to_vec(),
            v1::Resource::from(&resource).encode_to_vec(),
            v1::Flow::from(&flow).encode_to_vec(),
        ];
        for mut bytes in messages {
            for (place, value) in &spoils {
                *place.get_mut(&mut bytes) = *value;
            }
            read_everything(&bytes);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        let _ = text::read(&text, &Origin::file("it.yaml"));
        let _ = text.parse::<ResourceKey>();
    }
}

fn through<M: Packed>(message: &M) -> M {
    unpack(&pack(message)).unwrap()
}

/// Hands the bytes to every reader; only a panic is a failure.
fn read_everything(bytes: &[u8]) {
    let _ = v1::Resource::decode(bytes).map(|message| Resource::try_from(&message).is_ok());
    let _ = v1::ResourceKey::decode(bytes).map(|message| ResourceKey::try_from(&message).is_ok());
    let _ = v1::Outbound::decode(bytes).map(|message| OutboundView::try_from(&message).is_ok());
    let _ = v1::Inbound::decode(bytes).map(|message| InboundView::try_from(&message).is_ok());
    let _ = v1::Revocations::decode(bytes).map(|message| Revocations::try_from(&message).is_ok());
    let _ = v1::MeshSettings::decode(bytes).map(|message| Mesh::try_from(&message).is_ok());
    let _ = v1::Endpoint::decode(bytes).map(|message| Endpoint::try_from(&message).is_ok());
    let _ = v1::Flow::decode(bytes).map(|message| Flow::try_from(&message).is_ok());
    let _ = v1::TrustBundle::decode(bytes)
        .map(|message| weft_identity::TrustBundle::try_from(&message).is_ok());
}
