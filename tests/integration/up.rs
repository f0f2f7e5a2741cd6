//! `meshctl up` when things go wrong: a program that crashes, a file with mistakes, a second start, a kill without warning.

mod families;
mod folder;
mod output;
mod start;

use std::process::Command;
use std::time::Duration;

use folder::Folder;
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use weft_tests::{Up, binary, eventually, eventually_within};

#[tokio::test]
async fn a_crashed_program_and_a_killed_sidecar_are_started_again_and_reported() {
    let shop = Up::start("examples/shop/mesh.yaml").await;
    let ledger = pid(&shop.workload("ledger")["pid"]);
    let sidecar = pid(&shop.workload("ledger")["sidecarPid"]);
    for process in [ledger, sidecar] {
        kill_process(process, Signal::KILL).expect("it runs");
    }
    let web = shop.port("web", "http");
    eventually("four hops work again", || async move {
        match weft_tests::get(&format!("http://{web}/checkout/2")).await {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let log = shop.log();
    for name in ["! ledger ended", "! ledger-sidecar ended"] {
        assert!(log.contains(name), "{name} in: {log}");
    }
}

#[tokio::test]
async fn a_mesh_that_is_killed_without_warning_leaves_no_process_and_starts_again() {
    let mut shop = Up::start("examples/shop/mesh.yaml").await;
    shop.kill();
    eventually_within(Duration::from_secs(20), "every process ends", || {
        let left = shop.processes();
        async move { if left.is_empty() { Ok(()) } else { Err(left) } }
    })
    .await;
    let again = shop.start_again().await;
    assert_eq!(
        again
            .through_proxy("web", "http://api.shop/orders/1")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_deleted_state_is_a_new_mesh_whatever_the_runtime_folder_holds() {
    let mut shop = Up::start("examples/shop/mesh.yaml").await;
    let bundle = shop.bundle();
    shop.interrupt(Duration::from_secs(20));
    std::fs::remove_dir_all(shop.state()).expect("deleted");
    let again = shop.start_again().await;
    assert_ne!(again.bundle(), bundle);
    assert_eq!(
        again
            .through_proxy("web", "http://api.shop/orders/1")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_second_start_with_the_same_state_is_refused() {
    let shop = Up::start("examples/shop/mesh.yaml").await;
    let second = shop
        .meshctl(&["up", &shop.source("examples/shop/mesh.yaml")])
        .await;
    assert_eq!(second.code, 1, "{second:?}");
    assert!(
        second.stderr.contains("another `meshctl up`"),
        "{}",
        second.stderr
    );
    assert_eq!(
        shop.through_proxy("web", "http://api.shop/orders/1")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_lock_and_says_no() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let mesh = format!(
        "trustDomain: a.example\nworkloads:\n\
         - {{name: a, namespace: x, command: [\"true\"], ports: [{{name: http, port: {port}}}]}}\n"
    );
    std::fs::write(folder.path().join("mesh.yaml"), mesh).expect("written");
    let ran = Command::new(binary("meshctl"))
        .args(["up", "mesh.yaml"])
        .current_dir(folder.path())
        .env("XDG_CONFIG_HOME", folder.path().join("config"))
        .env("XDG_RUNTIME_DIR", folder.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("port {port}")), "{told}");
    assert!(folder.path().join(".weft").exists(), "the state was opened");
    assert!(!folder.path().join(".weft/up.lock").exists());
}

#[tokio::test]
async fn without_lines_to_try_in_the_file_there_are_an_allowed_and_a_refused_one_that_hold() {
    let read = |name: &str| {
        let path = format!("{}/../examples/shop/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("the example")
    };
    let (mesh, services, policy) = (
        read("mesh.yaml"),
        read("services.yaml"),
        read("policy.yaml"),
    );
    let (untried, _) = mesh.split_once("\ntry:").expect("lines to try");
    let shop = Up::start_from(&[
        ("mesh.yaml", untried),
        ("services.yaml", &services),
        ("policy.yaml", &policy),
    ])
    .await;
    let lines = shop.report["try"].as_array().expect("lines").clone();
    let expected: Vec<_> = lines.iter().map(|line| &line["expectStatus"]).collect();
    assert_eq!(expected, [200, 403], "{lines:?}");
    for line in &lines {
        let ran = shop
            .shell(line["command"].as_str().expect("a command"))
            .await
            .ok();
        let status = format!("HTTP/1.1 {} ", line["expectStatus"]);
        assert!(ran.stdout.starts_with(&status), "{line}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn mistakes_in_the_files_are_told_together_and_nothing_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "mesh.yaml",
        "trustDomain: a.example\nresources: [r.yaml]\nworkloads:\n- {name: a, namespace: x, command: [\"true\"]}\n",
    );
    write(
        "r.yaml",
        "apiVersion: weft.dev/v1\nkind: Allow\nmetadata: {name: a, namespace: x}\nspec: {to: {service: b, port: [http]}, from: [x/a]}\n\
         ---\napiVersion: weft.dev/v1\nkind: Alow\nmetadata: {name: b, namespace: x}\nspec: {}\n",
    );
    let ran = Command::new(binary("meshctl"))
        .args(["up", "mesh.yaml"])
        .current_dir(folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{told}");
    for part in ["r.yaml:4:", "ports", "Alow", "Allow"] {
        assert!(told.contains(part), "{part} in: {told}");
    }
    assert!(!folder.path().join(".weft").exists(), "nothing was started");
}

fn pid(value: &serde_json::Value) -> Pid {
    value
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
        .unwrap_or_else(|| panic!("no pid: {value}"))
}

/// Four services without one rule.
#[tokio::test]
async fn a_mesh_file_may_let_a_namespace_learn_and_up_says_until_when() {
    let read = |name: &str| {
        let path = format!("{}/../examples/shop/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("the example")
    };
    let mesh = read("mesh.yaml").replace("policy.yaml", "settings.yaml");
    let (mesh, _) = mesh.split_once("\ntry:").expect("lines to try");
    let in_an_hour = Timestamp::now() + SignedDuration::from_hours(1);
    let until = Timestamp::from_second(in_an_hour.as_second()).expect("it is a time");
    let settings = format!(
        "apiVersion: weft.dev/v1\nkind: NamespaceSettings\nmetadata: {{name: settings, namespace: shop}}\n\
         spec: {{mode: learn, learnUntil: {until}}}\n"
    );
    let shop = Up::start_from(&[
        ("mesh.yaml", mesh),
        ("services.yaml", &read("services.yaml")),
        ("settings.yaml", &settings),
    ])
    .await;
    let said = format!("everything passes in shop until {until}");
    assert!(shop.log().contains(&said), "{}", shop.log());
    let may_call = shop.workload("intruder")["mayCall"].to_string();
    assert!(may_call.contains("shop/ledger"), "{may_call}");
    let web = shop.port("web", "http");
    eventually("four hops work", || async move {
        match weft_tests::get(&format!("http://{web}/checkout/1")).await {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let answer = shop
        .through_proxy("intruder", "http://api.shop/orders/1")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
