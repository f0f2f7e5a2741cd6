//! Waiting for conditions, not for time.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Tries until it gives `Ok`; fails the test with the last `Err` after half a minute: machines are busy.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    attempt: impl FnMut() -> F,
) -> T {
    eventually_within(Duration::from_secs(30), what, attempt).await
}

/// Tries until it gives `Ok`; fails the test with the last `Err` after `limit`.
pub async fn eventually_within<T, E: Debug, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => {
                panic!("{what}: not within {limit:?}: {error:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
