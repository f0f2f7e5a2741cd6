//! What a stream puts on its way, as far as its credit and the room of the connection reach.

use std::task::{Context, Poll};

use super::super::frame::{FULL_DATA, Kind, MOST_DATA};
use super::slot::{Half, keep};
use super::{Gone, State};

impl State {
    /// Puts what `buffer` holds from `from` on its way, without copying it where it can: the buffer is taken then.
    pub fn poll_give(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<Result<usize, Gone>> {
        let count = buffer.len().saturating_sub(from);
        let fits = self.out.len() < OUT_HIGH && self.out.len() + count <= OUT_HIGH + MOST_DATA;
        if fits
            && count >= WORTH_GIVING
            && !self.closed
            && let Some(slot) = self.slot(number)
            && slot.own == Half::Open
            && slot.peer != Half::Reset
            && let Ok(value) = u32::try_from(count)
            && let Some(left) = slot.send_credit.checked_sub(value)
        {
            slot.send_credit = left;
            self.out.give(number, std::mem::take(buffer), from);
            self.wake_io();
            return Poll::Ready(Ok(count));
        }
        let part = buffer.get(from..).unwrap_or_default();
        self.poll_write(number, cx, &[part])
    }

    /// Puts as much of `parts` on its way as credit and room allow, in one frame.
    pub fn poll_write(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
    ) -> Poll<Result<usize, Gone>> {
        let (closed, has_room) = (self.closed, self.out.len() < OUT_HIGH);
        let Some(slot) = self.slot(number) else {
            return Poll::Ready(Err(Gone::Closed));
        };
        if slot.peer == Half::Reset {
            return Poll::Ready(Err(Gone::Reset));
        }
        if closed || slot.own != Half::Open {
            return Poll::Ready(Err(Gone::Closed));
        }
        if slot.send_credit == 0 {
            keep(&mut slot.writer, cx);
            return Poll::Pending;
        }
        if !has_room {
            keep(&mut slot.writer, cx);
            if !std::mem::replace(&mut slot.is_waiting, true) {
                self.waiting.push_back(number);
            }
            return Poll::Pending;
        }
        let credit = usize::try_from(slot.send_credit).unwrap_or(usize::MAX);
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let count = all.min(credit).min(FULL_DATA);
        let value = u32::try_from(count).unwrap_or(0);
        slot.send_credit -= value;
        self.push(Kind::Data, number, value);
        let mut left = count;
        for part in parts {
            let (taken, _) = part.split_at(part.len().min(left));
            self.out.copy(taken);
            left -= taken.len();
        }
        Poll::Ready(Ok(count))
    }
}

/// Streams wait while so much is to be sent already.
const OUT_HIGH: usize = 128 * 1024;
/// Less is cheaper to copy.
const WORTH_GIVING: usize = 8 * 1024;
