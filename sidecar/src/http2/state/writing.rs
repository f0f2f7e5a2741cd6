//! What messages in HTTP/1.1 become on the wire.

use std::task::{Context, Poll};

use super::super::frame::{self, END_STREAM, Kind, MOST_PAYLOAD};
use super::super::hpack::encoder;
use super::fields::{lower_field, write_block, write_request, write_response};
use super::slot::{Peer, Put, keep};
use super::{Gone, LAST_STREAM, OUT_HIGH, Role, State};
use crate::buffers;
use crate::http::strict;
use crate::http1::content::{Content, Piece};

/// What became of a part of a message.
enum Step {
    /// So many bytes were taken.
    Took(usize),
    /// Nothing can be taken now.
    Blocked,
}

/// The message is none, or the stream cannot take it.
pub(super) struct Unfit;

impl State {
    /// Takes as much of a message's bytes as windows and room allow.
    pub fn poll_write(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
    ) -> Poll<Result<usize, Gone>> {
        let mut taken = 0;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if let Some(gone) = self.gone(number) {
                    return Poll::Ready(Err(gone));
                }
                match self.put(number, rest) {
                    Ok(Step::Took(count)) => {
                        taken += count;
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    Ok(Step::Blocked) if taken > 0 => return Poll::Ready(Ok(taken)),
                    Ok(Step::Blocked) => {
                        if let Some(slot) = self.slot(number) {
                            keep(&mut slot.writer, cx);
                        }
                        return Poll::Pending;
                    }
                    Err(Unfit) => {
                        self.reset_stream(number, frame::Code::Internal);
                        return Poll::Ready(Err(Gone::Closed));
                    }
                }
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn gone(&mut self, number: u32) -> Option<Gone> {
        let (closed, closing, is_client) =
            (self.closed, self.is_closing(), self.role == Role::Client);
        let Some(slot) = self.slot(number) else {
            return Some(Gone::Closed);
        };
        let begins = slot.stream == 0 && is_client;
        if slot.peer == Peer::Reset {
            Some(Gone::Reset)
        } else if closed || slot.is_over || slot.stream == 0 && !is_client || begins && closing {
            Some(Gone::Closed)
        } else {
            None
        }
    }

    fn put(&mut self, number: u32, input: &[u8]) -> Result<Step, Unfit> {
        if !self.has_room(number) {
            return Ok(Step::Blocked);
        }
        let Some(slot) = self.slot(number) else {
            return Err(Unfit);
        };
        if slot.stream == 0 {
            // The last message may have been whole long ago.
            slot.put = Put::Head;
        }
        match slot.put {
            Put::Head => self.put_head(number, input),
            Put::Content(content) => self.put_content(number, content, input),
            Put::Ended => Err(Unfit),
        }
    }

    fn put_head(&mut self, number: u32, input: &[u8]) -> Result<Step, Unfit> {
        if !self.may_begin(number) {
            return Ok(Step::Blocked);
        }
        let Some(slot) = self.slot(number) else {
            return Err(Unfit);
        };
        let mut searched = 0;
        let is_whole = |head: &[u8], searched: &mut usize| {
            strict::section_end(head, searched).map_err(|_| Unfit)
        };
        if slot.partial.is_empty()
            && let Some(length) = is_whole(input, &mut searched)?
        {
            self.head(number, input.get(..length).unwrap_or_default())?;
            return Ok(Step::Took(length));
        }
        // It comes in pieces, which is rare: looked at anew with each of them.
        let before = slot.partial.len();
        slot.partial.extend_from_slice(input);
        searched = 0;
        let Some(length) = is_whole(&slot.partial, &mut searched)? else {
            return Ok(Step::Took(input.len()));
        };
        let mut whole = std::mem::take(&mut slot.partial);
        whole.truncate(length);
        self.head(number, &whole)?;
        Ok(Step::Took(length - before))
    }

    /// A client's stream is opened only when its head goes out, so that numbers go out in their order.
    fn may_begin(&mut self, number: u32) -> bool {
        if self.role == Role::Server {
            return true;
        }
        let has_room = self.streams.len() < self.peer_streams;
        match self
            .queueing
            .iter()
            .position(|queueing| *queueing == number)
        {
            None if !has_room => self.queueing.push_back(number),
            Some(at) if has_room => {
                self.queueing.remove(at);
            }
            None | Some(_) => {}
        }
        has_room
    }

    /// Whether there is room in `out`. If not, the slot is woken when there is.
    fn has_room(&mut self, number: u32) -> bool {
        if self.out.len() < OUT_HIGH {
            return true;
        }
        if let Some(slot) = self.slot(number)
            && !std::mem::replace(&mut slot.is_waiting, true)
        {
            self.waiting.push_back(number);
        }
        false
    }

    fn head(&mut self, number: u32, head: &[u8]) -> Result<(), Unfit> {
        let mut block = std::mem::take(&mut self.encoding);
        block.clear();
        self.begin_block(&mut block);
        let written = match self.role {
            Role::Client => write_request(head, &mut block),
            Role::Server => write_response(head, &mut block),
        };
        let framing = match written {
            Ok(framing) => framing,
            Err(why) => {
                self.encoding = block;
                return Err(why);
            }
        };
        if self.role == Role::Client {
            let (stream, window) = (self.edge, self.peer_window);
            if stream > LAST_STREAM - 2 {
                self.go_away();
            }
            self.edge += 2;
            self.streams.push((stream, number));
            if let Some(slot) = self.slot(number) {
                slot.begin(stream, window);
                slot.is_head = framing.is_head;
            }
        }
        let is_client = self.role == Role::Client;
        let Some(slot) = self.slot(number) else {
            return Err(Unfit);
        };
        let stream = slot.stream;
        let content = match framing.length {
            _ if framing.is_interim || framing.has_no_content || slot.is_head && !is_client => {
                Content::Done
            }
            Some(length) => Content::from(length),
            None if is_client => Content::Done,
            None => Content::UntilClose,
        };
        slot.takes_another &= !framing.closes;
        let ends = content.is_done() && !framing.is_interim;
        if !framing.is_interim {
            slot.put = Put::Content(content);
        }
        self.writes();
        write_block(stream, ends, &block, &mut self.out);
        self.encoding = block;
        if ends {
            self.has_put(number);
        }
        Ok(())
    }

    /// This side's encoder never fills its table, so that any size will do; one that shrinks must be acknowledged (RFC 7541 §4.2).
    pub(in crate::http2) fn begin_block(&mut self, block: &mut Vec<u8>) {
        if std::mem::take(&mut self.must_tell_table) {
            block.push(encoder::NO_TABLE);
        }
    }

    fn put_content(
        &mut self,
        number: u32,
        mut content: Content,
        input: &[u8],
    ) -> Result<Step, Unfit> {
        let is_data = matches!(
            content,
            Content::Fixed(_) | Content::ChunkData(_) | Content::UntilClose
        );
        if !is_data {
            return self.put_framing(number, content, input);
        }
        let allowed = self.allowance(number);
        if allowed == 0 {
            return Ok(Step::Blocked);
        }
        let part = input.get(..input.len().min(allowed)).unwrap_or_default();
        let Ok(Piece::Data(count)) = content.next(part) else {
            return Err(Unfit);
        };
        let data = part.get(..count).unwrap_or_default();
        // What follows may say that this was the last of it, which then needs no frame of its own.
        let rest = input.get(count..).unwrap_or_default();
        let (after, framing) = match content {
            Content::ChunkEnd => last_chunk(content, rest),
            _ => (content, 0),
        };
        let ends = after.is_done();
        let Some(slot) = self.slot(number) else {
            return Err(Unfit);
        };
        let stream = slot.stream;
        slot.put = Put::Content(after);
        let sent = i64::try_from(count).unwrap_or(i64::MAX);
        slot.send_window -= sent;
        self.send_window -= sent;
        self.writes();
        let flags = if ends { END_STREAM } else { 0 };
        frame::write(Kind::Data, flags, stream, data, &mut self.out);
        if ends {
            self.has_put(number);
        }
        Ok(Step::Took(count + framing))
    }

    /// How many bytes of content may go out now. 0: the stream is woken when that changes.
    fn allowance(&mut self, number: u32) -> usize {
        let window = self.send_window;
        let Some(slot) = self.slot(number) else {
            return 0;
        };
        let allowed = slot.send_window.min(window).max(0);
        let is_starved = slot.send_window > 0 && window <= 0;
        if is_starved && !std::mem::replace(&mut slot.is_waiting, true) {
            self.starved.push_back(number);
        }
        usize::try_from(allowed).unwrap_or(0).min(MOST_PAYLOAD)
    }

    /// Sizes of chunks and trailers: none of them goes out as it is. What is here in part waits for its end.
    fn put_framing(
        &mut self,
        number: u32,
        mut content: Content,
        input: &[u8],
    ) -> Result<Step, Unfit> {
        let Some(slot) = self.slot(number) else {
            return Err(Unfit);
        };
        // Each of them ends with a line.
        let length = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        let mut partial = std::mem::take(&mut slot.partial);
        let line = input.get(..length).unwrap_or_default();
        let piece = if partial.is_empty() {
            content.next(line)
        } else {
            partial.extend_from_slice(line);
            content.next(&partial)
        };
        let trailers = match piece {
            Ok(Piece::Framing(_)) => {
                partial.clear();
                None
            }
            Ok(Piece::Trailers(_)) if partial.is_empty() => Some(Vec::new()),
            Ok(Piece::Trailers(_)) => Some(std::mem::take(&mut partial)),
            Ok(Piece::More) => {
                if partial.is_empty() {
                    partial.extend_from_slice(line);
                }
                None
            }
            Ok(Piece::Data(_)) | Err(_) => return Err(Unfit),
        };
        slot.partial = partial;
        slot.put = Put::Content(content);
        if let Some(section) = trailers {
            self.put_trailers(number, &section)?;
        }
        Ok(Step::Took(length))
    }

    fn put_trailers(&mut self, number: u32, section: &[u8]) -> Result<(), Unfit> {
        let Some(stream) = self.slot(number).map(|slot| slot.stream) else {
            return Err(Unfit);
        };
        let mut block = buffers::take();
        let has_some = section.len() > b"\r\n".len();
        if has_some {
            self.begin_block(&mut block);
            for line in section.split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\r\n").unwrap_or(line);
                if !line.is_empty() {
                    let (name, value) = strict::read_header(line).map_err(|_| Unfit)?;
                    lower_field(name, value, &mut block);
                }
            }
        }
        self.writes();
        match has_some {
            true => write_block(stream, true, &block, &mut self.out),
            false => frame::write(Kind::Data, END_STREAM, stream, b"", &mut self.out),
        }
        buffers::give_back(block);
        self.has_put(number);
        Ok(())
    }
}

/// Whether a chunk's end is followed by the last chunk, without trailers; then how many bytes that takes.
fn last_chunk(content: Content, rest: &[u8]) -> (Content, usize) {
    match rest.starts_with(LAST_CHUNK) {
        true => (Content::Done, LAST_CHUNK.len()),
        false => (content, 0),
    }
}

const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
