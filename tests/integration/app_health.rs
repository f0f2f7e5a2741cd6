//! A replica whose application is not well leaves the rotation, and comes back when it is.

use weft_tests::Load;

use crate::replicas::{TARGET, Two};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_health_check_fails_gets_no_traffic_until_it_passes_again() {
    let mesh = Two::start("  health: {http: {path: /healthz}, interval: 100ms}\n").await;
    let load = Load::start(mesh.web.upstream(TARGET), "api.shop", "/", 50);
    assert_eq!(mesh.who_answers().await, ["one", "two"]);

    mesh.one.set_well(false);
    mesh.until_told("api-1", "unhealthy").await;
    assert_eq!(mesh.who_answers().await, ["two"]);
    let count = mesh.one.count();
    assert_eq!(mesh.who_answers().await, ["two"]);
    assert_eq!(mesh.one.count(), count, "it still got traffic");

    mesh.one.set_well(true);
    mesh.until_told("api-1", "healthy").await;
    assert_eq!(mesh.who_answers().await, ["one", "two"]);
    let outcome = load.outcome();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_application_without_a_health_check_leaves_the_rotation_too() {
    let mut mesh = Two::start("").await;
    assert_eq!(mesh.who_answers().await, ["one", "two"]);
    mesh.two.kill().await;
    mesh.until_told("api-2", "unhealthy").await;
    assert_eq!(mesh.who_answers().await, ["one"]);

    mesh.two.restart().await;
    mesh.until_told("api-2", "healthy").await;
    assert_eq!(mesh.who_answers().await, ["one", "two"]);
}
