//! How slots get rid of their streams: messages that end, streams that are reset, handles that are dropped.

use super::super::frame::{self, Code};
use super::slot::{Peer, Put, wake};
use super::{Role, State};

impl State {
    /// This side sends no more on the slot, and takes no further message.
    pub fn end(&mut self, number: u32) {
        let closed = self.closed;
        let Some(slot) = self.slot(number) else {
            return;
        };
        slot.is_over = true;
        let (stream, put, peer) = (slot.stream, slot.put, slot.peer);
        // Nobody would serve the next stream.
        self.idle.retain(|idle| *idle != number);
        if stream == 0 || closed || peer == Peer::Reset {
            return;
        }
        match put {
            // It came while this side turned away: nobody looked at it, so that it may be sent again.
            Put::Head => self.reset_stream(number, Code::Refused),
            Put::Content(crate::http1::Content::UntilClose) => {
                self.writes();
                frame::write(
                    frame::Kind::Data,
                    frame::END_STREAM,
                    stream,
                    b"",
                    &mut self.out,
                );
                self.has_put(number);
            }
            Put::Content(_) => self.reset_stream(number, Code::Internal),
            // The answer is whole; what comes of the request is of no use (RFC 9113 §8.1).
            Put::Ended if self.role == Role::Server => self.reset_stream(number, Code::NoError),
            Put::Ended => {}
        }
    }

    /// The message that is open is not whole, and is not to be taken for it.
    pub fn reset(&mut self, number: u32) {
        let code = match self.role {
            Role::Client => Code::Cancel,
            Role::Server => Code::Internal,
        };
        if self.slot(number).is_some_and(|slot| slot.stream != 0) {
            self.reset_stream(number, code);
        }
    }

    /// The slot's handle is gone: a stream that is open is reset.
    pub fn detach(&mut self, number: u32) {
        let role = self.role;
        let Some(slot) = self.slot(number) else {
            return;
        };
        slot.is_held = false;
        slot.throw_away();
        (slot.reader, slot.writer) = (None, None);
        if slot.stream != 0 {
            let code = match (role, slot.put) {
                (Role::Server, Put::Ended) => Code::NoError,
                (Role::Server, Put::Head | Put::Content(_)) => Code::Internal,
                (Role::Client, _) => Code::Cancel,
            };
            self.reset_stream(number, code);
        }
        self.release(number);
    }

    /// This side's message on the slot is whole.
    pub(super) fn has_put(&mut self, number: u32) {
        if let Some(slot) = self.slot(number) {
            slot.put = Put::Ended;
        }
        self.finish_if_done(number);
    }

    pub(super) fn finish_if_done(&mut self, number: u32) {
        let Some(slot) = self.slot(number) else {
            return;
        };
        if !slot.is_done() {
            return;
        }
        self.budget.earn();
        self.leave(number);
        let is_client = self.role == Role::Client;
        let Some(slot) = self.slot(number) else {
            return;
        };
        // What waits belongs to the stream that ended: whoever did not read it gets no other one.
        if !is_client && slot.takes_another && !slot.is_over && slot.waiting() == 0 {
            slot.peer = Peer::Head;
            slot.put = Put::Head;
            self.idle.push(number);
        }
        self.wake_if_done();
    }

    /// The slot serves its stream no longer.
    pub(super) fn leave(&mut self, number: u32) {
        let mut share = self.share;
        let Some(slot) = self.slot(number) else {
            return;
        };
        let stream = std::mem::take(&mut slot.stream);
        slot.credit.close(&mut share);
        slot.credit = crate::mux::credit::Credit::default();
        slot.partial.clear();
        self.share = share;
        if let Ok(at) = self
            .streams
            .binary_search_by_key(&stream, |(stream, _)| *stream)
        {
            self.streams.remove(at);
        }
        self.forget_wait(number);
        self.let_in();
    }

    /// Client: wakes as many as the peer takes now, of those that wait for it. Who begins leaves the queue; who goes away instead
    /// passes its turn on.
    pub(super) fn let_in(&mut self) {
        let mut room = self.peer_streams.saturating_sub(self.streams.len());
        for at in 0..self.queueing.len() {
            let slot = self.queueing.get(at).copied();
            let slot = slot.and_then(|number| self.slot(number));
            if let Some(slot) = slot.filter(|slot| slot.writer.is_some() && room > 0) {
                wake(&mut slot.writer);
                room -= 1;
            }
        }
    }

    /// Whatever the slot waited for.
    fn forget_wait(&mut self, number: u32) {
        let was_waiting = self
            .slot(number)
            .is_some_and(|slot| std::mem::take(&mut slot.is_waiting));
        if was_waiting {
            self.waiting.retain(|waiting| *waiting != number);
            self.starved.retain(|starved| *starved != number);
        }
    }

    pub(super) fn reset_stream(&mut self, number: u32, code: Code) {
        let Some(slot) = self.slot(number) else {
            return;
        };
        let stream = slot.stream;
        slot.is_over = true;
        self.leave(number);
        if !self.closed && stream != 0 {
            self.writes();
            frame::reset(stream, code, &mut self.out);
        }
        self.wake_if_done();
    }

    /// The peer ended the stream, or this side for its fault: whoever holds it is told.
    pub(super) fn fail(&mut self, number: u32) {
        self.leave(number);
        if let Some(slot) = self.slot(number) {
            slot.peer = Peer::Reset;
            slot.is_over = true;
            slot.throw_away();
            wake(&mut slot.reader);
            wake(&mut slot.writer);
        }
        self.withdraw(number);
        self.wake_if_done();
        self.release(number);
    }

    /// Server: a stream that ended before anybody took it is nobody's work, so that rapid resets cost no more than their reading.
    fn withdraw(&mut self, number: u32) {
        if let Some(at) = self.opened.iter().position(|opened| *opened == number) {
            self.opened.remove(at);
            if let Some(slot) = self.slot(number) {
                slot.is_held = false;
            }
        }
    }

    pub(super) fn release(&mut self, number: u32) {
        let Some(slot) = self.slot(number) else {
            return;
        };
        if slot.is_held || slot.stream != 0 {
            return;
        }
        self.forget_wait(number);
        if let Some(place) = self.place(number) {
            *place = None;
        }
        self.free.push(number);
        self.idle.retain(|idle| *idle != number);
        self.queueing.retain(|queueing| *queueing != number);
        self.let_in();
        if self.held() == 0 {
            // From now on the connection is idle, and not for ever.
            self.wake_io();
        }
        self.wake_if_done();
    }

    /// Whether nothing is open on a slot, and it may serve another message.
    pub fn is_quiet(&mut self, number: u32) -> bool {
        let is_closing = self.is_closing();
        self.slot(number).is_some_and(|slot| {
            !is_closing && slot.stream == 0 && !slot.is_over && slot.waiting() == 0
        })
    }
}
