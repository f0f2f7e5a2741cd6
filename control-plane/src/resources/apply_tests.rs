use super::*;
use crate::fixture::{Mesh, allow, learning, quarantine, service, trust_domain};

fn request(resources: impl IntoIterator<Item = v1::Resource>) -> v1::ApplyRequest {
    v1::ApplyRequest {
        resources: resources.into_iter().collect(),
        ..Default::default()
    }
}

/// Decides against the store without writing.
async fn decided(mesh: &Mesh, edit: Edit) -> Result<Outcome, ApplyError> {
    mesh.store
        .write(move |tx| decide(&edit, tx))
        .await
        .map(|written| written.value)
}

async fn apply(mesh: &Mesh, request: v1::ApplyRequest) -> Result<Outcome, ApplyError> {
    decided(mesh, Edit::read_apply(&trust_domain(), request).unwrap()).await
}

fn actions(outcome: &Outcome) -> Vec<Action> {
    outcome
        .changes
        .iter()
        .map(|change| change.action())
        .collect()
}

fn refusal(request: v1::ApplyRequest) -> String {
    let refused = Edit::read_apply(&trust_domain(), request).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    refused.message().to_owned()
}

#[tokio::test]
async fn the_same_resources_again_change_nothing() {
    let mesh = Mesh::shop().await;
    let again = [
        service("api", &["shop/api"]),
        allow("web-api", "api", &["shop/web"]),
    ];
    let outcome = apply(&mesh, request(again)).await.unwrap();
    assert_eq!(actions(&outcome), [Action::Unchanged, Action::Unchanged]);
    assert!(outcome.writes.is_empty());
}

#[tokio::test]
async fn what_is_new_and_what_differs_is_written_and_shown_with_what_was() {
    let mesh = Mesh::shop().await;
    let edit = [
        allow("web-api", "api", &["shop/web", "shop/x"]),
        allow("new", "api", &["shop/y"]),
    ];
    let outcome = apply(&mesh, request(edit)).await.unwrap();
    assert_eq!(actions(&outcome), [Action::Created, Action::Updated]);
    assert!(outcome.changes[0].before.is_none());
    assert!(outcome.changes[1].before.is_some());
    assert_eq!(outcome.writes.len(), 2);
}

#[tokio::test]
async fn a_precondition_that_fails_is_a_conflict() {
    let mesh = Mesh::shop().await;
    for (name, revision) in [("web-api", 0), ("web-api", 99), ("none", 1)] {
        let key = v1::ResourceKey {
            kind: "Allow".into(),
            namespace: "shop".into(),
            name: name.into(),
        };
        let mut edit = request([allow("web-api", "api", &["shop/x"])]);
        edit.preconditions = vec![v1::Precondition {
            key: Some(key),
            revision,
        }];
        let refused = apply(&mesh, edit).await.unwrap_err();
        assert_eq!(refused.into_status().code(), tonic::Code::Aborted);
    }
}

#[tokio::test]
async fn pruning_deletes_only_members_of_the_same_set() {
    let mut mesh = Mesh::shop().await;
    let member = |name: &str, set: &str| v1::Resource {
        set: set.to_owned(),
        ..allow(name, "api", &["shop/x"])
    };
    mesh.put([
        member("mine", "shop"),
        member("kept", "shop"),
        member("theirs", "other"),
    ])
    .await;
    let mut edit = request([allow("kept", "api", &["shop/x"])]);
    (edit.set, edit.prune) = ("shop".to_owned(), true);
    let outcome = apply(&mesh, edit).await.unwrap();
    assert_eq!(actions(&outcome), [Action::Unchanged, Action::Deleted]);
    assert_eq!(outcome.writes[0].0.to_string(), "Allow/shop/mine");
    let mut without_set = request([]);
    without_set.prune = true;
    assert!(refusal(without_set).contains("prune"));
}

