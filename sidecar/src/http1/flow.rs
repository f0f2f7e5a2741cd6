//! One direction of an exchange: a head that was made for the next hop, then content as it comes, until the message's end.
//!
//! Bytes are written from the buffer they were read into. What is read waits until the other side took what was read before.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use super::content::{Content, Piece, clean_trailers};
use super::side::{MOST_READ, Side};
use crate::buffers;
use crate::http::strict::Malformed;
use crate::stream::Stream;

/// How content is framed for the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    AsItCame,
    /// It ends with its connection here; the next hop gets chunks, so that a part is not taken for the whole.
    IntoChunks,
    /// The next hop reads no chunks (HTTP/1.0).
    OutOfChunks,
}

pub struct Flow {
    /// Leaves before what is in the source's buffer.
    lead: Vec<u8>,
    led: usize,
    /// So many unused bytes of the source may pass.
    passable: usize,
    /// Leaves after them.
    tail: &'static [u8],
    content: Content,
    framed: Framed,
    is_flushed: bool,
    /// Bytes that have left.
    moved: u64,
}

/// Why a direction ended before its message did.
#[derive(Debug)]
pub enum Broken {
    /// The source failed, or ended early.
    Source,
    Sink,
    Malformed(Malformed),
}

impl Flow {
    /// `head` leaves first.
    pub fn new(head: Vec<u8>, content: Content, framed: Framed) -> Self {
        Self {
            lead: head,
            led: 0,
            passable: 0,
            tail: b"",
            content,
            framed,
            is_flushed: false,
            moved: 0,
        }
    }

    /// Whether any byte has left.
    pub fn has_begun(&self) -> bool {
        self.moved > 0
    }

    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The whole message was read from its source.
    pub fn is_read(&self) -> bool {
        self.content.is_done()
    }

    /// The whole message was given to its sink.
    pub fn is_done(&self) -> bool {
        self.content.is_done() && !self.has_something()
    }

    /// Writes what there is without a source.
    pub fn poll_lead(
        &mut self,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while let Some(lead) = self.lead.get(self.led..).filter(|lead| !lead.is_empty()) {
            self.led +=
                ready!(Pin::new(&mut *sink).poll_write(cx, lead)).map_err(|_| Broken::Sink)?;
        }
        self.poll_flush(sink, cx)
    }

    /// Moves what there is. `Ready(Ok)`: the whole message has left.
    pub fn poll(
        &mut self,
        source: &mut Side,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            self.examine(source).map_err(Broken::Malformed)?;
            if self.has_something() {
                ready!(self.poll_write(source, sink, cx)).map_err(|_| Broken::Sink)?;
                continue;
            }
            if self.content.is_done() {
                return self.poll_flush(sink, cx);
            }
            match source.poll_more(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) if self.content == Content::UntilClose => {
                    self.end_with_connection()
                }
                Poll::Ready(_) => return Poll::Ready(Err(Broken::Source)),
                Poll::Pending => {
                    ready!(self.poll_flush(sink, cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn has_something(&self) -> bool {
        self.led < self.lead.len() || self.passable > 0 || !self.tail.is_empty()
    }

    /// Looks at what waits in the source until some of it may pass.
    fn examine(&mut self, source: &mut Side) -> Result<(), Malformed> {
        while !self.content.is_done() && self.passable < MOST_READ && self.tail.is_empty() {
            let waiting = source.unused().get(self.passable..).unwrap_or_default();
            match (self.content.next(waiting)?, self.framed) {
                (Piece::More, _) => return Ok(()),
                (Piece::Data(count), Framed::AsItCame | Framed::OutOfChunks) => {
                    self.passable += count
                }
                (Piece::Data(count), Framed::IntoChunks) => {
                    self.passable = count;
                    // A vector takes every write.
                    let _ = write!(self.lead, "{count:x}\r\n");
                    self.tail = b"\r\n";
                }
                (Piece::Framing(count), Framed::AsItCame) => self.passable += count,
                (Piece::Trailers(count), Framed::AsItCame) => {
                    return self.pass_trailers(source, count);
                }
                (
                    Piece::Framing(count) | Piece::Trailers(count),
                    Framed::OutOfChunks | Framed::IntoChunks,
                ) => {
                    self.skip(source, count);
                }
            }
        }
        Ok(())
    }

    fn pass_trailers(&mut self, source: &mut Side, count: usize) -> Result<(), Malformed> {
        let section = source.unused().get(self.passable..self.passable + count);
        match clean_trailers(section.unwrap_or_default()) {
            None => self.passable += count,
            Some(clean) => {
                self.skip(source, count);
                self.move_to_lead(source);
                self.lead.extend_from_slice(&clean);
            }
        }
        Ok(())
    }

    /// Leaves out so many bytes behind those that may pass.
    fn skip(&mut self, source: &mut Side, count: usize) {
        self.move_to_lead(source);
        source.consume(count);
    }

    fn move_to_lead(&mut self, source: &mut Side) {
        let passing = source.unused().get(..self.passable).unwrap_or_default();
        self.lead.extend_from_slice(passing);
        source.consume(std::mem::take(&mut self.passable));
    }

    fn end_with_connection(&mut self) {
        self.content = Content::Done;
        if self.framed == Framed::IntoChunks {
            self.lead.extend_from_slice(b"0\r\n\r\n");
        }
    }

    fn poll_write(
        &mut self,
        source: &mut Side,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.passable + self.tail.len() <= SMALL && self.led == 0 && !self.lead.is_empty() {
            // One piece is cheaper to write than three, by more than the copy costs.
            self.move_to_lead(source);
            self.lead.extend_from_slice(std::mem::take(&mut self.tail));
        }
        let lead = self.lead.get(self.led..).unwrap_or_default();
        let passing = source.unused().get(..self.passable).unwrap_or_default();
        let parts = [
            IoSlice::new(lead),
            IoSlice::new(passing),
            IoSlice::new(self.tail),
        ];
        let of_lead = lead.len();
        let written = match (lead.is_empty(), passing.is_empty() && self.tail.is_empty()) {
            (false, true) => Pin::new(sink).poll_write(cx, lead),
            (true, false) if self.tail.is_empty() => match sink {
                Stream::Mux(sink) => source.poll_pass(cx, self.passable, sink),
                sink => Pin::new(sink).poll_write(cx, passing),
            },
            (_, _) => Pin::new(sink).poll_write_vectored(cx, &parts),
        };
        let mut count = ready!(written)?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.moved += u64::try_from(count).unwrap_or(0);
        self.is_flushed = false;
        let of_lead = count.min(of_lead);
        count -= of_lead;
        self.led += of_lead;
        if self.led == self.lead.len() {
            self.lead.clear();
            self.led = 0;
        }
        let of_source = count.min(self.passable);
        self.passable -= of_source;
        source.consume(of_source);
        self.tail = self.tail.get(count - of_source..).unwrap_or_default();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, sink: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.is_flushed {
            ready!(Pin::new(sink).poll_flush(cx)).map_err(|_| Broken::Sink)?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.lead));
    }
}

/// What is copied to leave with the head in one piece.
const SMALL: usize = 4 * 1024;
