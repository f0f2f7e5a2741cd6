//! The clock that nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long ago this host booted, sleep included. It only goes forward, and processes of one boot agree on it.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let first = since_boot();
        assert!(first > Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(since_boot() > first);
    }
}
