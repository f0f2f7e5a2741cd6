//! What both ends of a `weft/1` connection know of it: the slots, their credit, and what waits to be sent. No I/O: bytes come in by
//! [`State::receive`] and go out by [`State::take_out`].
//!
//! Invariants: a slot's number is free again only when both sides have said their last word on it; no slot holds more than its credit;
//! streams that wait for room in the outgoing buffer get it in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::credit::{Credit, FLOOR, SHARE};
use super::frame::{Carried, Fault, HEADER, Header, Kind, LAST_SLOT, MOST_DATA, MOST_OPEN};
use crate::buffers;

/// Slots of one connection that may be in use at a time.
pub const MOST_SLOTS: usize = 256;
/// Streams wait while so much is to be sent already.
const OUT_HIGH: usize = 128 * 1024;

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
    out: Vec<u8>,
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

#[derive(Default)]
struct Slot {
    received: Vec<u8>,
    /// So many of `received` were read.
    read: usize,
    credit: Credit,
    send_credit: u32,
    peer: Half,
    own: Half,
    reader: Option<Waker>,
    writer: Option<Waker>,
    is_waiting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Half {
    #[default]
    Open,
    /// It sends no more bytes.
    Ended,
    /// It said its last word, after both had ended.
    Closed,
    /// It said its last word, and something was still to come.
    Reset,
}

impl Half {
    fn is_final(self) -> bool {
        match self {
            Self::Closed | Self::Reset => true,
            Self::Open | Self::Ended => false,
        }
    }
}

/// Where the next received byte belongs.
enum Incoming {
    Header(Partial<HEADER>),
    Opening {
        slot: u32,
        left: usize,
        payload: Vec<u8>,
    },
    Data {
        slot: u32,
        left: usize,
    },
}

struct Partial<const N: usize> {
    bytes: [u8; N],
    have: usize,
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
            out: Vec::new(),
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
        self.out.extend_from_slice(&opening);
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

    /// Takes what came from the peer.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match &mut self.incoming {
                Incoming::Header(partial) => {
                    let (header, rest) = partial.fill(bytes);
                    bytes = rest;
                    if let Some(header) = header {
                        self.begin(Header::read(header)?)?;
                    }
                }
                Incoming::Opening {
                    slot,
                    left,
                    payload,
                } => {
                    let (part, rest) = bytes.split_at(bytes.len().min(*left));
                    bytes = rest;
                    *left -= part.len();
                    payload.extend_from_slice(part);
                    if *left == 0 {
                        let (slot, payload) = (*slot, std::mem::take(payload));
                        self.incoming = Incoming::header();
                        self.opened(slot, &payload)?;
                    }
                }
                Incoming::Data { slot, left } => {
                    let (part, rest) = bytes.split_at(bytes.len().min(*left));
                    bytes = rest;
                    *left -= part.len();
                    let (slot, is_whole) = (*slot, *left == 0);
                    if is_whole {
                        self.incoming = Incoming::header();
                    }
                    self.data(slot, part, is_whole)?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: Header) -> Result<(), Fault> {
        let Header { kind, slot, value } = header;
        match kind {
            Kind::Open => {
                self.check_opening(slot)?;
                let payload = Vec::with_capacity(header.payload());
                self.incoming = Incoming::Opening {
                    slot,
                    left: header.payload(),
                    payload,
                };
                if header.payload() == 0 {
                    return Err(Fault::Open);
                }
                return Ok(());
            }
            Kind::Data => {
                let known = self.slot(slot).ok_or(Fault::Slot)?;
                if known.peer != Half::Open {
                    return Err(Fault::Slot);
                }
                known.credit.receive(header.payload())?;
                if header.payload() > 0 {
                    self.incoming = Incoming::Data {
                        slot,
                        left: header.payload(),
                    };
                    return Ok(());
                }
            }
            Kind::End => self.peer_is(slot, Half::Ended)?,
            Kind::Close => self.peer_is(slot, Half::Closed)?,
            Kind::Reset => self.peer_is(slot, Half::Reset)?,
            Kind::Credit => {
                let known = self.slot(slot).ok_or(Fault::Slot)?;
                if known.peer.is_final() {
                    return Err(Fault::Slot);
                }
                known.send_credit = known.send_credit.checked_add(value).ok_or(Fault::Credit)?;
                wake(&mut known.writer);
            }
            Kind::GoAway => {
                self.peer_goes_away = true;
                self.unpark();
            }
            Kind::Ping => self.push(Kind::Pong, 0, value),
            Kind::Pong => {}
        }
        self.incoming = Incoming::header();
        Ok(())
    }

    fn check_opening(&mut self, number: u32) -> Result<(), Fault> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if self.role == Role::Client || place > MOST_SLOTS {
            return Err(Fault::Slot);
        }
        if self.slot(number).is_some() {
            return Err(Fault::Slot);
        }
        if self.in_use >= MOST_SLOTS {
            return Err(Fault::TooManySlots);
        }
        Ok(())
    }

