//! How many bytes a peer may send on one slot before this side has passed them on.
//!
//! Invariant: what the peer may still send, what waits here and what is owed to it add up to the window. Every slot has `FLOOR`, whatever
//! the others do; a slot that uses up its window, and whose bytes are taken, grows to `CEILING` out of a share that the connection's slots
//! have in common, so that readers that stop can hold at most `slots * FLOOR + SHARE`.

use super::frame::Fault;

/// The window of every slot from its opening on.
pub const FLOOR: u32 = 64 * 1024;
/// The largest window of one slot.
pub const CEILING: u32 = 1024 * 1024;
/// Credit is given back in steps of half a window, but of no more than this: what is sent at once is what others wait behind.
const LONGEST_STEP: u32 = 256 * 1024;
/// What all slots of one connection may have beyond their floors.
pub const SHARE: u32 = 4 * 1024 * 1024;

/// One slot's side of receiving.
#[derive(Debug)]
pub struct Credit {
    window: u32,
    /// What the peer may still send.
    left: u32,
    /// Passed on, and not given back yet.
    owed: u32,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            window: FLOOR,
            left: FLOOR,
            owed: 0,
        }
    }
}

impl Credit {
    /// The peer sent so many bytes.
    pub fn receive(&mut self, count: usize) -> Result<(), Fault> {
        let count = u32::try_from(count).map_err(|_| Fault::Credit)?;
        self.left = self.left.checked_sub(count).ok_or(Fault::Credit)?;
        Ok(())
    }

    /// So many of its bytes were passed on. `Some`: the peer is to be given so much more, in steps.
    pub fn pass_on(&mut self, count: usize, share: &mut u32) -> Option<u32> {
        self.owed = self
            .owed
            .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.owed < (self.window / 2).min(LONGEST_STEP) {
            return None;
        }
        // Only whoever uses up its window is held up by it: what short messages leave over is for those that need it.
        let more = match self.left <= self.window / 4 {
            true => self.window.min(CEILING - self.window).min(*share),
            false => 0,
        };
        *share -= more;
        self.window += more;
        let given = std::mem::take(&mut self.owed) + more;
        self.left += given;
        Some(given)
    }

    /// Gives everything back to the share: the slot is no more.
    pub fn close(&mut self, share: &mut u32) {
        *share += self.window - FLOOR;
        self.window = FLOOR;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_beyond_the_window_is_at_fault() {
        let mut credit = Credit::default();
        credit.receive(usize::try_from(FLOOR).unwrap()).unwrap();
        assert_eq!(credit.receive(1), Err(Fault::Credit));
    }

    #[test]
    fn a_slot_grows_while_it_is_used_up_and_the_share_lasts() {
        let mut share = 3 * FLOOR;
        let mut credit = Credit::default();
        let half = usize::try_from(FLOOR / 2).unwrap();
        credit.receive(half).unwrap();
        assert_eq!(credit.pass_on(half - 1, &mut share), None);
        // The other half was left: nobody waited for more.
        assert_eq!(credit.pass_on(1, &mut share), Some(FLOOR / 2));
        credit.receive(2 * half).unwrap();
        assert_eq!(credit.pass_on(half, &mut share), Some(FLOOR / 2 + FLOOR));
        credit.receive(3 * half).unwrap();
        assert_eq!(
            credit.pass_on(3 * half, &mut share),
            Some(3 * FLOOR / 2 + 2 * FLOOR)
        );
        assert_eq!(share, 0);
        let mut other = Credit::default();
        other.receive(2 * half).unwrap();
        assert_eq!(other.pass_on(half, &mut share), Some(FLOOR / 2));
        credit.close(&mut share);
        assert_eq!(share, 3 * FLOOR);
    }

    #[test]
    fn a_large_window_is_given_back_in_steps_that_others_can_wait_for() {
        let mut share = SHARE;
        let mut credit = Credit::default();
        while credit.window < CEILING {
            let count = usize::try_from(credit.left).unwrap();
            credit.receive(count).unwrap();
            credit.pass_on(count, &mut share).unwrap();
        }
        let step = usize::try_from(LONGEST_STEP).unwrap();
        credit.receive(step).unwrap();
        assert_eq!(credit.pass_on(step - 1, &mut share), None);
        assert_eq!(credit.pass_on(1, &mut share), Some(LONGEST_STEP));
    }

    #[test]
    fn whatever_is_received_and_passed_on_adds_up_to_the_window() {
        let mut share = SHARE;
        let mut credit = Credit::default();
        let mut waiting = 0_usize;
        for step in 0..10_000_usize {
            let count = (step * 7919) % 30_000;
            if credit.receive(count).is_ok() {
                waiting += count;
            }
            let taken = waiting.min((step * 104_729) % 40_000);
            waiting -= taken;
            credit.pass_on(taken, &mut share);
            let sum = credit.left + u32::try_from(waiting).unwrap() + credit.owed;
            assert_eq!(sum, credit.window);
            assert!(credit.window <= CEILING);
            assert_eq!(share + credit.window - FLOOR, SHARE);
        }
    }
}
