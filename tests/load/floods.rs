//! Row 11 under floods of a thousand connections: others are served as before, and memory is bounded. How much slower they may be in a
//! release build is measured by the long run of the same name.

use std::time::Duration;

use serde_json::json;
use weft_tests::flood::Flood;
use weft_tests::flooded::{Account, Flooded, Side};

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_thousand_slow_heads_fail_no_request_of_others() {
    for account in accounts_of(Flood::SlowHeads).await {
        println!("{account}");
        check(&account, BUSY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_rapid_resets_fail_no_request_of_others() {
    for (connections, gain) in [(4, BUSY), (1000, CROWDED)] {
        for account in accounts_of(Flood::RapidResets(connections)).await {
            println!("{account}");
            check(&account, gain);
        }
    }
}

async fn accounts_of(flood: Flood) -> [Account; 2] {
    // A debug build takes long for a thousand handshakes: none of its heads is to end meanwhile.
    let mut stage = Flooded::start(json!({"headSeconds": 60})).await;
    let client = stage.under(flood, Side::Client, LENGTH).await;
    stage.assert_well().await;
    let server = stage.under(flood, Side::Server, LENGTH).await;
    stage.assert_well().await;
    [client, server]
}

fn check(account: &Account, gain: Duration) {
    for noticed in [&account.before, &account.during] {
        assert_eq!(noticed.failed, 0, "{:?}", noticed.first_failure);
    }
    let usual = account.before.p99();
    let most = (usual * 2).max(usual + gain);
    assert!(account.during.p99() <= most, "{account}");
    assert!(account.grown <= 64 << 20, "{account}");
}

const LENGTH: Duration = Duration::from_secs(3);
/// What a p99 of a debug build may gain on a machine that others use too.
const BUSY: Duration = Duration::from_millis(50);
/// And where a thousand connections are opened again and again.
const CROWDED: Duration = Duration::from_secs(5);
