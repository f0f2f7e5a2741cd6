//! A corpus of ambiguous HTTP/1.1 and of odd paths, sent through both sidecars, and past the client's, to three real servers.
//!
//! What policy saw stands in the server sidecar's access log, what arrived in the records of nginx, Python and Node. Each case
//! says which requests those are; where the two differ, somebody got a request that nobody had judged.

mod backends;
mod judge;
mod lane;
mod table;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_tests::documents::{allow, allow_http};
use weft_tests::{Mesh, Sidecar, SidecarSpec, eventually, get};

use backends::{BackEnd, KINDS};
use lane::{Lane, Ran, WAYS};
use table::Rules;

#[tokio::test(flavor = "multi_thread")]
async fn row_05_three_backends_read_exactly_the_requests_that_policy_permits() {
    let cases = table::cases();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let stage = Stage::set_up().await;
    let runs = stage
        .lanes
        .iter()
        .map(|(lane, _)| lane.run(&cases, &stage.web, stage.apps.inbound));
    let ran = join_all(runs).await;
    let mut problems: Vec<String> = ran.iter().flat_map(|ran| ran.problems.clone()).collect();
    for heard in stage.finish(ran).await {
        problems.extend(judge::compare(&cases, &heard));
    }
    let count = problems.len();
    assert!(
        problems.is_empty(),
        "{count} problems:\n{}",
        problems.join("\n")
    );
}

/// One mesh for all: web calls a service of each lane, and one workload offers them.
struct Stage {
    _mesh: Mesh,
    apps: Sidecar,
    web: Sidecar,
    backends: Vec<BackEnd>,
    /// With the port of its back end.
    lanes: Vec<(Lane, u16)>,
}

impl Stage {
    async fn set_up() -> Self {
        let mesh = Mesh::start().await;
        let start = |kind| BackEnd::start(kind, WAYS.len(), mesh.runtime());
        let backends = join_all(KINDS.map(start)).await;
        let lanes: Vec<(Lane, u16)> = backends
            .iter()
            .flat_map(|backend| {
                let ways = WAYS.iter().zip(&backend.ports);
                ways.map(|((way, rules), port)| {
                    (
                        Lane {
                            to: backend.kind,
                            way: *way,
                            rules: *rules,
                        },
                        *port,
                    )
                })
            })
            .collect();
        mesh.apply(
            &lanes
                .iter()
                .map(|(lane, _)| documents(*lane))
                .collect::<String>(),
        )
        .await;

        let log = json!({"format": "json", "level": "info", "access": true});
        let (mut apps, mut web) = (
            SidecarSpec::of("shop/apps").set("log", log),
            SidecarSpec::of("shop/web"),
        );
        for (lane, port) in &lanes {
            apps = apps.app(
                &lane.target(),
                SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
            );
            web = web.upstream(&lane.target());
        }
        let apps = mesh.sidecar(apps).await;
        let web = mesh.sidecar(web).await;
        wait_for_endpoints(&web, lanes.len()).await;
        Self {
            _mesh: mesh,
            apps,
            web,
            backends,
            lanes,
        }
    }

    /// Ends everything in the order of the bytes' way, so that all is written down; gives what was.
    async fn finish(mut self, ran: Vec<Ran>) -> Vec<judge::Heard> {
        self.web.process.terminate(Duration::from_secs(20));
        self.apps.process.terminate(Duration::from_secs(20));
        let mut records = BTreeMap::new();
        for backend in self.backends {
            records.append(&mut backend.finish().await);
        }
        let log = self.apps.process.log();
        let lanes = self.lanes.into_iter().zip(ran);
        let heard = lanes.map(|((lane, port), ran)| judge::Heard {
            lane,
            went_on: ran.went_on,
            permitted: judge::permitted(&log, lane),
            records: records.remove(&port).unwrap_or_default(),
        });
        heard.collect()
    }
}

fn documents(lane: Lane) -> String {
    let service = format!(
        "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {}, namespace: shop}}\n\
         spec: {{workloads: [shop/apps], ports: [{{name: http, port: 80, targetPort: 8080, protocol: http}}]}}\n",
        lane.service()
    );
    let rule = lane.service();
    service
        + &match lane.rules {
            Rules::Paths => allow_http(&rule, &lane.target(), "shop/web", CONDITIONS),
            Rules::Open => allow(&rule, &lane.target(), "shop/web"),
        }
}

/// Until the sidecar knows where each service is.
async fn wait_for_endpoints(web: &Sidecar, services: usize) {
    let page = format!("http://{}/view", web.admin);
    eventually("the endpoints are known", || async {
        let view = get(&page).await.map_err(|error| error.to_string())?.json();
        let outbound = view["outbound"].as_array().expect("a list of services");
        let is_known = |service: &Value| service["endpoints"] != json!([]);
        if outbound.len() == services && outbound.iter().all(is_known) {
            Ok(())
        } else {
            Err(view.to_string())
        }
    })
    .await;
}

const CONDITIONS: &str =
    "{methods: [GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS], paths: [\"/ok/**\"]}";
