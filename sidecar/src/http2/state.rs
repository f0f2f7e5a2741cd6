//! What one end of an HTTP/2 connection knows: its streams, their windows, and what waits to be sent. No I/O: bytes come in by
//! [`State::receive`] and go out by [`State::take_out`].
//!
//! A slot is used like a connection of HTTP/1.1 on which messages follow each other; each pair of them is a stream of its own. Invariants: a
//! stream has a slot or is closed; a slot takes the next stream only when nothing of the last one waits in it; what the peer may send and
//! what waits here add up to the stream's window.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::budget::Budget;
use super::frame::{self, Code, FIRST_WINDOW, PREFACE, Setting};
use super::hpack::Decoder;
use super::reading::Reading;
use crate::buffers;
use crate::mux::credit::{FLOOR, SHARE};

mod control;
mod fields;
mod heads;
mod receive;
mod slot;
mod slots;
mod writing;

pub(super) use heads::Block;
use slot::{Peer, Slot, keep, wake};

/// Streams wait while so much is to be sent already.
const OUT_HIGH: usize = 128 * 1024;
/// A peer for which more waits is at fault: streams stop long before, and an honest peer has little to be answered.
const MOST_OUT: usize = 512 * 1024;
/// What the peer may send on all streams before it is given more: at once, for each stream has a window of its own.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Of the dynamic table, what a peer's encoder may use of it.
const TABLE: usize = 4096;
/// Streams that a client has open at most, whatever the server would take.
const MOST_OPEN: usize = 256;
/// Streams that a client opens before it knows what the server takes: no server should take fewer (RFC 9113 §6.5.2).
const FIRST_OPEN: usize = 100;
const LAST_STREAM: u32 = u32::MAX >> 1;
/// The content of the PING that asks whether the peer has heard that the connection ends.
const LEAVING: [u8; 8] = *b"weft-end";

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// What a peer may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at a time.
    pub streams: u32,
    /// Bytes of one head, as RFC 9113 §6.5.2 counts them.
    pub head_bytes: usize,
    /// Messages may have trailers that nothing announces: gRPC. Those of other messages pass when `Trailer` names them.
    pub has_trailers: bool,
}

pub struct State {
    role: Role,
    limits: Limits,
    slots: Vec<Option<Slot>>,
    /// Numbers of slots that nobody has.
    free: Vec<u32>,
    /// Server: slots that wait for a stream, the one that served last at the end.
    idle: Vec<u32>,
    /// Open streams and their slots, in the order of the streams.
    streams: Vec<(u32, u32)>,
    /// Server: the last stream that the peer opened. Client: the next one to open.
    edge: u32,
    peer_streams: usize,
    peer_window: i64,
    send_window: i64,
    /// Received on the whole connection, and not given back yet.
    owed: u32,
    share: u32,
    decoder: Decoder,
    reading: Reading,
    block: Block,
    budget: Budget,
    cancelling: Budget,
    /// The peer allows less of a table than an encoder has from the start, which must be told that there is none.
    must_tell_table: bool,
    encoding: Vec<u8>,
    /// The peer's preface, then its settings, are missing.
    preface: usize,
    has_settings: bool,
    out: Vec<u8>,
    /// Streams that wait for room in `out`, the longest wait first.
    waiting: VecDeque<u32>,
    /// Streams that wait for the connection's window.
    starved: VecDeque<u32>,
    /// Client: streams that wait until the peer takes another one.
    queueing: VecDeque<u32>,
    opened: VecDeque<u32>,
    acceptor: Option<Waker>,
    io: Option<Waker>,
    io_is_awake: bool,
    peer_goes_away: bool,
    goes_away: Leaving,
    closed: bool,
}

/// How far this side is with its goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// It was said, but what was on its way may still begin (RFC 9113 §6.8).
    Said,
    Done,
}

/// What a stream is told when it can neither read nor write any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    Reset,
    Closed,
}

impl State {
    pub fn new(role: Role, limits: Limits) -> Self {
        let mut out = buffers::take();
        let head_bytes = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
        match role {
            Role::Client => {
                out.extend_from_slice(PREFACE);
                let settings = [
                    (Setting::EnablePush, 0),
                    (Setting::InitialWindowSize, FLOOR),
                    (Setting::MaxHeaderListSize, head_bytes),
                ];
                frame::settings(&settings, &mut out);
            }
            Role::Server => {
                let settings = [
                    (Setting::MaxConcurrentStreams, limits.streams),
                    (Setting::InitialWindowSize, FLOOR),
                    (Setting::MaxHeaderListSize, head_bytes),
                ];
                frame::settings(&settings, &mut out);
            }
        }
        let first = u32::try_from(FIRST_WINDOW).unwrap_or(0);
        frame::window_update(0, CONNECTION_WINDOW - first, &mut out);
        Self {
            role,
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            streams: Vec::new(),
            edge: match role {
                Role::Client => 1,
                Role::Server => 0,
            },
            peer_streams: FIRST_OPEN,
            peer_window: FIRST_WINDOW,
            send_window: FIRST_WINDOW,
            owed: 0,
            share: SHARE,
            decoder: Decoder::new(TABLE),
            reading: Reading::default(),
            block: Block::default(),
            budget: Budget::for_nothing(),
            cancelling: Budget::for_cancelling(),
            must_tell_table: false,
            encoding: Vec::new(),
            preface: match role {
                Role::Client => 0,
                Role::Server => PREFACE.len(),
            },
            has_settings: false,
            out,
            waiting: VecDeque::new(),
            starved: VecDeque::new(),
            queueing: VecDeque::new(),
            opened: VecDeque::new(),
            acceptor: None,
            io: None,
            io_is_awake: false,
            peer_goes_away: false,
            goes_away: Leaving::No,
            closed: false,
        }
    }

