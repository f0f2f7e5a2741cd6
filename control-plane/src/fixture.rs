//! A mesh for tests: a store in memory, its world and its views, changed one commit at a time.

use std::sync::Arc;

use jiff::Timestamp;
use weft_identity::{SpiffeId, TrustDomain};
use weft_wire::v1;

use crate::store::{Revocation, RevocationTarget, Store, StoreError, Watch, WriteTx};
use crate::views::{Kind, View, Views};
use crate::world::World;

pub(crate) struct Mesh {
    pub(crate) store: Store,
    pub(crate) views: Views,
    watch: Watch,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let store = Store::open_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let watch = store.watch();
        let world = World::load(&trust_domain(), &store.read().unwrap()).unwrap();
        Self {
            views: Views::new(world),
            store,
            watch,
        }
    }

    /// The shop: web → api → orders, each with its rule.
    pub(crate) async fn shop() -> Self {
        let mut mesh = Self::new();
        mesh.put([
            service("api", &["shop/api"]),
            service("orders", &["shop/orders"]),
            allow("web-api", "api", &["shop/web"]),
            allow("api-orders", "orders", &["shop/api"]),
        ])
        .await;
        mesh
    }

    pub(crate) async fn put(&mut self, resources: impl IntoIterator<Item = v1::Resource>) {
        let resources: Vec<_> = resources.into_iter().collect();
        self.write(move |tx| {
            resources
                .into_iter()
                .try_for_each(|resource| tx.put_resource(resource).map(drop))
        })
        .await;
    }

    pub(crate) async fn delete(&mut self, kind: &str, name: &str) {
        let key = v1::ResourceKey {
            kind: kind.into(),
            namespace: "shop".into(),
            name: name.into(),
        };
        self.write(move |tx| tx.delete_resource(&key).map(drop))
            .await;
    }

    /// Endpoints of `shop/<workload>`; no service takes them away.
    pub(crate) async fn offer(&mut self, workload: &str, service: Option<&str>) {
        let owner = id(workload).to_string();
        let endpoint = |service: &str| v1::CatalogEndpoint {
            service: format!("shop/{service}"),
            address: "127.0.0.1:15006".to_owned(),
            identity: owner.clone(),
            health: v1::Health::Healthy.into(),
            instance: "one".to_owned(),
            lease_expires: None,
        };
        let endpoints = service.map(endpoint).into_iter().collect();
        let owner = owner.clone();
        self.write(move |tx| tx.put_endpoints("one", &owner, endpoints).map(drop))
            .await;
    }

    pub(crate) async fn revoke(&mut self, workload: &str) {
        let identity = id(workload).to_string();
        let revocation = Revocation {
            target: RevocationTarget::Identity(identity.clone()),
            identity: Some(identity),
            serials: vec!["ab12".to_owned()],
            reason: String::new(),
            actor: String::new(),
            at: Timestamp::now(),
            expires: None,
        };
        self.write(move |tx| tx.put_revocation(&revocation)).await;
    }

    pub(crate) async fn write<F>(&mut self, work: F)
    where
        F: FnOnce(&mut WriteTx<'_>) -> Result<(), StoreError> + Send + 'static,
    {
        self.store.write(work).await.unwrap();
        while let Some(commit) = self.watch.try_next() {
            let commit = commit.unwrap();
            let mut world = World::clone(&self.views.world());
            let changes = world.apply(&commit, || self.store.read()).unwrap();
            self.views.update(world, &changes);
        }
    }

    /// The names of one kind in the view of `shop/<workload>`.
    pub(crate) fn seen(&self, workload: &str, kind: Kind) -> Vec<String> {
        self.view(workload).of(kind).keys().cloned().collect()
    }

    pub(crate) fn view(&self, workload: &str) -> Arc<View> {
        self.views.subscribe(&id(workload)).current()
    }
}

pub(crate) fn trust_domain() -> TrustDomain {
    "weft.local".parse().unwrap()
}

pub(crate) fn id(workload: &str) -> SpiffeId {
    format!("spiffe://weft.local/ns/shop/sa/{workload}")
        .parse()
        .unwrap()
}

/// `shop/<name>` with the ports `http` (80) and `admin` (81).
pub(crate) fn service(name: &str, workloads: &[&str]) -> v1::Resource {
    let port = |name: &str, port| v1::ServicePort {
        name: name.to_owned(),
        port,
        target_port: 8000 + port,
        protocol: v1::Protocol::Http.into(),
    };
    let spec = v1::ServiceSpec {
        workloads: workloads.iter().map(ToString::to_string).collect(),
        ports: vec![port("http", 80), port("admin", 81)],
        ..Default::default()
    };
    resource(name, v1::resource::Spec::Service(spec))
}

/// `shop/<name>`, outside of the mesh.
pub(crate) fn outside(name: &str) -> v1::Resource {
    let port = v1::ServicePort {
        name: "http".to_owned(),
        port: 80,
        target_port: 80,
        protocol: v1::Protocol::Http.into(),
    };
    let spec = v1::ServiceSpec {
        external: Some(v1::External {
            hosts: vec![format!("{name}.outside.example")],
            ..Default::default()
        }),
        ports: vec![port],
        ..Default::default()
    };
    resource(name, v1::resource::Spec::Service(spec))
}

/// `shop/<name>`: opens port `http` of a service to these sources.
pub(crate) fn allow(name: &str, service: &str, from: &[&str]) -> v1::Resource {
    resource(name, v1::resource::Spec::Allow(allow_spec(service, from)))
}

pub(crate) fn allow_spec(service: &str, from: &[&str]) -> v1::AllowSpec {
    let names = v1::NameList {
        names: vec!["http".to_owned()],
    };
    v1::AllowSpec {
        schema: 1,
        service: service.to_owned(),
        ports: Some(v1::PortMatch {
            r#match: Some(v1::port_match::Match::Names(names)),
        }),
        from: from.iter().map(ToString::to_string).collect(),
        from_addresses: Vec::new(),
        http: Some(v1::HttpMatch {
            r#match: Some(v1::http_match::Match::Any(v1::Any {})),
        }),
        expires: None,
        mode: v1::Mode::Enforce.into(),
    }
}

pub(crate) fn quarantine(name: &str, workload: &str) -> v1::Resource {
    let spec = v1::QuarantineSpec {
        schema: 1,
        workload: workload.to_owned(),
        reason: "test".to_owned(),
    };
    resource(name, v1::resource::Spec::Quarantine(spec))
}

/// `shop` in learn mode until then.
pub(crate) fn learning(until: Timestamp) -> v1::Resource {
    let learn = v1::LearnMode {
        until: Some(weft_wire::write_timestamp(until)),
    };
    let spec = v1::NamespaceSettingsSpec {
        schema: 2,
        mode: Some(v1::namespace_settings_spec::Mode::Learn(learn)),
    };
    resource("settings", v1::resource::Spec::NamespaceSettings(spec))
}

pub(crate) fn resource(name: &str, spec: v1::resource::Spec) -> v1::Resource {
    let metadata = v1::Metadata {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        ..Default::default()
    };
    v1::Resource {
        metadata: Some(metadata),
        spec: Some(spec),
        ..Default::default()
    }
}
