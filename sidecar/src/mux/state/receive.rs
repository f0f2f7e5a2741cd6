//! What the bytes of a peer do to the state.

use super::super::frame::{Carried, Fault, HEADER, Header, Kind, MOST_DATA, REFUSAL};
use super::slot::{Half, Slot, wake};
use super::{MOST_OUT, MOST_SLOTS, Opened, Role, State};
use crate::decisions::DecisionId;

impl State {
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
                Incoming::Refusal { slot, partial } => {
                    let (id, rest) = partial.fill(bytes);
                    bytes = rest;
                    if let Some(id) = id {
                        let slot = *slot;
                        self.incoming = Incoming::header();
                        self.peer_refused(slot, DecisionId::read(id).ok_or(Fault::Refusal)?)?;
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
        // Answers are not subject to credit: who asks without reading them would fill the memory.
        if self.out.len() > MOST_OUT {
            return Err(Fault::Flood);
        }
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
            Kind::Refused => {
                self.slot(slot).ok_or(Fault::Slot)?;
                self.incoming = Incoming::Refusal {
                    slot,
                    partial: Partial::empty(),
                };
                return Ok(());
            }
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
        slot.received.push(part);
        // A head that came in two pieces would be looked at twice for nothing.
        if is_whole || slot.received.len() >= MOST_DATA {
            wake(&mut slot.reader);
        }
        Ok(())
    }

    fn peer_refused(&mut self, number: u32, decision: DecisionId) -> Result<(), Fault> {
        let slot = self.slot(number).ok_or(Fault::Slot)?;
        slot.refused = Some(Box::new(decision));
        self.peer_is(number, Half::Reset)
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
}

/// Where the next received byte belongs.
pub(super) enum Incoming {
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
    Refusal {
        slot: u32,
        partial: Partial<REFUSAL>,
    },
}

pub(super) struct Partial<const N: usize> {
    bytes: [u8; N],
    have: usize,
}

impl Incoming {
    pub(super) fn header() -> Self {
        Self::Header(Partial::empty())
    }
}

impl<const N: usize> Partial<N> {
    fn empty() -> Self {
        Self {
            bytes: [0; N],
            have: 0,
        }
    }

    /// Takes what is missing; gives the whole when nothing is.
    pub(super) fn fill<'b>(&mut self, bytes: &'b [u8]) -> (Option<[u8; N]>, &'b [u8]) {
        let (part, rest) = bytes.split_at(bytes.len().min(N - self.have));
        if let Some(place) = self.bytes.get_mut(self.have..self.have + part.len()) {
            place.copy_from_slice(part);
        }
        self.have += part.len();
        ((self.have == N).then_some(self.bytes), rest)
    }
}
