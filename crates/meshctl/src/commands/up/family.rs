//! A process and all that it started: one process group, signalled together and outlived by none of it.
//!
//! A shell, npm or an interpreter leaves grandchildren behind when it alone is stopped, and they hold its ports.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::time::{Instant, sleep};

/// The group that a child leads. Its number is not given to another process while a member lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family(Pid);

impl Family {
    /// The family of a child that was started as the leader of its own group.
    pub(super) fn led_by(child: u32) -> Option<Self> {
        let pid = i32::try_from(child).ok().and_then(Pid::from_raw)?;
        Some(Self(pid))
    }

    pub(super) fn number(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// SIGTERM to every member.
    pub(super) fn ask_to_end(self) {
        // A group without members needs no signal.
        let _ = kill_process_group(self.0, Signal::TERM);
    }

    /// SIGKILL to whoever is left; returns once they are gone, so that their ports are free.
    pub(super) async fn kill(self) {
        if kill_process_group(self.0, Signal::KILL).is_ok() {
            self.gone_by(Instant::now() + DYING).await;
        }
    }

    /// Waits until no member is left, at most until `deadline`.
    pub(super) async fn gone_by(self, deadline: Instant) {
        while !self.is_gone() && Instant::now() < deadline {
            sleep(POLL).await;
        }
    }

    fn is_gone(self) -> bool {
        test_kill_process_group(self.0).is_err() || self.is_dead()
    }

    /// Whether all that is left of it are zombies: orphans that the first process of a container may never collect.
    #[cfg(target_os = "linux")]
    fn is_dead(self) -> bool {
        let group = self.number().to_string();
        let is_member = |stat: String| {
            // pid (name) state parent group …; the name may hold spaces and parentheses.
            let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
            let mut fields = fields.unwrap_or_default().split_ascii_whitespace();
            let (state, of) = (fields.next(), fields.nth(1));
            of == Some(group.as_str()) && !matches!(state, Some("Z" | "X"))
        };
        let mut processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        !processes.any(|process| {
            std::fs::read_to_string(process.path().join("stat")).is_ok_and(is_member)
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn is_dead(self) -> bool {
        false
    }
}

/// What was killed and is not gone by then waits for a disk.
const DYING: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);
