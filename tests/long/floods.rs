//! What other clients of a release build notice of floods, and what memory a flood takes.

use std::time::Duration;

use serde_json::json;
use weft_tests::flood::Flood;
use weft_tests::flooded::{Flooded, Side};

#[tokio::test(flavor = "multi_thread")]
async fn floods_double_the_p99_of_others_at_most_and_take_64_mib_at_most() {
    let mut stage = Flooded::start(json!({})).await;
    let mut broken = Vec::new();
    for flood in [
        Flood::SlowHeads,
        Flood::RapidResets(4),
        Flood::RapidResets(1000),
    ] {
        for side in [Side::Client, Side::Server] {
            let (mut before, mut during) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let account = stage.under(flood, side, Duration::from_secs(5)).await;
                println!("{account}");
                before.push(account.before.p99());
                during.push(account.during.p99());
                if account.before.failed + account.during.failed > 0 || account.grown > 64 << 20 {
                    broken.push(account.to_string());
                }
                stage.assert_well().await;
            }
            let (before, during) = (median(before), median(during));
            let times = during.as_secs_f64() / before.as_secs_f64();
            let line = format!(
                "{flood:?} at the {side:?}'s sidecar: median p99 {before:?} -> {during:?}, {times:.2}x"
            );
            println!("{line}");
            if times > 2.0 {
                broken.push(line);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// One round's p99 is a matter of luck.
const ROUNDS: usize = 5;
