//! A client, an API and their sidecars, one of which is flooded; what others of its clients notice, and what memory it takes.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::flood::{Did, Flood, Way};
use crate::{Mesh, Noticed, Sidecar, SidecarSpec, Svid, eventually, eventually_within, request};

/// Which sidecar is flooded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client's, at the listener for its own workload.
    Client,
    /// The server's, past the client's, with the client's SVID.
    Server,
}

/// The processes.
#[derive(Debug)]
pub struct Flooded {
    web: Sidecar,
    api: Sidecar,
    _backend: Backend,
    /// Dropped last: the logs lie in its folder.
    _mesh: Mesh,
}

/// What one flood came to.
#[derive(Debug)]
pub struct Account {
    pub flood: Flood,
    pub side: Side,
    pub before: Noticed,
    pub during: Noticed,
    /// What the flooded sidecar held at most, more than at rest.
    pub grown: u64,
    pub did: Did,
    length: Duration,
}

impl Flooded {
    /// With these limits of both sidecars.
    pub async fn start(limits: Value) -> Self {
        let mesh = Mesh::start().await;
        mesh.apply(DOCUMENTS).await;
        let backend = Backend::http().await;
        let [api, web] = ["shop/api", "shop/web"].map(|workload| {
            SidecarSpec::of(workload)
                .set(
                    "log",
                    json!({"format": "text", "level": "warn", "access": false}),
                )
                .set("limits", limits.clone())
        });
        let api = TARGETS
            .iter()
            .fold(api, |spec, target| spec.app(target, backend.address));
        let web = TARGETS
            .iter()
            .fold(web, |spec, target| spec.upstream(target));
        let (api, web) = tokio::join!(mesh.sidecar(api), mesh.sidecar(web));
        let entry = web.upstream(TARGETS[0]);
        eventually("the endpoint is known", || async {
            match request(entry, "GET", "/", &[("Host", HOST)], b"").await {
                Ok(response) if response.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        Self {
            web,
            api,
            _backend: backend,
            _mesh: mesh,
        }
    }

    /// What another client notices for `length`, before a flood and while it runs.
    pub async fn under(&self, flood: Flood, side: Side, length: Duration) -> Account {
        let entry = self.web.upstream(TARGETS[0]);
        let before = Noticed::by_asking(entry, HOST, length).await;
        let flooded = self.sidecar(side).process.pid();
        let at_rest = memory(flooded, "VmRSS:");
        let running = flood.start(self.way(flood, side));
        let begun = Instant::now();
        eventually_within(Duration::from_secs(60), "the flood is there", || async {
            let did = running.did();
            let is_there = match flood {
                // Those whose time was up come again.
                Flood::SlowHeads => did.open >= flood.connections() * 9 / 10,
                Flood::RapidResets(_) => did.resets > 0 && did.opened >= flood.connections(),
            };
            if is_there { Ok(()) } else { Err(did) }
        })
        .await;
        let during = Noticed::by_asking(entry, HOST, length).await;
        let did = running.did();
        Account {
            flood,
            side,
            before,
            during,
            grown: memory(flooded, "VmHWM:").saturating_sub(at_rest),
            did,
            length: begun.elapsed(),
        }
    }

    /// Both live, did not panic, and say that they are ready.
    pub async fn assert_well(&mut self) {
        for sidecar in [&mut self.web, &mut self.api] {
            assert_eq!(sidecar.process.ended(), None, "it ended");
            let log = sidecar.process.log();
            assert!(!log.contains("panicked"), "{log}");
            sidecar.wait_until_ready().await;
        }
    }

    fn sidecar(&self, side: Side) -> &Sidecar {
        match side {
            Side::Client => &self.web,
            Side::Server => &self.api,
        }
    }

    fn way(&self, flood: Flood, side: Side) -> Way {
        let (target, name) = match flood {
            Flood::SlowHeads => (TARGETS[0], "http.api.shop.test.example"),
            Flood::RapidResets(_) => (TARGETS[1], "rpc.api.shop.test.example"),
        };
        match side {
            Side::Client => Way::Own(self.web.upstream(target)),
            Side::Server => {
                let svid = Svid::of_sidecar(&self.web.runtime);
                Way::Peer(self.api.inbound, svid, name.to_owned())
            }
        }
    }
}

impl Account {
    /// The p99 in the flood to that before it.
    pub fn times(&self) -> f64 {
        self.during.p99().as_secs_f64() / self.before.p99().as_secs_f64()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, during) = (&self.before, &self.during);
        write!(
            f,
            "{:?} at the {:?}'s sidecar: p50 {:?} -> {:?}, p99 {:?} -> {:?} ({:.2}x) of {} and {} requests, {} failed, RSS +{} KiB; {} \
             connections open, {} opened and {} streams reset in {:.1?}",
            self.flood,
            self.side,
            before.quantile(500),
            during.quantile(500),
            before.p99(),
            during.p99(),
            self.times(),
            before.answered(),
            during.answered(),
            before.failed + during.failed,
            self.grown / 1024,
            self.did.open,
            self.did.opened,
            self.did.resets,
            self.length,
        )
    }
}

/// A line of the process's status, in bytes.
#[track_caller]
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().split(' ').next())
        .and_then(|number| number.parse::<u64>().ok());
    kibibytes.expect("a number of kB") * 1024
}

const HOST: &str = "api.shop";
const TARGETS: [&str; 2] = ["shop/api:http", "shop/api:rpc"];
const DOCUMENTS: &str = "---
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  workloads: [shop/api]
  ports:
  - {name: http, port: 80, targetPort: 8080, protocol: http}
  - {name: rpc, port: 81, targetPort: 8081, protocol: http2}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web, namespace: shop}
spec:
  to: {service: api, ports: [http, rpc]}
  from: [shop/web]
  http: [{paths: [/**]}]
";