#[tokio::test]
async fn applied_without_a_set_a_resource_stays_in_its_set() {
    let mut mesh = Mesh::shop().await;
    mesh.put([v1::Resource {
        set: "shop".to_owned(),
        ..allow("a", "api", &["shop/x"])
    }])
    .await;
    let outcome = apply(&mesh, request([allow("a", "api", &["shop/x"])]))
        .await
        .unwrap();
    assert_eq!(actions(&outcome), [Action::Unchanged]);
}

#[tokio::test]
async fn a_rule_may_name_a_service_to_come_but_no_port_that_its_service_lacks() {
    let mesh = Mesh::shop().await;
    let later = Edit::read_apply(
        &trust_domain(),
        request([allow("a", "to-come", &["shop/x"])]),
    )
    .unwrap();
    let warnings = later.warnings(&mesh.views.world(), Timestamp::now());
    assert!(warnings[0].contains("shop/to-come"), "{warnings:?}");
    assert!(decided(&mesh, later).await.is_ok());

    let mut bare = service("api", &["shop/api"]);
    if let Some(v1::resource::Spec::Service(spec)) = &mut bare.spec {
        spec.ports.retain(|port| port.name != "http");
    }
    let refused = apply(
        &mesh,
        request([bare.clone(), allow("web-api", "api", &["shop/web"])]),
    )
    .await
    .unwrap_err();
    assert!(
        refused.to_string().contains("has no port `http`"),
        "{refused}"
    );
    // A rule that stands already is only warned about.
    let edit = Edit::read_apply(&trust_domain(), request([bare])).unwrap();
    let warnings = edit.warnings(&mesh.views.world(), Timestamp::now());
    assert!(
        warnings.iter().any(|warning| warning.contains("web-api")),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn deleting_what_is_not_there_deletes_nothing() {
    let mesh = Mesh::shop().await;
    let key = |name: &str| v1::ResourceKey {
        kind: "Allow".into(),
        namespace: "shop".into(),
        name: name.into(),
    };
    let request = v1::DeleteRequest {
        keys: vec![key("web-api"), key("none")],
        ..Default::default()
    };
    let refused = decided(&mesh, Edit::read_delete(request).unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.into_status().code(), tonic::Code::NotFound);
}

#[test]
fn what_is_not_valid_is_refused_by_its_name_and_field() {
    let nobody = allow("a", "api", &[]);
    assert!(refusal(request([nobody])).starts_with("Allow/shop/a: "));
    let twice = [
        allow("a", "api", &["shop/x"]),
        allow("a", "api", &["shop/y"]),
    ];
    assert!(refusal(request(twice)).contains("twice"));
    assert!(refusal(request([quarantine("q", "weft/control-plane")])).contains("spec.workload"));
    let nameless = v1::Resource {
        metadata: None,
        ..allow("a", "api", &["shop/x"])
    };
    assert!(refusal(request([nameless])).starts_with("resources[0]: "));
    let label = "x".repeat(63);
    let long = v1::Resource {
        metadata: Some(v1::Metadata {
            name: label.clone(),
            namespace: label.clone(),
            ..Default::default()
        }),
        ..service("api", &["shop/api"])
    };
    // 4 labels of 63 would not fit, these do.
    assert!(Edit::read_apply(&trust_domain(), request([long])).is_ok());
}

#[tokio::test]
async fn learning_is_admitted_for_thirty_days_and_warned_of() {
    let now = Timestamp::now();
    let days = |days: i64| now + jiff::SignedDuration::from_hours(24 * days);
    assert!(refusal(request([learning(days(31))])).contains("at most 30 days"));
    let world = Mesh::shop().await.views.world();
    let warnings = |until| {
        let edit = Edit::read_apply(&trust_domain(), request([learning(until)])).unwrap();
        edit.warnings(&world, now)
    };
    let until = days(29);
    let said = format!("everything passes in shop until {until}");
    assert!(warnings(until)[0].contains(&said), "{:?}", warnings(until));
    assert!(warnings(days(-1))[0].contains("shop is strict"));
}
