//! What an idle mesh weighs: the shop's services and policy, one sidecar for each workload, the small binaries, of a release build. When a
//! sidecar weighs more although nothing was added, what its start calls has moved: `sidecar/link/record` writes it down anew.

use std::time::Duration;

use weft_tests::{Mesh, Sidecar, SidecarSpec};

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_sidecar_and_control_plane_are_small() {
    let mesh = Mesh::start().await;
    for file in ["services.yaml", "policy.yaml"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples/shop")
            .join(file);
        mesh.apply(&std::fs::read_to_string(path).expect("the example is there"))
            .await;
    }
    let mut sidecars: Vec<Sidecar> = Vec::new();
    for (workload, instance, upstreams) in [
        ("shop/web", "web", vec!["shop/api:http"]),
        ("shop/api", "api-1", vec!["shop/orders:grpc"]),
        ("shop/api", "api-2", vec!["shop/orders:grpc"]),
        ("shop/orders", "orders", vec!["shop/ledger:tcp"]),
        ("shop/ledger", "ledger", vec![]),
        ("shop/intruder", "intruder", vec![]),
    ] {
        let quiet = serde_json::json!({"format": "text", "level": "info", "access": false});
        let spec = SidecarSpec::of(workload)
            .instance(instance)
            .set("log", quiet);
        sidecars.push(
            mesh.sidecar(upstreams.into_iter().fold(spec, SidecarSpec::upstream))
                .await,
        );
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (resident, anonymous) = memory(mesh.control_plane.pid());
    println!("control plane: VmRSS {resident} KiB, RssAnon {anonymous} KiB");
    assert!(resident < 40 << 10);
    for sidecar in &sidecars {
        let (resident, anonymous) = memory(sidecar.process.pid());
        println!("sidecar: VmRSS {resident} KiB, RssAnon {anonymous} KiB");
        assert!(resident <= 8 << 10);
    }
}

/// VmRSS and RssAnon in KiB.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let field = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("every process has it");
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number")
    };
    (field("VmRSS:"), field("RssAnon:"))
}
