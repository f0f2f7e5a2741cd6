//! One timer for all waits of a connection: setting it costs no more than writing down a moment, as long as it only moves later.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Resolves at the deadline.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_the_one_that_counts() {
        let second = Duration::from_secs(1);
        let mut timer = Timer::default();
        let start = Instant::now();
        for (deadline, waited) in [(10, 10), (5, 10), (20, 20), (21, 21)] {
            let deadline = start + deadline * second;
            std::future::poll_fn(|cx| timer.poll(cx, deadline)).await;
            assert_eq!(start.elapsed(), waited * second);
        }
        let (soon, later) = (start + 30 * second, start + 40 * second);
        let early = tokio::time::timeout(second, std::future::poll_fn(|cx| timer.poll(cx, later)));
        assert!(early.await.is_err());
        std::future::poll_fn(|cx| timer.poll(cx, soon)).await;
        assert_eq!(start.elapsed(), 30 * second);
    }
}
