//! What the frames of a peer do to the state.

use super::super::frame::{
    self, Code, END_STREAM, Fault, HEADER, Header, Kind, MOST_PAYLOAD, PADDED, PREFACE,
};
use super::super::reading::Feed;
use super::slot::{Peer, Put, Slot, wake};
use super::{CONNECTION_WINDOW, Leaving, MOST_OUT, Role, State};

impl State {
    /// Takes the whole frames at the front of what came; gives how many bytes they are.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut rest = self.preface(bytes)?;
        while self.preface == 0
            && let Some(header) = Header::read(rest)
        {
            if header.length > MOST_PAYLOAD {
                return Err(Fault::new(Code::FrameSize, "a frame is too long"));
            }
            let Some((whole, after)) = rest.split_at_checked(HEADER + header.length) else {
                break;
            };
            self.frame(header, whole.get(HEADER..).unwrap_or_default())?;
            rest = after;
        }
        Ok(bytes.len() - rest.len())
    }

    fn preface<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        let expected = PREFACE
            .get(PREFACE.len() - self.preface..)
            .unwrap_or_default();
        let count = expected.len().min(bytes.len());
        let (start, rest) = bytes.split_at(count);
        if !expected.starts_with(start) {
            return Err(Fault::protocol("it does not begin as HTTP/2 does"));
        }
        self.preface -= count;
        Ok(rest)
    }

    fn frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        // Answers are not subject to windows: who asks without reading them would fill the memory.
        if self.out.len() > MOST_OUT {
            return Err(Fault::new(Code::Calm, "it asks and does not read"));
        }
        if self.block.is_open() && header.kind != Kind::Continuation {
            return Err(Fault::protocol("a frame stands within a header block"));
        }
        if !self.has_settings && header.kind != Kind::Settings {
            return Err(Fault::protocol("it does not begin with its settings"));
        }
        let of_connection = header.stream == 0;
        match header.kind {
            Kind::Data | Kind::Headers | Kind::Priority | Kind::Reset | Kind::Continuation
                if of_connection =>
            {
                Err(Fault::protocol("a frame of a stream names none"))
            }
            Kind::Settings | Kind::Ping | Kind::GoAway if !of_connection => {
                Err(Fault::protocol("a frame of the connection names a stream"))
            }
            Kind::Data => self.data(header, payload),
            Kind::Headers => self.headers(header, payload),
            Kind::Continuation => self.continuation(header, payload),
            Kind::Priority if payload.len() != 5 => {
                Err(Fault::new(Code::FrameSize, "a priority has five bytes"))
            }
            Kind::Reset => self.peer_resets(header.stream, payload),
            Kind::Settings => self.settings(header, payload),
            Kind::Ping => self.ping(header, payload),
            Kind::GoAway => self.peer_leaves(payload),
            Kind::WindowUpdate => self.window_update(header.stream, payload),
            Kind::PushPromise => Err(Fault::protocol("nobody may push")),
            Kind::Priority | Kind::Unknown => Ok(()),
        }
    }

    fn data(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        // The padding counts too (RFC 9113 §6.9.1).
        self.receive_on_connection(payload.len());
        let content = without_padding(header, payload)?;
        let Some(place) = self.known(header.stream)? else {
            return Ok(());
        };
        let padding = payload.len() - content.len();
        let ends = header.has(END_STREAM);
        if payload.is_empty() && !ends {
            // No window bounds frames without content (CVE-2019-9518).
            self.spend()?;
        }
        let Some(slot) = self.slot(place) else {
            return Ok(());
        };
        match slot.peer {
            Peer::Content => {}
            // A CONNECT's bytes, or those behind a message's end.
            Peer::Head | Peer::Ended | Peer::Reset => {
                return self.blame(place, Code::StreamClosed);
            }
        }
        let within = slot.credit.receive(payload.len());
        if within.is_err() {
            return self.blame(place, Code::FlowControl);
        }
        match append(slot, content, ends) {
            Ok(()) => {}
            Err(()) => return self.blame(place, Code::Protocol),
        }
        if ends || !content.is_empty() {
            wake(&mut slot.reader);
        }
        let thrown_away = match slot.feed {
            Feed::Nothing => payload.len(),
            Feed::Fixed(_) | Feed::Chunks(_) | Feed::Whole => padding,
        };
        if ends {
            slot.peer = Peer::Ended;
            self.finish_if_done(place);
        } else {
            self.passed_on(place, thrown_away);
        }
        Ok(())
    }

    /// The window of the connection is given back at once: those of its streams bound what waits.
    fn receive_on_connection(&mut self, count: usize) {
        self.owed += u32::try_from(count).unwrap_or_default();
        if self.owed >= CONNECTION_WINDOW / 2 {
            let owed = std::mem::take(&mut self.owed);
            self.writes();
            frame::window_update(0, owed, &mut self.out);
        }
    }

    /// An error of one stream. Who makes them again and again ends the connection.
    pub(super) fn blame(&mut self, place: u32, code: Code) -> Result<(), Fault> {
        self.spend()?;
        if let Some(slot) = self.slot(place) {
            let stream = slot.stream;
            self.writes();
            frame::reset(stream, code, &mut self.out);
        }
        self.fail(place);
        Ok(())
    }

    /// The slot of a stream. None: the stream is closed, and what comes late is thrown away.
    pub(super) fn known(&self, stream: u32) -> Result<Option<u32>, Fault> {
        if let Some(place) = self.slot_of(stream) {
            return Ok(Some(place));
        }
        let was_open = match self.role {
            Role::Server => !stream.is_multiple_of(2) && stream <= self.edge,
            Role::Client => !stream.is_multiple_of(2) && stream < self.edge,
        };
        match was_open || self.goes_away == Leaving::Done {
            true => Ok(None),
            false => Err(Fault::protocol(
                "a frame names a stream that was never opened",
            )),
        }
    }

    fn peer_resets(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::new(Code::FrameSize, "a reset has four bytes"));
        }
        let Some(place) = self.known(stream)? else {
            return Ok(());
        };
        let known = self.slot(place).map(|slot| (slot.peer, slot.put));
        let is_unseen = self.slot(place).is_some_and(|slot| slot.is_unseen);
        match (self.role, known) {
            // A server that has answered may say that it reads no more of the request (RFC 9113 §8.1): the answer stands.
            (Role::Client, Some((Peer::Ended, _))) => self.answered(place),
            (Role::Client, _) => self.fail(place),
            // The answer was whole: no work was lost.
            (Role::Server, Some((_, Put::Ended))) => self.fail(place),
            // Nobody had looked at it: it came only to be reset.
            (Role::Server, _) if is_unseen => {
                self.spend()?;
                self.fail(place);
            }
            (Role::Server, _) => {
                if !self.cancelling.spend() {
                    return Err(Fault::new(Code::Calm, "too many requests are cancelled"));
                }
                self.fail(place);
            }
        }
        Ok(())
    }

    /// Client: nobody reads the rest of the request.
    fn answered(&mut self, place: u32) {
        self.leave(place);
        if let Some(slot) = self.slot(place) {
            slot.is_over = true;
            wake(&mut slot.writer);
        }
        self.wake_if_done();
        self.release(place);
    }
}

