//! What both ends of a `weft/1` connection know of it: the slots, their credit, and what waits to be sent. No I/O: bytes come in by
//! [`State::receive`] and go out by [`State::take_out`].
//!
//! Invariants: a slot's number is free again only when both sides have said their last word on it; no slot holds more than its credit;
//! streams that wait for room in the outgoing buffer get it in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::credit::SHARE;
use super::frame::{Carried, Header, Kind, LAST_SLOT, MOST_OPEN, REFUSAL};
use crate::decisions::DecisionId;

mod outgoing;
mod receive;
mod received;
mod sending;
mod slot;

pub use outgoing::Outgoing;
use receive::Incoming;
use slot::{Half, Slot, keep, wake};

/// Slots of one connection that may be in use at a time.
pub const MOST_SLOTS: usize = 256;
/// A peer for which more waits is at fault: streams stop long before, and an honest peer has little to be answered.
const MOST_OUT: usize = 512 * 1024;

/// Which end of the connection this is. Only the client opens slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

pub struct State {
    role: Role,
    /// By number, less one.
    slots: Vec<Option<Slot>>,
    in_use: usize,
    /// Client: how often a slot was opened or used again.
    uses: u64,
    /// Numbers that were used and are free.
    free: Vec<u32>,
    /// Client: open slots that wait for their next use, by what they are for.
    parked: Vec<(Arc<str>, Vec<u32>)>,
    share: u32,
    out: Outgoing,
    /// Streams that wait for room in `out`, the longest wait first.
    waiting: VecDeque<u32>,
    incoming: Incoming,
    opened: VecDeque<Opened>,
    acceptor: Option<Waker>,
    io: Option<Waker>,
    io_is_awake: bool,
    peer_goes_away: bool,
    goes_away: bool,
    closed: bool,
}

/// A slot that the client opened and nobody serves yet.
pub struct Opened {
    pub slot: u32,
    pub carried: Carried,
    pub name: String,
}

/// What a stream is told when it can neither read nor write any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The peer reset this slot.
    Reset,
    /// The connection is closed.
    Closed,
}

impl State {
    pub fn new(role: Role) -> Self {
        Self {
            role,
            slots: Vec::new(),
            in_use: 0,
            uses: 0,
            free: Vec::new(),
            parked: Vec::new(),
            share: SHARE,
            out: Outgoing::default(),
            waiting: VecDeque::new(),
            incoming: Incoming::header(),
            opened: VecDeque::new(),
            acceptor: None,
            io: None,
            io_is_awake: false,
            peer_goes_away: false,
            goes_away: false,
            closed: false,
        }
    }

