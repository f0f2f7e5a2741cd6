//! A clock that wakes a task within microseconds: tokio's own timers count in milliseconds, which is more than what is measured.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// One timer of the kernel.
#[derive(Debug)]
pub(super) struct Pacer(AsyncFd<OwnedFd>);

impl Pacer {
    pub(super) fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot make a timer")?;
        #[expect(
            deprecated,
            reason = "unsound only for what may change its descriptor; an `OwnedFd` never does"
        )]
        let registered = AsyncFd::new(timer);
        Ok(Self(registered.context("cannot register a timer")?))
    }

    /// Waits until a moment; at once if it has passed.
    pub(super) async fn until(&self, moment: Instant) -> anyhow::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(left),
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)
            .context("cannot set a timer")?;
        let mut ready = self.0.readable().await.context("a timer failed")?;
        let mut expirations = [0; 8];
        let _ = rustix::io::read(self.0.get_ref(), &mut expirations);
        ready.clear_ready();
        Ok(())
    }
}

fn timespec(length: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(length.subsec_nanos()),
    }
}
