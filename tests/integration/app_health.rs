//! A replica whose application is not well leaves the rotation, and comes back when it is.

use weft_tests::documents::{allow, service};
use weft_tests::{Load, Mesh, Replica, Sidecar, SidecarSpec, eventually, request};

const TARGET: &str = "shop/api:http";

/// Two replicas, each behind a sidecar, and a client of both.
struct Two {
    mesh: Mesh,
    one: Replica,
    two: Replica,
    web: Sidecar,
    _sidecars: [Sidecar; 2],
}

impl Two {
    /// `health` is added to the Service.
    async fn start(health: &str) -> Self {
        let mesh = Mesh::start().await;
        let service = format!("{}{health}", service(TARGET, "http"));
        mesh.apply(&(service + &allow("web", TARGET, "shop/web")))
            .await;
        let (one, two) = (Replica::start("one").await, Replica::start("two").await);
        let replica = |instance, app: &Replica| {
            let spec = SidecarSpec::of("shop/api").instance(instance);
            mesh.sidecar(spec.app(TARGET, app.address))
        };
        let sidecars = [replica("api-1", &one).await, replica("api-2", &two).await];
        let web = mesh
            .sidecar(SidecarSpec::of("shop/web").upstream(TARGET))
            .await;
        let started = Self {
            mesh,
            one,
            two,
            web,
            _sidecars: sidecars,
        };
        started.until_told("api-1", "healthy").await;
        started.until_told("api-2", "healthy").await;
        started
    }

    /// Waits until the operator and the client's sidecar are told this of a replica.
    async fn until_told(&self, instance: &str, health: &str) {
        eventually(&format!("{instance} is listed as {health}"), || async {
            let listed = self.mesh.meshctl(["endpoints", "shop/api", "-o", "json"]);
            let listed = listed.await.ok().json();
            is_told(&listed, instance, health)
                .then_some(())
                .ok_or(listed)
        })
        .await;
        eventually(
            &format!("the client knows that {instance} is {health}"),
            || async {
                let view = weft_tests::get(&format!("http://{}/view", self.web.admin)).await;
                let view = view.expect("its admin answers").json();
                let known = &view["outbound"][0]["endpoints"];
                is_told(known, instance, health).then_some(()).ok_or(view)
            },
        )
        .await;
    }

    /// Who answers twenty requests, one after another.
    async fn who_answers(&self) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..20 {
            let headers = [("Host", "api.shop")];
            let answer = request(self.web.upstream(TARGET), "GET", "/", &headers, b"").await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            names.push(answer.text());
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn is_told(endpoints: &serde_json::Value, instance: &str, health: &str) -> bool {
    endpoints
        .as_array()
        .into_iter()
        .flatten()
        .any(|endpoint| endpoint["instance"] == instance && endpoint["health"] == health)
}

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