    /// Client: takes a slot for one target. None: all are in use, or the connection takes no more.
    pub fn open(&mut self, carried: Carried, name: &str) -> Option<u32> {
        if self.is_closing() || self.in_use >= MOST_SLOTS {
            return None;
        }
        let mut opening = Vec::with_capacity(1 + name.len());
        carried.write_opening(name, &mut opening);
        if opening.len() > MOST_OPEN {
            return None;
        }
        let number = self.free.pop().or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len()).ok()
        })?;
        *self.place(number)? = Some(Slot::new());
        self.in_use += 1;
        self.uses += 1;
        self.push(Kind::Open, number, u32::try_from(opening.len()).ok()?);
        self.out.copy(&opening);
        Some(number)
    }

    /// Client: a slot for HTTP that waits for its next use by the same target.
    pub fn reuse(&mut self, name: &Arc<str>) -> Option<u32> {
        loop {
            let number = self.parked_by(name)?.pop()?;
            if self.is_quiet(number) {
                self.uses += 1;
                return Some(number);
            }
            self.detach(number);
        }
    }

    /// Client: the slot may be used again.
    pub fn park(&mut self, number: u32, name: &Arc<str>) {
        if !self.is_quiet(number) {
            return self.detach(number);
        }
        match self.parked_by(name) {
            Some(parked) => parked.push(number),
            None => self.parked.push((Arc::clone(name), vec![number])),
        }
    }

    fn parked_by(&mut self, name: &Arc<str>) -> Option<&mut Vec<u32>> {
        // Few targets, nearly always the same pointer.
        let is_it = |known: &Arc<str>| Arc::ptr_eq(known, name) || known == name;
        let mut found = self.parked.iter_mut().filter(|(known, _)| is_it(known));
        found.next().map(|(_, parked)| parked)
    }

    /// Nobody waits for a next use of this connection.
    fn unpark(&mut self) {
        for number in std::mem::take(&mut self.parked)
            .into_iter()
            .flat_map(|(_, parked)| parked)
        {
            self.detach(number);
        }
    }

    /// Server: the next slot that the client opened. `Ready(None)`: there will be none.
    pub fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Option<Opened>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(Some(opened));
        }
        if self.closed {
            return Poll::Ready(None);
        }
        keep(&mut self.acceptor, cx);
        Poll::Pending
    }

    /// Moves what waits on a slot to `into`. `Ok(false)`: the peer sends no more.
    pub fn poll_read(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<Result<bool, Gone>> {
        let closed = self.closed;
        let Some(slot) = self.slot(number) else {
            return Poll::Ready(Err(Gone::Closed));
        };
        if slot.received.len() == 0 {
            return match slot.peer {
                Half::Ended | Half::Closed => Poll::Ready(Ok(false)),
                Half::Reset => Poll::Ready(Err(Gone::Reset)),
                Half::Open if closed => Poll::Ready(Err(Gone::Closed)),
                Half::Open => {
                    keep(&mut slot.reader, cx);
                    Poll::Pending
                }
            };
        }
        let count = slot.received.move_to(into, most);
        self.passed_on(number, count);
        Poll::Ready(Ok(true))
    }

    fn passed_on(&mut self, number: u32, count: usize) {
        let mut share = self.share;
        let Some(slot) = self.slot(number) else {
            return;
        };
        let is_open = slot.peer == Half::Open;
        let given = slot.credit.pass_on(count, &mut share);
        self.share = share;
        if let Some(given) = given.filter(|_| is_open) {
            self.push(Kind::Credit, number, given);
        }
    }

    /// This side sends no more on the slot.
    pub fn end(&mut self, number: u32) {
        if let Some(slot) = self.slot(number)
            && slot.own == Half::Open
        {
            slot.own = Half::Ended;
            if !self.closed {
                self.push(Kind::End, number, 0);
            }
        }
    }

    /// The stream's handle is gone: what still comes is thrown away.
    pub fn detach(&mut self, number: u32) {
        self.leave(number, None);
    }

    /// As [`State::detach`], and the peer is told which decision refused the stream.
    pub fn refuse(&mut self, number: u32, decision: DecisionId) {
        self.leave(number, Some(decision));
    }

    fn leave(&mut self, number: u32, refused: Option<DecisionId>) {
        let Some(slot) = self.slot(number) else {
            return;
        };
        if slot.own.is_final() {
            return;
        }
        slot.received.forget();
        (slot.reader, slot.writer) = (None, None);
        let is_complete =
            slot.own == Half::Ended && matches!(slot.peer, Half::Ended | Half::Closed);
        slot.own = if is_complete {
            Half::Closed
        } else {
            Half::Reset
        };
        if !self.closed {
            self.say_last_word(number, is_complete, refused);
        }
        self.release_if_done(number);
    }

    /// The decision by which the peer refused the stream, if that was its last word.
    pub fn refused(&mut self, number: u32) -> Option<DecisionId> {
        self.slot(number)?.refused.as_deref().copied()
    }

    fn say_last_word(&mut self, number: u32, is_complete: bool, refused: Option<DecisionId>) {
        match refused {
            _ if is_complete => self.push(Kind::Close, number, 0),
            None => self.push(Kind::Reset, number, 0),
            Some(decision) => {
                self.push(Kind::Refused, number, u32::try_from(REFUSAL).unwrap_or(0));
                self.out.copy(decision.as_str().as_bytes());
            }
        }
    }

    /// Whether nothing came on a slot that waits for its next use.
    fn is_quiet(&mut self, number: u32) -> bool {
        let is_closing = self.is_closing();
        self.slot(number).is_some_and(|slot| {
            !is_closing
                && slot.peer == Half::Open
                && slot.own == Half::Open
                && slot.received.len() == 0
        })
    }

    fn release_if_done(&mut self, number: u32) {
        let closed = self.closed;
        let Some(slot) = self.slot(number) else {
            return;
        };
        if !slot.own.is_final() || !(slot.peer.is_final() || closed) {
            return;
        }
        let mut share = self.share;
        if let Some(place) = self.place(number)
            && let Some(mut slot) = place.take()
        {
            slot.credit.close(&mut share);
            self.in_use -= 1;
            self.share = share;
            if self.role == Role::Client {
                self.free.push(number);
            }
        }
        if self.goes_away && self.in_use == 0 {
            self.wake_io();
        }
    }

    /// Asks the peer to use this connection no further; what is open goes on.
    pub fn go_away(&mut self) {
        if !std::mem::replace(&mut self.goes_away, true) {
            self.push(Kind::GoAway, 0, 0);
            self.unpark();
        }
    }

    pub fn ping(&mut self) {
        self.push(Kind::Ping, 0, 0);
    }

    /// The connection ended: every stream is told.
    pub fn close(&mut self) {
        self.closed = true;
        self.unpark();
        self.out.clear();
        self.waiting.clear();
        self.opened.clear();
        wake(&mut self.acceptor);
        for slot in self.slots.iter_mut().flatten() {
            wake(&mut slot.reader);
            wake(&mut slot.writer);
        }
        for number in 1..=u32::try_from(self.slots.len()).unwrap_or(LAST_SLOT) {
            self.release_if_done(number);
        }
        self.wake_io();
    }

    /// Whether no slot may be opened or used again.
    pub fn is_closing(&self) -> bool {
        self.closed || self.goes_away || self.peer_goes_away
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// A client that wants no more of the connection closes it when nothing is open.
    pub fn is_done(&self) -> bool {
        self.role == Role::Client && (self.goes_away || self.peer_goes_away) && self.in_use == 0
    }

    pub fn slots_in_use(&self) -> usize {
        self.in_use
    }

    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// Slots that serve somebody now.
    pub fn slots_busy(&self) -> usize {
        self.in_use
            - self
                .parked
                .iter()
                .map(|(_, parked)| parked.len())
                .sum::<usize>()
    }

    /// Takes what is to be sent, and lets in who waited for room.
    pub fn take_out(&mut self, into: &mut Outgoing) {
        into.clear();
        std::mem::swap(into, &mut self.out);
        while let Some(number) = self.waiting.pop_front() {
            if let Some(slot) = self.slot(number) {
                slot.is_waiting = false;
                wake(&mut slot.writer);
            }
        }
    }

    /// The task that moves the bytes begins a turn: until its end nobody need wake it.
    pub fn begin_turn(&mut self, cx: &mut Context<'_>) {
        keep(&mut self.io, cx);
        self.io_is_awake = true;
    }

    /// The turn ends, unless something is to be sent. Whoever has something from now on wakes the task.
    pub fn end_turn(&mut self, is_writing: bool) -> bool {
        let ends = is_writing || self.out.is_empty();
        self.io_is_awake = !ends;
        ends
    }

    fn wake_io(&mut self) {
        if !std::mem::replace(&mut self.io_is_awake, true)
            && let Some(io) = &self.io
        {
            io.wake_by_ref();
        }
    }

    fn push(&mut self, kind: Kind, slot: u32, value: u32) {
        self.out.header(Header { kind, slot, value });
        self.wake_io();
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        self.place(number)?.as_mut()
    }

    fn place(&mut self, number: u32) -> Option<&mut Option<Slot>> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.slots.get_mut(at)
    }
}
