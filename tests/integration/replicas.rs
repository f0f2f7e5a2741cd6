//! A service of two replicas and a client of it, as several tests want them.

use weft_tests::documents::{allow, service};
use weft_tests::{Mesh, Replica, Sidecar, SidecarSpec, eventually, request};

pub(crate) const TARGET: &str = "shop/api:http";

/// Two replicas, each behind a sidecar, and a client of both.
pub(crate) struct Two {
    pub(crate) mesh: Mesh,
    pub(crate) one: Replica,
    pub(crate) two: Replica,
    pub(crate) web: Sidecar,
    /// In front of the replicas, in their order.
    pub(crate) sidecars: [Sidecar; 2],
}

impl Two {
    /// `health` is added to the Service.
    pub(crate) async fn start(health: &str) -> Self {
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
            sidecars,
        };
        started.until_told("api-1", "healthy").await;
        started.until_told("api-2", "healthy").await;
        started
    }

    /// Waits until the operator and the client's sidecar are told this of a replica.
    pub(crate) async fn until_told(&self, instance: &str, health: &str) {
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
    pub(crate) async fn who_answers(&self) -> Vec<String> {
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