    fn opened(&mut self, number: u32, payload: &[u8]) -> Result<(), Fault> {
        let (carried, name) = Carried::read_opening(payload)?;
        let place = usize::try_from(number).map_err(|_| Fault::Slot)?;
        if self.slots.len() < place {
            self.slots.resize_with(place, || None);
        }
        *self.place(number).ok_or(Fault::Slot)? = Some(Slot::new());
        self.in_use += 1;
        self.opened.push_back(Opened {
            slot: number,
            carried,
            name: name.to_owned(),
        });
        wake(&mut self.acceptor);
        Ok(())
    }

    fn data(&mut self, number: u32, part: &[u8], is_whole: bool) -> Result<(), Fault> {
        let slot = self.slot(number).ok_or(Fault::Slot)?;
        if slot.own.is_final() {
            return Ok(());
        }
        if slot.received.capacity() == 0 {
            slot.received = buffers::take();
        }
        slot.received.extend_from_slice(part);
        // A head that came in two pieces would be looked at twice for nothing.
        if is_whole || slot.received.len() >= MOST_DATA {
            wake(&mut slot.reader);
        }
        Ok(())
    }

    fn peer_is(&mut self, number: u32, half: Half) -> Result<(), Fault> {
        let slot = self.slot(number).ok_or(Fault::Slot)?;
        if slot.peer.is_final() || slot.peer == half {
            return Err(Fault::Slot);
        }
        slot.peer = half;
        wake(&mut slot.reader);
        if half == Half::Reset {
            wake(&mut slot.writer);
        }
        self.release_if_done(number);
        Ok(())
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
        let waiting = slot.received.len() - slot.read;
        if waiting == 0 {
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
        let count = slot.move_to(into, most);
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
        let count = all.min(credit).min(MOST_DATA);
        let value = u32::try_from(count).unwrap_or(0);
        slot.send_credit -= value;
        self.push(Kind::Data, number, value);
        let mut left = count;
        for part in parts {
            let (taken, _) = part.split_at(part.len().min(left));
            self.out.extend_from_slice(taken);
            left -= taken.len();
        }
        Poll::Ready(Ok(count))
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
        let Some(slot) = self.slot(number) else {
            return;
        };
        if slot.own.is_final() {
            return;
        }
        let buffer = std::mem::take(&mut slot.received);
        slot.read = 0;
        (slot.reader, slot.writer) = (None, None);
        let is_complete =
            slot.own == Half::Ended && matches!(slot.peer, Half::Ended | Half::Closed);
        let (half, last_word) = if is_complete {
            (Half::Closed, Kind::Close)
        } else {
            (Half::Reset, Kind::Reset)
        };
        slot.own = half;
        buffers::give_back(buffer);
        if !self.closed {
            self.push(last_word, number, 0);
        }
        self.release_if_done(number);
    }

    /// Whether nothing came on a slot that waits for its next use.
    fn is_quiet(&mut self, number: u32) -> bool {
        let is_closing = self.is_closing();
        self.slot(number).is_some_and(|slot| {
            !is_closing
                && slot.peer == Half::Open
                && slot.own == Half::Open
                && slot.received.len() == slot.read
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
        self.out = Vec::new();
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

    fn push(&mut self, kind: Kind, slot: u32, value: u32) {
        if self.out.capacity() == 0 {
            self.out = buffers::take();
        }
        Header { kind, slot, value }.write(&mut self.out);
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

impl Slot {
    fn new() -> Self {
        Self {
            send_credit: FLOOR,
            ..Self::default()
        }
    }

    fn move_to(&mut self, into: &mut Vec<u8>, most: usize) -> usize {
        let waiting = self.received.len() - self.read;
        if self.read == 0 && into.is_empty() && waiting <= most {
            buffers::give_back(std::mem::replace(into, std::mem::take(&mut self.received)));
            return waiting;
        }
        let count = waiting.min(most);
        let part = self.received.get(self.read..self.read + count);
        into.extend_from_slice(part.unwrap_or_default());
        self.read += count;
        if self.read == self.received.len() {
            buffers::give_back(std::mem::take(&mut self.received));
            self.read = 0;
        }
        count
    }
}

impl Incoming {
    fn header() -> Self {
        Self::Header(Partial {
            bytes: [0; HEADER],
            have: 0,
        })
    }
}

impl<const N: usize> Partial<N> {
    /// Takes what is missing; gives the whole when nothing is.
    fn fill<'b>(&mut self, bytes: &'b [u8]) -> (Option<[u8; N]>, &'b [u8]) {
        let (part, rest) = bytes.split_at(bytes.len().min(N - self.have));
        if let Some(place) = self.bytes.get_mut(self.have..self.have + part.len()) {
            place.copy_from_slice(part);
        }
        self.have += part.len();
        ((self.have == N).then_some(self.bytes), rest)
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}
