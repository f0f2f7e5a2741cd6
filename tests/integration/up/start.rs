//! A start that does not succeed, or not wholly: its exit code, its words, and that nothing stays behind.

use std::time::Duration;

use rustix::process::Signal;
use weft_tests::{Process, eventually, eventually_within};

use super::Folder;

const SERVICE: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: a, namespace: x}
spec: {workloads: [x/a], ports: [{name: http, port: 80, protocol: http}]}
";

/// A program that listens nowhere.
const DEAF: &str = "\
trustDomain: a.example
resources: [r.yaml]
workloads:
- {name: a, namespace: x, command: [sleep, \"1000\"], ports: [{name: http}]}
";

#[tokio::test]
async fn a_mesh_that_does_not_come_up_says_no_and_what_is_missing() {
    let folder = Folder::new(&[("mesh.yaml", DEAF), ("r.yaml", SERVICE)]);
    // Without any time it depends on the machine how far it gets.
    let early = [
        "the control plane did not come up",
        "no acknowledgement from the sidecars of a",
    ];
    for (timeout, told) in [
        ("6", &["only 0 of 1 endpoints are healthy"][..]),
        ("0", &early),
    ] {
        let ran = folder.up(&["mesh.yaml", "--timeout", timeout]).output();
        let ran = ran.expect("it runs");
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{error}");
        assert!(error.contains("the mesh did not start"), "{error}");
        assert!(
            told.iter().any(|reason| error.contains(reason)),
            "{told:?}: {error}"
        );
        folder.assert_nothing_left();
    }
}

#[tokio::test]
async fn ctrl_c_during_the_start_leaves_nothing() {
    let folder = Folder::new(&[("mesh.yaml", DEAF), ("r.yaml", SERVICE)]);
    let log = folder.path().join("log");
    let mut up = Process::start("up", &mut folder.up(&["mesh.yaml"]), &log);
    // Once while the control plane starts, once while a program is waited for.
    eventually("the control plane was started", || async {
        let there = folder.processes();
        there
            .iter()
            .any(|line| line.contains(" control-plane "))
            .then_some(())
            .ok_or(there)
    })
    .await;
    interrupt(&mut up).await;
    folder.assert_nothing_left();
    let mut up = Process::start("up", &mut folder.up(&["mesh.yaml"]), &log);
    eventually("the program was started", || async {
        let there = folder.processes();
        there
            .iter()
            .any(|line| line.starts_with("sleep "))
            .then_some(())
            .ok_or(there)
    })
    .await;
    interrupt(&mut up).await;
    folder.assert_nothing_left();
}

async fn interrupt(up: &mut Process) {
    up.signal(Signal::INT);
    let mut ended = None;
    eventually_within(Duration::from_secs(30), "it ends", || {
        ended = ended.or_else(|| up.ended());
        let ended = ended;
        async move { ended.ok_or(()) }
    })
    .await;
    assert!(
        ended.is_some_and(|status| status.success()),
        "{ended:?}\n{}",
        up.log()
    );
}
