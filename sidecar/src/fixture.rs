//! What unit tests of the control half start from.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use weft_catalog::{Port, Protocol};
use weft_identity::document::{Origin, read};
use weft_identity::{Purpose, SvidRequest, new_key_and_csr, read_csr};
use weft_identity::{Root, ServicePort, SpiffeId, TrustBundle, TrustDomain};
use weft_policy::{AllowSpec, EncodedSlashes, Rule};
use weft_wire::{InboundView, Packed, pack, type_url, v1, xds};

use crate::proof::Proof;
use crate::received::Received;

pub(crate) const API: &str = "shop/api";

pub(crate) fn id(workload: &str) -> SpiffeId {
    SpiffeId::for_workload(&trust_domain(), &workload.parse().unwrap())
}

pub(crate) fn trust_domain() -> TrustDomain {
    "weft.local".parse().unwrap()
}

pub(crate) fn target(port: &str) -> ServicePort {
    ServicePort {
        service: API.parse().unwrap(),
        port: port.parse().unwrap(),
    }
}

/// A peer as a handshake would prove it, and the bundle that proves it.
pub(crate) fn peer(workload: &str) -> (Arc<Proof>, Arc<TrustBundle>) {
    let now = Timestamp::now();
    // All peers of a test are of one mesh.
    static MESH: LazyLock<(Root, Arc<TrustBundle>)> = LazyLock::new(|| root(1));
    let (root, bundle) = &*MESH;
    let intermediate = root.issue_intermediate(now, hours(24), [2; 16]).unwrap();
    let key = read_csr(&new_key_and_csr().unwrap().csr_der).unwrap();
    let id = id(workload);
    let request = SvidRequest {
        id: &id,
        public_key: &key,
        ttl: hours(1),
        serial: [3; 16],
        now,
    };
    let issued = intermediate.issue_svid(&request).unwrap();
    let proof = Proof::of(&issued.chain, bundle, Purpose::ClientAuth, now).unwrap();
    (Arc::new(proof), Arc::clone(bundle))
}

/// A bundle of a root that issued nothing yet.
pub(crate) fn other_bundle(revision: u64) -> Arc<TrustBundle> {
    root(revision).1
}

fn root(revision: u64) -> (Root, Arc<TrustBundle>) {
    let root = Root::generate(&trust_domain(), Timestamp::now(), hours(48), [1; 16]).unwrap();
    let roots = vec![root.certificate().clone()];
    let bundle = TrustBundle::new(trust_domain(), roots, revision).unwrap();
    (root, Arc::new(bundle))
}

fn hours(hours: u64) -> std::time::Duration {
    std::time::Duration::from_secs(3600 * hours)
}

pub(crate) fn rule(name: &str, rest: &str) -> Arc<Rule> {
    let text = format!(
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  to: {{service: api}}\n{rest}"
    );
    let origin = Origin {
        file: "test".to_owned(),
        first_line: 1,
    };
    Arc::new(Rule::from_document(&read::<AllowSpec>(&text, &origin, "Allow").unwrap()).unwrap())
}

/// `shop/api` with an HTTP and a TCP port, as its own sidecar is told of it.
pub(crate) fn inbound(rules: Vec<Arc<Rule>>) -> v1::Inbound {
    let port = |name: &str, number, protocol| Port {
        name: name.parse().unwrap(),
        port: number,
        target_port: number,
        protocol,
    };
    v1::Inbound::from(&InboundView {
        service: API.parse().unwrap(),
        ports: vec![
            port("http", 80, Protocol::Http),
            port("raw", 9000, Protocol::Tcp),
        ],
        rules,
        encoded_slashes: EncodedSlashes::Refuse,
        health: None,
        learn_until: None,
    })
}

/// A response that carries these messages of one type.
pub(crate) fn response<M: Packed>(
    revision: u64,
    messages: &[(&str, M)],
) -> xds::DeltaDiscoveryResponse {
    let resources = messages.iter().map(|(name, message)| xds::Resource {
        version: revision.to_string(),
        resource: Some(pack(message)),
        name: (*name).to_owned(),
        aliases: Vec::new(),
    });
    xds::DeltaDiscoveryResponse {
        system_version_info: revision.to_string(),
        resources: resources.collect(),
        type_url: M::TYPE_URL.to_owned(),
        nonce: revision.to_string(),
        removed_resources: Vec::new(),
    }
}

/// The same in a namespace that learns until then.
pub(crate) fn received_learning(rules: Vec<Arc<Rule>>, until: Timestamp) -> Received {
    let mut received = received(Vec::new());
    let learning = v1::Inbound {
        schema: 2,
        learn_until: Some(weft_wire::write_timestamp(until)),
        ..inbound(rules)
    };
    assert!(received.take(response(2, &[(API, learning)])).is_empty());
    received
}

/// A complete first view of `shop/api`'s own sidecar.
pub(crate) fn received(rules: Vec<Arc<Rule>>) -> Received {
    let (_, bundle) = peer("shop/web");
    let mut received = Received::new(id(API), bundle);
    for kind in type_url::ALL {
        received.take(xds::DeltaDiscoveryResponse {
            type_url: kind.to_owned(),
            ..Default::default()
        });
    }
    assert!(
        received
            .take(response(1, &[(API, inbound(rules))]))
            .is_empty()
    );
    received
}
