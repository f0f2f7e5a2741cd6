//! How soon a sidecar is ready once it has its first view.

use std::time::Duration;

use weft_tests::ready_after_first_view;

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_ready_within_30_ms_of_its_first_view() {
    let took = ready_after_first_view(15).await;
    println!("ready after its first view: {took:?} (median of 15)");
    // What a debug build needs says nothing.
    assert!(cfg!(debug_assertions) || took < Duration::from_millis(30));
}
