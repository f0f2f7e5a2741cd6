//! Programs that start programs: a shell that forks must not leave anything behind, however it or the mesh ends.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use weft_tests::{Up, eventually, eventually_within};

/// A shell that listens nowhere itself: what it starts does, and does not mind a SIGTERM.
const MESH: &str = "\
trustDomain: fork.example
resources: [services.yaml]
workloads:
- name: web
  namespace: shop
  command: [sh, -c, \"(trap '' TERM; {meshctl} sample ledger --listen {port.tcp}) & {meshctl} sample ledger --listen {port.second} & wait\"]
  ports: [{name: tcp}, {name: second}]
";

const SERVICES: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {workloads: [shop/web], ports: [{name: tcp, port: 7000, protocol: tcp}, {name: second, port: 7001, protocol: tcp}]}
";

async fn start() -> Up {
    Up::start_from(&[("mesh.yaml", MESH), ("services.yaml", SERVICES)]).await
}

fn ports(mesh: &Up) -> [SocketAddr; 2] {
    ["tcp", "second"].map(|name| mesh.port("web", name))
}

#[tokio::test]
async fn ctrl_c_ends_grandchildren_too_also_those_that_ignore_it() {
    let mut mesh = start().await;
    assert!(mesh.processes().iter().any(|line| line.starts_with("sh ")));
    mesh.interrupt(Duration::from_secs(30));
    // The grandchildren are known by the ports in their arguments.
    mesh.assert_nothing_left();
}

#[tokio::test]
async fn a_crash_of_the_shell_takes_its_children_along_so_that_the_next_one_gets_their_ports() {
    let mesh = start().await;
    let shell = super::pid(&mesh.workload("web")["pid"]);
    let before = mesh.processes();
    kill_process(shell, Signal::KILL).expect("it runs");
    eventually("it is started again", || async {
        let log = mesh.log();
        let listening = ports(&mesh)
            .into_iter()
            .all(|at| TcpStream::connect(at).is_ok());
        (log.contains("! web ended") && listening)
            .then_some(())
            .ok_or(log)
    })
    .await;
    eventually("as many processes as before", || async {
        let now = mesh.processes();
        (now.len() == before.len()).then_some(()).ok_or(now)
    })
    .await;
    let log = mesh.log();
    assert!(!log.contains("in use"), "the port was taken: {log}");
    assert_eq!(log.matches("! web ended").count(), 1, "{log}");
}

#[tokio::test]
async fn a_mesh_killed_without_warning_leaves_no_grandchild() {
    let mut mesh = start().await;
    mesh.kill();
    eventually_within(Duration::from_secs(25), "every process ends", || {
        let left = mesh.processes();
        async move { if left.is_empty() { Ok(()) } else { Err(left) } }
    })
    .await;
    let again = mesh.start_again().await;
    eventually("the programs listen where they did", || async {
        let listening = ports(&again)
            .into_iter()
            .all(|at| TcpStream::connect(at).is_ok());
        listening.then_some(()).ok_or(())
    })
    .await;
}
