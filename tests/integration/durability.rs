//! `kill -9` in the middle of a thousand applies: what was answered is there afterwards, and revisions go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tonic::transport::Channel;
use weft_tests::{Mesh, Svid, eventually};
use weft_wire::v1;
use weft_wire::v1::resources_client::ResourcesClient;

const APPLIES: usize = 1000;
const CLIENTS: usize = 8;
const KILL_AFTER: usize = 400;

/// The revision that each answered apply was told.
type Answered = Arc<Mutex<BTreeMap<String, u64>>>;

#[tokio::test(flavor = "multi_thread")]
async fn no_answered_apply_is_lost_when_the_control_plane_is_killed_amid_a_thousand() {
    let mut mesh = Mesh::start().await;
    let operator = Svid::of_operator(&mesh.context());
    let answered = Answered::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let channel = operator.channel(mesh.api);
            tokio::spawn(apply_until_it_fails(channel, client, Arc::clone(&answered)))
        })
        .collect();
    eventually("some are answered", || async {
        let so_far = count(&answered);
        (so_far >= KILL_AFTER).then_some(()).ok_or(so_far)
    })
    .await;
    mesh.control_plane.kill();
    for client in clients {
        client.await.expect("a client ends with its connection");
    }
    let answered = answered.lock().expect("nobody panicked").clone();
    println!(
        "{} of {APPLIES} were answered before the kill",
        answered.len()
    );
    assert!(
        answered.len() < APPLIES,
        "the kill came too late to mean anything"
    );

    mesh.restart_control_plane().await;
    let mut client = ResourcesClient::new(operator.channel(mesh.api));
    let kept = list(&mut client).await;
    for (name, revision) in &answered {
        assert_eq!(
            kept.get(name),
            Some(revision),
            "{name} was answered and is lost"
        );
    }
    let newest = kept.values().max().copied().expect("many were kept");
    let next = apply(&mut client, "after").await.expect("it serves again");
    assert!(next > newest, "revision {next} after {newest}");
}

async fn apply_until_it_fails(channel: Channel, client: usize, answered: Answered) {
    let mut resources = ResourcesClient::new(channel);
    for i in 0..APPLIES / CLIENTS {
        let name = format!("rule-{client}-{i}");
        let Ok(revision) = apply(&mut resources, &name).await else {
            return;
        };
        answered
            .lock()
            .expect("nobody panicked")
            .insert(name, revision);
    }
}

async fn apply(client: &mut ResourcesClient<Channel>, name: &str) -> Result<u64, tonic::Status> {
    let resource = v1::Resource {
        metadata: Some(v1::Metadata {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            ..Default::default()
        }),
        spec: Some(v1::resource::Spec::Service(v1::ServiceSpec {
            workloads: vec!["shop/api".to_owned()],
            ports: vec![v1::ServicePort {
                name: "http".to_owned(),
                port: 80,
                target_port: 8080,
                protocol: v1::Protocol::Http.into(),
            }],
            ..Default::default()
        })),
        ..Default::default()
    };
    let request = v1::ApplyRequest {
        resources: vec![resource],
        ..Default::default()
    };
    client
        .apply(request)
        .await
        .map(|answer| answer.into_inner().revision)
}

async fn list(client: &mut ResourcesClient<Channel>) -> BTreeMap<String, u64> {
    let mut kept = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRequest {
            page_token,
            ..Default::default()
        };
        let page = client
            .list(request)
            .await
            .expect("resources can be listed")
            .into_inner();
        for resource in page.resources {
            let name = resource.metadata.expect("a name").name;
            kept.insert(name, resource.revision);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return kept;
        }
    }
}

fn count(answered: &Answered) -> usize {
    answered.lock().expect("nobody panicked").len()
}
