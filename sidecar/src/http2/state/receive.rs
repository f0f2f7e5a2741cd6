//! What the frames of a peer do to the state.

use std::io::Write as _;

use super::super::frame::{
    self, ACK, Code, END_HEADERS, END_STREAM, Fault, HEADER, Header, Kind, MOST_PAYLOAD,
    MOST_WINDOW, PADDED, PREFACE, PRIORITY, Setting, number, read_settings,
};
use super::super::hpack::Decoded;
use super::super::reading::Feed;
use super::slot::{Peer, Slot, wake};
use super::{CONNECTION_WINDOW, LEAVING, Leaving, MOST_OPEN, MOST_OUT, Role, State, TABLE};

/// A header block whose frames have not all come.
#[derive(Debug, Default)]
pub(in crate::http2) struct Block {
    /// 0: none.
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
    frames: usize,
}

impl Block {
    pub(in crate::http2) fn is_open(&self) -> bool {
        self.stream != 0
    }
}

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
            Feed::Fixed(_) | Feed::Chunks | Feed::Whole => padding,
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

    fn headers(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        let mut block = without_padding(header, payload)?;
        if header.has(PRIORITY) {
            block = block
                .get(5..)
                .ok_or(Fault::new(Code::FrameSize, "a priority has five bytes"))?;
        }
        if header.has(END_HEADERS) {
            return self.block(header.stream, header.has(END_STREAM), block);
        }
        self.block.stream = header.stream;
        self.block.ends_stream = header.has(END_STREAM);
        self.block.frames = 1;
        self.block.bytes.extend_from_slice(block);
        Ok(())
    }

    fn continuation(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if header.stream != self.block.stream {
            return Err(Fault::protocol("a continuation continues nothing"));
        }
        self.block.frames += 1;
        self.block.bytes.extend_from_slice(payload);
        let most = self.limits.head_bytes.saturating_add(MOST_PAYLOAD);
        if self.block.bytes.len() > most || self.block.frames > MOST_FRAMES {
            return Err(Fault::new(Code::Calm, "a header block does not end"));
        }
        if header.has(END_HEADERS) {
            let block = std::mem::take(&mut self.block);
            return self.block(block.stream, block.ends_stream, &block.bytes);
        }
        Ok(())
    }

    /// A whole header block: the head of a message, or its trailers.
    fn block(&mut self, stream: u32, ends: bool, block: &[u8]) -> Result<(), Fault> {
        self.reading.clear(self.limits.has_trailers);
        let (decoder, reading) = (&mut self.decoder, &mut self.reading);
        let decoded = decoder.decode(block, self.limits.head_bytes, &mut |name, value| {
            reading.field(name, value);
        });
        let decoded =
            decoded.map_err(|_| Fault::new(Code::Compression, "a header block cannot be read"))?;
        let known = self.slot_of(stream);
        let is_new = self.role == Role::Server && known.is_none() && stream > self.edge;
        if is_new {
            return self.request(stream, ends, decoded);
        }
        let Some(place) = self.known(stream)? else {
            return Ok(());
        };
        if decoded == Decoded::TooLarge {
            return self.blame(place, Code::Calm);
        }
        match (self.role, self.slot(place).map(|slot| slot.peer)) {
            (Role::Client, Some(Peer::Head)) => self.response(place, ends),
            (_, Some(Peer::Content)) if ends => self.trailers(place),
            _ => self.blame(place, Code::Protocol),
        }
    }

    /// Server: a new stream.
    fn request(&mut self, stream: u32, ends: bool, decoded: Decoded) -> Result<(), Fault> {
        if stream.is_multiple_of(2) {
            return Err(Fault::protocol("a client's streams have odd numbers"));
        }
        if self.goes_away == Leaving::Done {
            return Ok(());
        }
        self.edge = stream;
        let most = usize::try_from(self.limits.streams).unwrap_or(usize::MAX);
        if self.streams.len() >= most {
            return self.refuse(stream, Code::Refused);
        }
        if decoded == Decoded::TooLarge {
            return self.refuse_head(stream);
        }
        let (place, is_new) = match self.idle.pop() {
            Some(place) if self.goes_away == Leaving::No => (place, false),
            _ => match self.new_slot() {
                Some(place) => (place, true),
                None => return self.refuse(stream, Code::Refused),
            },
        };
        let window = self.peer_window;
        // Apart from the state, the reading can write to the slot.
        let mut reading = std::mem::take(&mut self.reading);
        let written = self.slot(place).map(|slot| {
            slot.begin(stream, window);
            let written = reading.request(ends, slot.text());
            if written.is_err() {
                slot.stream = 0;
                slot.throw_away();
            }
            written
        });
        self.reading = reading;
        let written = match written {
            Some(Ok(written)) => written,
            Some(Err(why)) => {
                tracing::debug!(why, "a request cannot be read");
                if is_new {
                    if let Some(slot) = self.slot(place) {
                        slot.is_held = false;
                    }
                    self.release(place);
                } else {
                    self.idle.push(place);
                }
                return self.refuse(stream, Code::Protocol);
            }
            None => return self.refuse(stream, Code::Internal),
        };
        self.streams.push((stream, place));
        if let Some(slot) = self.slot(place) {
            slot.feed = written.feed;
            slot.is_head = written.is_head;
            slot.peer = if ends { Peer::Ended } else { Peer::Content };
            wake(&mut slot.reader);
        }
        if is_new {
            self.opened.push_back(place);
            wake(&mut self.acceptor);
        }
        Ok(())
    }

    fn refuse(&mut self, stream: u32, code: Code) -> Result<(), Fault> {
        self.spend()?;
        self.writes();
        frame::reset(stream, code, &mut self.out);
        Ok(())
    }

    /// A head that is too large is answered (RFC 6585 §5).
    fn refuse_head(&mut self, stream: u32) -> Result<(), Fault> {
        self.spend()?;
        self.writes();
        let mut block = Vec::new();
        self.begin_block(&mut block);
        super::super::hpack::encoder::status(431, &mut block);
        let flags = END_STREAM | END_HEADERS;
        frame::write(Kind::Headers, flags, stream, &block, &mut self.out);
        frame::reset(stream, Code::NoError, &mut self.out);
        Ok(())
    }

    /// Client: the head of a response.
    fn response(&mut self, place: u32, ends: bool) -> Result<(), Fault> {
        let mut reading = std::mem::take(&mut self.reading);
        let written = self.slot(place).map(|slot| {
            let is_head = slot.is_head;
            let before = slot.waiting();
            let written = reading.response(ends, is_head, slot.text());
            if written.is_err() && before == 0 {
                slot.throw_away();
            }
            written
        });
        self.reading = reading;
        let Some(Ok(written)) = written else {
            return self.blame(place, Code::Protocol);
        };
        let Some(slot) = self.slot(place) else {
            return Ok(());
        };
        wake(&mut slot.reader);
        if written.is_interim {
            return Ok(());
        }
        slot.feed = written.feed;
        slot.peer = if ends { Peer::Ended } else { Peer::Content };
        self.finish_if_done(place);
        Ok(())
    }

    fn trailers(&mut self, place: u32) -> Result<(), Fault> {
        let mut reading = std::mem::take(&mut self.reading);
        let is_well = self.slot(place).is_some_and(|slot| match slot.feed {
            Feed::Chunks => reading.trailers(slot.text()).is_ok(),
            // Content of a length that was announced has no place for trailers in HTTP/1.1.
            Feed::Fixed(left) => left == 0,
            Feed::Whole | Feed::Nothing => true,
        });
        self.reading = reading;
        if !is_well {
            return self.blame(place, Code::Protocol);
        }
        if let Some(slot) = self.slot(place) {
            slot.peer = Peer::Ended;
            wake(&mut slot.reader);
        }
        self.finish_if_done(place);
        Ok(())
    }

    /// An error of one stream. Who makes them again and again ends the connection.
    fn blame(&mut self, place: u32, code: Code) -> Result<(), Fault> {
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
    fn known(&self, stream: u32) -> Result<Option<u32>, Fault> {
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
        match (self.role, self.slot(place).map(|slot| slot.peer)) {
            // A server that has answered may say that it reads no more of the request (RFC 9113 §8.1): the answer stands.
            (Role::Client, Some(Peer::Ended)) => self.answered(place),
            (Role::Client, _) => self.fail(place),
            (Role::Server, _) => {
                self.spend()?;
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

    fn settings(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if header.has(ACK) {
            return match payload.is_empty() && self.has_settings {
                true => Ok(()),
                false => Err(Fault::new(
                    Code::FrameSize,
                    "an acknowledgement says something",
                )),
            };
        }
        if !std::mem::replace(&mut self.has_settings, true) {
            // Who says nothing of a limit has none.
            self.peer_streams = MOST_OPEN;
        }
        let settings = read_settings(payload);
        let settings = settings.ok_or(Fault::new(Code::FrameSize, "a setting has six bytes"))?;
        for (setting, value) in settings {
            self.setting(setting, value)?;
        }
        self.writes();
        frame::write(Kind::Settings, ACK, 0, b"", &mut self.out);
        Ok(())
    }

    fn setting(&mut self, setting: Setting, value: u32) -> Result<(), Fault> {
        match setting {
            Setting::EnablePush if value > 1 || value == 1 && self.role == Role::Client => {
                Err(Fault::protocol("a setting has no such value"))
            }
            Setting::MaxFrameSize if !(1 << 14..1 << 24).contains(&value) => {
                Err(Fault::protocol("a setting has no such value"))
            }
            Setting::MaxConcurrentStreams => {
                let most = usize::try_from(value).unwrap_or(usize::MAX);
                self.peer_streams = most.min(MOST_OPEN);
                Ok(())
            }
            Setting::InitialWindowSize => {
                let window = i64::from(value);
                if window > MOST_WINDOW {
                    return Err(Fault::new(Code::FlowControl, "a window is too large"));
                }
                let more = window - std::mem::replace(&mut self.peer_window, window);
                for slot in self
                    .slots
                    .iter_mut()
                    .flatten()
                    .filter(|slot| slot.stream != 0)
                {
                    slot.send_window += more;
                    if slot.send_window > MOST_WINDOW {
                        return Err(Fault::new(Code::FlowControl, "a window is too large"));
                    }
                    wake(&mut slot.writer);
                }
                Ok(())
            }
            Setting::HeaderTableSize => {
                self.must_tell_table |= usize::try_from(value).is_ok_and(|size| size < TABLE);
                Ok(())
            }
            Setting::EnablePush
            | Setting::MaxFrameSize
            | Setting::MaxHeaderListSize
            | Setting::Other => Ok(()),
        }
    }

    fn ping(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 8 {
            return Err(Fault::new(Code::FrameSize, "a ping has eight bytes"));
        }
        if !header.has(ACK) {
            self.writes();
            frame::write(Kind::Ping, ACK, 0, payload, &mut self.out);
        } else if payload == LEAVING && self.goes_away == Leaving::Said {
            // What was on its way has come.
            self.goes_away = Leaving::Done;
            self.writes();
            frame::go_away(self.edge, Code::NoError, &mut self.out);
            self.wake_if_done();
        }
        Ok(())
    }

    fn peer_leaves(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let last = number(payload).filter(|_| payload.len() >= 8);
        let last = last.ok_or(Fault::new(Code::FrameSize, "a goodbye has eight bytes"))?;
        self.peer_goes_away = true;
        if self.role == Role::Client {
            let unseen: Vec<u32> = self
                .streams
                .iter()
                .filter(|(stream, _)| *stream > last)
                .map(|(_, place)| *place)
                .collect();
            for place in unseen {
                self.fail(place);
            }
        }
        self.wake_idle();
        self.wake_if_done();
        Ok(())
    }

    fn window_update(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        let more = number(payload).filter(|_| payload.len() == 4);
        let more = more.ok_or(Fault::new(Code::FrameSize, "a window has four bytes"))?;
        let more = i64::from(more & (u32::MAX >> 1));
        if stream == 0 {
            self.send_window += more;
            if more == 0 {
                return Err(Fault::protocol("a window grows by nothing"));
            }
            if self.send_window > MOST_WINDOW {
                return Err(Fault::new(Code::FlowControl, "a window is too large"));
            }
            while let Some(number) = self.starved.pop_front() {
                if let Some(slot) = self.slot(number) {
                    slot.is_waiting = false;
                    wake(&mut slot.writer);
                }
            }
            return Ok(());
        }
        let Some(place) = self.known(stream)? else {
            return Ok(());
        };
        let Some(slot) = self.slot(place) else {
            return Ok(());
        };
        slot.send_window += more;
        if more == 0 {
            return self.blame(place, Code::Protocol);
        }
        if slot.send_window > MOST_WINDOW {
            return self.blame(place, Code::FlowControl);
        }
        wake(&mut slot.writer);
        Ok(())
    }
}

/// Writes content as HTTP/1.1 has it.
fn append(slot: &mut Slot, content: &[u8], ends: bool) -> Result<(), ()> {
    match slot.feed {
        Feed::Whole => return Err(()),
        Feed::Nothing => return Ok(()),
        Feed::Fixed(left) => {
            let count = u64::try_from(content.len()).map_err(|_| ())?;
            let left = left.checked_sub(count).ok_or(())?;
            if ends && left > 0 {
                return Err(());
            }
            slot.feed = Feed::Fixed(left);
            if !content.is_empty() {
                slot.text().extend_from_slice(content);
            }
        }
        Feed::Chunks => {
            let text = slot.text();
            if !content.is_empty() {
                // A vector takes every write.
                let _ = write!(text, "{:x}\r\n", content.len());
                text.extend_from_slice(content);
                text.extend_from_slice(b"\r\n");
            }
            if ends {
                text.extend_from_slice(b"0\r\n\r\n");
            }
        }
    }
    slot.holds_content(content.len());
    Ok(())
}

fn without_padding(header: Header, payload: &[u8]) -> Result<&[u8], Fault> {
    if !header.has(PADDED) {
        return Ok(payload);
    }
    let padded = payload.split_first().and_then(|(padding, rest)| {
        let length = rest.len().checked_sub(usize::from(*padding))?;
        rest.get(..length)
    });
    padded.ok_or(Fault::protocol("the padding is longer than its frame"))
}

/// Frames of one header block: a client needs few, and an empty one costs as much as a full one.
const MOST_FRAMES: usize = 16;