    /// Client: a slot for requests one after the other. None: the connection takes no more.
    pub fn open(&mut self) -> Option<u32> {
        let has_room = self.slots.len() - self.free.len() < self.peer_streams.min(MOST_OPEN);
        if self.is_closing() || !has_room {
            return None;
        }
        self.new_slot()
    }

    fn new_slot(&mut self) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len()).ok()?
            }
        };
        *self.place(number)? = Some(Slot::new());
        Some(number)
    }

    /// Server: the next slot that serves streams. `Ready(None)`: there will be none.
    pub fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if let Some(number) = self.opened.pop_front() {
            return Poll::Ready(Some(number));
        }
        if self.closed {
            return Poll::Ready(None);
        }
        keep(&mut self.acceptor, cx);
        Poll::Pending
    }

    /// Moves what waits on a slot to `into`, in HTTP/1.1. `Ok(false)`: no further message comes.
    pub fn poll_read(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<Result<bool, Gone>> {
        let (closed, ends) = (self.closed, self.is_closing());
        let Some(slot) = self.slot(number) else {
            return Poll::Ready(Err(Gone::Closed));
        };
        if slot.waiting() > 0 {
            let content = slot.move_to(into, most);
            self.passed_on(number, content);
            return Poll::Ready(Ok(true));
        }
        if slot.peer == Peer::Reset {
            return Poll::Ready(Err(Gone::Reset));
        }
        if closed && slot.stream != 0 && slot.peer != Peer::Ended {
            return Poll::Ready(Err(Gone::Closed));
        }
        if slot.is_over || closed || slot.stream == 0 && ends {
            return Poll::Ready(Ok(false));
        }
        keep(&mut slot.reader, cx);
        Poll::Pending
    }

    fn passed_on(&mut self, number: u32, content: usize) {
        let mut share = self.share;
        let Some(slot) = self.slot(number) else {
            return;
        };
        let stream = slot.stream;
        if stream == 0 || slot.peer != Peer::Content {
            return;
        }
        let given = slot.credit.pass_on(content, &mut share);
        self.share = share;
        if let Some(given) = given {
            self.writes();
            frame::window_update(stream, given, &mut self.out);
        }
    }

    /// The connection ended: every stream is told.
    pub fn close(&mut self) {
        self.closed = true;
        self.out = Vec::new();
        self.opened.clear();
        wake(&mut self.acceptor);
        for slot in self.slots.iter_mut().flatten() {
            wake(&mut slot.reader);
            wake(&mut slot.writer);
        }
        self.wake_io();
    }

    /// Whether no stream may be opened any more.
    pub fn is_closing(&self) -> bool {
        self.closed || self.peer_goes_away || self.goes_away == Leaving::Done || {
            self.role == Role::Server && self.goes_away == Leaving::Said
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is open, and one side wants no more of the connection.
    pub fn is_done(&self) -> bool {
        let ends = self.peer_goes_away || self.goes_away == Leaving::Done;
        ends && self.streams.is_empty() && self.opened.is_empty()
    }

    fn wake_if_done(&mut self) {
        if self.is_done() {
            self.wake_io();
        }
    }

    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Slots that somebody holds.
    pub fn held(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The peer owes the rest of its preface, of its settings, or of a header block.
    pub fn is_owed(&self) -> bool {
        self.preface > 0 || !self.has_settings || self.block.is_open()
    }

    /// The goodbye was said, and the peer has not answered that it heard it: it may go on.
    pub fn is_unheard(&self) -> bool {
        self.goes_away == Leaving::Said
    }

    /// Takes what is to be sent, and lets in who waited for room.
    pub fn take_out(&mut self) -> Vec<u8> {
        let out = std::mem::take(&mut self.out);
        while let Some(number) = self.waiting.pop_front() {
            if let Some(slot) = self.slot(number) {
                slot.is_waiting = false;
                wake(&mut slot.writer);
            }
        }
        out
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

    /// Something is about to be written to `out`.
    fn writes(&mut self) {
        if self.out.capacity() == 0 {
            self.out = buffers::take();
        }
        self.wake_io();
    }

    /// Client: the next stream gets this number.
    #[cfg(test)]
    pub(super) fn begin_at(&mut self, stream: u32) {
        self.edge = stream;
    }

    fn slot_of(&self, stream: u32) -> Option<u32> {
        let at = self
            .streams
            .binary_search_by_key(&stream, |(stream, _)| *stream);
        at.ok()
            .and_then(|at| self.streams.get(at))
            .map(|(_, slot)| *slot)
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        self.place(number)?.as_mut()
    }

    fn place(&mut self, number: u32) -> Option<&mut Option<Slot>> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.slots.get_mut(at)
    }

    /// A peer that lets this side do things for nothing.
    fn spend(&mut self) -> Result<(), frame::Fault> {
        match self.budget.spend() {
            true => Ok(()),
            false => Err(frame::Fault::new(Code::Calm, "too many streams are reset")),
        }
    }
}
