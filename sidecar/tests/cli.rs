//! The binary as its users meet it.

use std::process::Command;

fn sidecar() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weft-sidecar"))
}

#[test]
fn help_names_the_configuration() {
    let output = sidecar().arg("--help").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("--config"));
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.yaml");
    std::fs::write(
        &path,
        "workload: api\ntrustDomain: Weft\ninbound: {listen: nowhere}\ndrain: soon\n",
    )
    .unwrap();
    let output = sidecar().arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    for key in [
        "workload: `api`",
        "trustDomain: `Weft`",
        "instance:",
        "runtime:",
        "inbound.listen: `nowhere`",
        "drain: `soon`",
    ] {
        assert!(told.contains(key), "{key} is missing in {told}");
    }
}

#[test]
fn a_key_that_does_not_exist_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.yaml");
    std::fs::write(&path, "workload: shop/api\nupstream: []\n").unwrap();
    let output = sidecar().arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("upstream") && told.contains('2'), "{told}");
}
