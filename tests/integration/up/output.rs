//! What `up` prints for people: the table, the lines to paste, the programs' own lines, and what crashed.

use std::time::Duration;

use rustix::process::Signal;
use weft_tests::{Process, Up, eventually_within};

use super::Folder;

const START_LIMIT: Duration = Duration::from_secs(40);

#[tokio::test]
async fn the_table_says_who_is_where_who_may_call_whom_and_what_is_not_promised() {
    let folder = Folder::with_the_shop();
    let log = folder.path().join("printed");
    let mut up = Process::start(
        "up",
        &mut folder.up(&["mesh.yaml", "--state", "kept"]),
        &log,
    );
    let printed = wait_for(
        &mut up,
        "Workloads under one user on one host are not isolated from each other",
    )
    .await;

    let heading = "WORKLOAD SPIFFE ID LISTENS INBOUND (mTLS) HTTP PROXY MAY CALL";
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = printed
        .lines()
        .skip_while(|line| squeezed(line) != heading)
        .skip(1);
    let rows = [
        ("web", "web", "http", "shop/api:http"),
        ("api-1", "api", "http", "shop/orders:grpc"),
        ("api-2", "api", "http", "shop/orders:grpc"),
        ("orders", "orders", "grpc", "shop/ledger:tcp"),
        ("ledger", "ledger", "tcp", "nothing"),
        ("intruder", "intruder", "nothing", "nothing"),
    ];
    for (instance, workload, listens, may_call) in rows {
        let line = squeezed(lines.next().expect("a row for each replica"));
        let id = format!("{instance} spiffe://shop.example/ns/shop/sa/{workload} {listens} ");
        assert!(
            line.starts_with(&id) && line.ends_with(&format!(" {may_call}")),
            "{id}…{may_call}: {line}"
        );
    }
    for (start, end) in [
        ("  curl -sS -i http://127.0.0.1:", "/checkout/1   # 200"),
        (
            "  curl -sS -i -x http://127.0.0.1:",
            " http://api.shop/orders/1   # 200",
        ),
        (
            "  curl -sS -i -x http://127.0.0.1:",
            " http://api.shop/orders/1   # 403",
        ),
    ] {
        let is_there = printed
            .lines()
            .any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(is_there, "{start}…{end} in: {printed}");
    }
    assert!(
        printed.contains("6 sidecars enforce revision "),
        "{printed}"
    );
    // Each program's lines stand under its name, all in one column.
    for name in ["web     ", "api-1   ", "api-2   ", "orders  ", "ledger  "] {
        assert!(
            printed.contains(&format!("\n{name} | listening on ")),
            "{name}: {printed}"
        );
    }
    assert!(!printed.contains('\u{1b}'), "colours in a file");

    assert!(
        !folder.path().join(".weft").exists(),
        "--state names another folder"
    );
    let listed = folder
        .meshctl(&["--context", "kept", "sidecars"])
        .output()
        .expect("it runs");
    assert!(listed.status.success(), "{listed:?}");
    stop(&mut up);
    folder.assert_nothing_left_of("kept");
}

#[tokio::test]
async fn a_program_that_keeps_crashing_is_reported_and_started_again_ever_later() {
    let mesh = "trustDomain: a.example\nworkloads:\n\
                - {name: bad, namespace: x, command: [sh, -c, \"echo about to fail; exit 3\"]}\n";
    let folder = Folder::new(&[("mesh.yaml", mesh)]);
    let log = folder.path().join("printed");
    let mut up = Process::start("up", &mut folder.up(&["mesh.yaml"]), &log);
    const CRASHED: &str = "! bad ended (exit status: 3); it is started again in ";
    let delays = eventually_within(START_LIMIT, "five crashes", || {
        let printed = up.log();
        async move {
            let delays: Vec<f64> = printed
                .lines()
                .filter_map(|line| line.strip_prefix(CRASHED))
                .map(seconds)
                .collect();
            if delays.len() >= 5 {
                Ok(delays)
            } else {
                Err(printed)
            }
        }
    })
    .await;
    assert!(
        delays.iter().copied().fold(0.0, f64::max) >= 4.0 * delays[0],
        "{delays:?}"
    );
    assert!(up.log().contains("bad | about to fail\n"), "{}", up.log());
    stop(&mut up);
    folder.assert_nothing_left();
}

#[tokio::test]
async fn the_table_comes_soon_and_a_second_start_goes_on_with_the_same_lineages() {
    let mut shop = Up::start("examples/shop/mesh.yaml").await;
    let elapsed = shop.report["elapsedMs"].as_u64().expect("a number");
    // The promise is about a release build on a machine that does little else.
    let limit = if cfg!(debug_assertions) {
        20_000
    } else {
        3_000
    };
    assert!(elapsed < limit, "{elapsed} ms");
    for workload in shop.workloads() {
        let pids = ["pid", "sidecarPid"].map(|what| workload[what].as_u64());
        assert!(pids.iter().all(Option::is_some), "not started: {workload}");
    }
    let lineages = lineages(&shop).await;
    assert_eq!(lineages.len(), 6, "one for each replica: {lineages:?}");
    shop.interrupt(Duration::from_secs(20));
    let again = shop.start_again().await;
    assert_eq!(self::lineages(&again).await, lineages);
}

/// The identity and id of each lineage.
async fn lineages(shop: &Up) -> Vec<(String, String)> {
    let identities = shop
        .meshctl(&["identity", "list", "-o", "json"])
        .await
        .ok()
        .json();
    let mut found = Vec::new();
    for identity in identities.as_array().expect("a list") {
        for lineage in identity["lineages"].as_array().expect("a list") {
            found.push((identity["identity"].to_string(), lineage["id"].to_string()));
        }
    }
    found.sort();
    found
}

/// `200.0ms` or `1.3s`.
fn seconds(text: &str) -> f64 {
    let number = |unit| {
        text.strip_suffix(unit)
            .and_then(|number: &str| number.parse::<f64>().ok())
    };
    number("ms")
        .map(|milliseconds| milliseconds / 1000.0)
        .or_else(|| number("s"))
        .unwrap_or_else(|| panic!("no duration: {text}"))
}

async fn wait_for(up: &mut Process, text: &str) -> String {
    eventually_within(START_LIMIT, text, || {
        let (printed, ended) = (up.log(), up.ended());
        async move {
            assert!(ended.is_none(), "it ended: {printed}");
            if printed.contains(text) {
                Ok(printed)
            } else {
                Err(printed)
            }
        }
    })
    .await
}

fn stop(up: &mut Process) {
    up.signal(Signal::INT);
    assert!(
        up.terminate(Duration::from_secs(30)).success(),
        "{}",
        up.log()
    );
}
