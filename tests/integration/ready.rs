//! A sidecar is ready at once when it has its first view: nothing is left to be made then.

use std::time::Duration;

use weft_tests::ready_after_first_view;

/// The figure of a release build is tests/long/ready.rs's; this one finds what waits or polls.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_ready_soon_after_its_first_view() {
    let took = ready_after_first_view(3).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}