/// Writes content as HTTP/1.1 has it.
fn append(slot: &mut Slot, content: &[u8], ends: bool) -> Result<(), ()> {
    match slot.feed {
        Feed::Whole => return Err(()),
        Feed::Nothing => return Ok(()),
        Feed::Fixed(left) => {
            slot.feed = Feed::Fixed(less(left, content, ends)?);
            if !content.is_empty() {
                slot.text().extend_from_slice(content);
            }
        }
        Feed::Chunks(left) => {
            let left = left.map(|left| less(left, content, ends)).transpose()?;
            slot.feed = Feed::Chunks(left);
            if !content.is_empty() {
                slot.chunk(content);
            }
            if ends {
                slot.text().extend_from_slice(b"0\r\n\r\n");
            }
        }
    }
    slot.holds_content(content.len());
    Ok(())
}

/// What is missing after more came of what was announced (RFC 9113 §8.1.1).
fn less(left: u64, content: &[u8], ends: bool) -> Result<u64, ()> {
    let count = u64::try_from(content.len()).map_err(|_| ())?;
    let left = left.checked_sub(count).ok_or(())?;
    match ends && left > 0 {
        true => Err(()),
        false => Ok(left),
    }
}

pub(super) fn without_padding(header: Header, payload: &[u8]) -> Result<&[u8], Fault> {
    if !header.has(PADDED) {
        return Ok(payload);
    }
    let padded = payload.split_first().and_then(|(padding, rest)| {
        let length = rest.len().checked_sub(usize::from(*padding))?;
        rest.get(..length)
    });
    padded.ok_or(Fault::protocol("the padding is longer than its frame"))
}
