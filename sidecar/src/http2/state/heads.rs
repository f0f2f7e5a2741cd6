//! What header blocks do to the state: heads of messages, and trailers.

use super::super::frame::{
    self, Code, END_HEADERS, END_STREAM, Fault, Header, Kind, MOST_PAYLOAD, PRIORITY,
};
use super::super::hpack::Decoded;
use super::super::reading::Feed;
use super::receive::without_padding;
use super::slot::{Peer, wake};
use super::{Leaving, Role, State};

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
    pub(super) fn headers(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
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

    pub(super) fn continuation(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
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
            return match self.role {
                // What this side cancelled may be answered all the same.
                Role::Client => Ok(()),
                // Blocks are work, also those of streams that are closed.
                Role::Server => self.spend(),
            };
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
            return self.spend();
        }
        self.edge = stream;
        let most = usize::try_from(self.limits.streams).unwrap_or(usize::MAX);
        if self.streams.len() >= most {
            return self.refuse(stream, Code::Refused);
        }
        if decoded == Decoded::TooLarge {
            return self.refuse_head(stream, ends);
        }
        let (place, is_new) = match self.idle.pop() {
            Some(place) if !self.is_closing() => (place, false),
            // Whoever serves a stream that was reset may need a moment to notice.
            _ if self.held() >= most.saturating_mul(2) => {
                return self.refuse(stream, Code::Refused);
            }
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
    fn refuse_head(&mut self, stream: u32, ends: bool) -> Result<(), Fault> {
        self.spend()?;
        self.writes();
        let mut block = Vec::new();
        self.begin_block(&mut block);
        super::super::hpack::encoder::status(431, &mut block);
        let flags = END_STREAM | END_HEADERS;
        frame::write(Kind::Headers, flags, stream, &block, &mut self.out);
        if !ends {
            frame::reset(stream, Code::NoError, &mut self.out);
        }
        Ok(())
    }

    /// Client: the head of a response.
    fn response(&mut self, place: u32, ends: bool) -> Result<(), Fault> {
        // No window bounds interim answers.
        let most = self.limits.head_bytes;
        if self.slot(place).is_some_and(|slot| slot.waiting() > most) {
            return self.blame(place, Code::Calm);
        }
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
            Feed::Chunks(Some(1..)) => false,
            Feed::Chunks(_) => reading.trailers(slot.text()).is_ok(),
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
}

/// Frames of one header block: a client needs few, and an empty one costs as much as a full one.
const MOST_FRAMES: usize = 16;
