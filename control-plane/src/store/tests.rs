//! The store's suite: every storage passes the same tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use weft_wire::v1;

use super::*;

mod bounds;
mod flows;

fn service(name: &str) -> v1::Resource {
    v1::Resource {
        metadata: Some(v1::Metadata {
            name: name.into(),
            namespace: "shop".into(),
            ..Default::default()
        }),
        spec: Some(v1::resource::Spec::Service(v1::ServiceSpec::default())),
        ..Default::default()
    }
}

fn key(name: &str) -> v1::ResourceKey {
    v1::ResourceKey {
        kind: "Service".into(),
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn entry(subject: &str) -> AuditEntry {
    AuditEntry {
        time: Timestamp::UNIX_EPOCH,
        actor: "spiffe://weft.local/operator/ada".into(),
        action: "apply",
        subject: subject.into(),
        outcome: Outcome::Ok,
        detail: String::new(),
    }
}

async fn put(store: &Store, name: &str) -> Result<u64, StoreError> {
    let resource = service(name);
    let written = store
        .write(move |tx| tx.put_resource(resource).map(drop))
        .await?;
    Ok(written.revision)
}

/// The same test on a file and in memory.
async fn on_each_storage<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(Store::open(&folder.path().join("store.redb")).unwrap()).await;
    test(Store::open_backend(VolatileBackend::new()).unwrap()).await;
}

#[tokio::test]
async fn each_transaction_gets_its_own_revision_although_many_share_a_commit() {
    on_each_storage(|store| async move {
        let writes = (0..200).map(|i| {
            let store = store.clone();
            async move { put(&store, &format!("s{i}")).await.unwrap() }
        });
        let mut revisions = futures_util::future::join_all(writes).await;
        revisions.sort_unstable();
        assert_eq!(revisions, (1..=200).collect::<Vec<u64>>());
        assert_eq!(store.revision(), 200);
        let read = store.read().unwrap();
        assert_eq!(read.revision().unwrap(), 200);
        assert_eq!(read.resources().unwrap().len(), 200);
    })
    .await;
}

#[tokio::test]
async fn work_that_fails_or_panics_leaves_nothing_and_disturbs_no_neighbour() {
    on_each_storage(|store| async move {
        let failing = store.write(|tx| {
            tx.put_resource(service("failed"))?;
            tx.audit(entry("failed"))?;
            Err::<(), StoreError>(StoreError::Unnamed)
        });
        let panicking = store.write(|tx| {
            tx.put_resource(service("panicked"))?;
            if tx.next_revision() > 0 {
                panic!("a bug in one caller");
            }
            Ok::<(), StoreError>(())
        });
        let (failed, panicked, before, after) = tokio::join!(
            failing,
            panicking,
            put(&store, "before"),
            put(&store, "after")
        );
        assert!(matches!(failed, Err(StoreError::Unnamed)));
        assert!(matches!(panicked, Err(StoreError::Stopped)));
        assert_eq!((before.unwrap(), after.unwrap()), (1, 2));
        let read = store.read().unwrap();
        let names: Vec<_> = read
            .resources()
            .unwrap()
            .into_iter()
            .map(|r| r.metadata.unwrap().name)
            .collect();
        assert_eq!(names, ["after", "before"]);
        assert_eq!(read.audit_count().unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_reads_what_it_wrote_and_deleted() {
    on_each_storage(|store| async move {
        put(&store, "old").await.unwrap();
        store
            .write(|tx| {
                tx.delete_resource(&key("old"))?;
                tx.put_resource(service("new"))?;
                assert!(tx.resource(&key("old"))?.is_none());
                assert_eq!(tx.resource(&key("new"))?.unwrap().revision, 2);
                assert_eq!(tx.resources()?.len(), 1);
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn watchers_see_every_commit_in_order_and_a_lagging_one_is_told() {
    on_each_storage(|store| async move {
        let mut watch = store.watch();
        for i in 0..5 {
            put(&store, &format!("s{i}")).await.unwrap();
        }
        for revision in 1..=5 {
            assert_eq!(watch.next().await.unwrap().revision, revision);
        }
        let writes = (0..1100).map(|i| {
            let store = store.clone();
            async move { put(&store, &format!("t{i}")).await.unwrap() }
        });
        futures_util::future::join_all(writes).await;
        assert!(matches!(watch.next().await, Err(Lagged::Missed(_))));
        assert!(watch.next().await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn what_changes_nothing_watched_creates_no_revision() {
    on_each_storage(|store| async move {
        put(&store, "api").await.unwrap();
        let written = store.write(|tx| tx.audit(entry("nothing"))).await.unwrap();
        assert_eq!(written.revision, 1);
        let endpoint = v1::CatalogEndpoint {
            service: "shop/api".into(),
            ..Default::default()
        };
        for expected in [2, 2] {
            let endpoints = vec![endpoint.clone()];
            let written = store
                .write(move |tx| {
                    tx.put_endpoints("api-1", "spiffe://weft.local/ns/shop/sa/api", endpoints)
                })
                .await
                .unwrap();
            assert_eq!(written.revision, expected);
        }
        assert_eq!(store.read().unwrap().endpoints().unwrap().len(), 1);
    })
    .await;
}

/// Many writers, the power goes in the middle: what had been answered is there, with its revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answered_writes_survive_a_power_cut_in_the_middle_of_applies() {
    for cut_after in [1, 40, 300] {
        let backend = VolatileBackend::new();
        let store = Store::open_backend(backend.clone()).unwrap();
        let answered = Arc::new(Mutex::new(BTreeMap::new()));
        let writes: Vec<_> = (0..1000)
            .map(|i| {
                let (store, answered) = (store.clone(), Arc::clone(&answered));
                tokio::spawn(async move {
                    let name = format!("s{i}");
                    if let Ok(revision) = put(&store, &name).await {
                        answered.lock().unwrap().insert(name, revision);
                    }
                })
            })
            .collect();
        while answered.lock().unwrap().len() < cut_after {
            tokio::task::yield_now().await;
        }
        let rebooted = backend.power_cut();
        for write in writes {
            write.await.unwrap();
        }
        // All may have been done before the cut; one more finds the storage gone.
        assert!(put(&store, "late").await.is_err());
        store.failed().await;
        let store = Store::open_backend(rebooted).unwrap();
        let found: BTreeMap<_, _> = store
            .read()
            .unwrap()
            .resources()
            .unwrap()
            .into_iter()
            .map(|resource| (resource.metadata.unwrap().name, resource.revision))
            .collect();
        let answered = answered.lock().unwrap();
        assert!(answered.len() >= cut_after);
        for (name, revision) in answered.iter() {
            assert_eq!(
                found.get(name),
                Some(revision),
                "{name} was answered and lost"
            );
        }
        assert_eq!(found.values().max().copied().unwrap_or(0), store.revision());
    }
}

#[tokio::test]
async fn revisions_and_endpoints_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    {
        let store = Store::open(&path).unwrap();
        put(&store, "api").await.unwrap();
        let endpoints = vec![v1::CatalogEndpoint::default()];
        store
            .write(move |tx| tx.put_endpoints("api-1", "id", endpoints))
            .await
            .unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.revision(), 2);
    assert_eq!(
        store.read().unwrap().endpoints().unwrap()[0].instance,
        "api-1"
    );
    assert_eq!(put(&store, "web").await.unwrap(), 3);
}

#[tokio::test]
async fn a_store_that_a_newer_version_wrote_is_refused_with_what_to_do() {
    let backend = VolatileBackend::new();
    let store = Store::open_backend(backend.clone()).unwrap();
    store
        .write(|tx| {
            tx.put(
                Table::Meta,
                tables::META_SCHEMA,
                2u64.to_be_bytes().to_vec(),
            );
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    drop(store);
    let error = Store::open_backend(backend).err().unwrap();
    assert!(
        error.to_string().contains("written by a newer version"),
        "{error}"
    );
}

#[test]
fn a_state_folder_has_one_control_plane_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let held = StateFolder::lock(&path).unwrap();
    assert!(matches!(
        StateFolder::lock(&path),
        Err(FolderError::InUse { .. })
    ));
    drop(held);
    StateFolder::lock(&path).unwrap();
}

#[tokio::test]
async fn work_that_writes_nothing_makes_nothing_durable() {
    let backend = VolatileBackend::new();
    let store = Store::open_backend(backend.clone()).unwrap();
    let revision = put(&store, "api").await.unwrap();
    let before = backend.syncs();
    let looked = store
        .write(|tx| Ok::<_, StoreError>(tx.resource(&key("api"))?.is_some()))
        .await
        .unwrap();
    assert!(looked.value);
    assert_eq!((looked.revision, backend.syncs()), (revision, before));
    put(&store, "web").await.unwrap();
    assert!(backend.syncs() > before);
}
