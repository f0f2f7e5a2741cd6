//! One slot: the place of one stream after the other, each of which is one message each way.

use std::io::Write as _;
use std::task::{Context, Waker};

use super::super::reading::Feed;
use crate::buffers;
use crate::http1::Content;
use crate::mux::credit::Credit;

pub(in crate::http2) struct Slot {
    /// The stream that it serves; 0: it waits for one.
    pub(in crate::http2) stream: u32,
    /// In HTTP/1.1, not read yet.
    received: Vec<u8>,
    read: usize,
    /// Of what waits, so much is content that the peer had credit for.
    content: usize,
    /// Where the last chunk begins, if nothing stands behind it.
    chunk: Option<usize>,
    pub(in crate::http2) feed: Feed,
    pub(in crate::http2) credit: Credit,
    pub(in crate::http2) peer: Peer,
    pub(in crate::http2) put: Put,
    /// Of a message in HTTP/1.1, a part that says nothing without its end.
    pub(in crate::http2) partial: Vec<u8>,
    pub(in crate::http2) send_window: i64,
    /// The request asks for a head alone.
    pub(in crate::http2) is_head: bool,
    /// Nobody has read anything of the stream.
    pub(in crate::http2) is_unseen: bool,
    /// Somebody holds the stream.
    pub(in crate::http2) is_held: bool,
    /// Nothing more is to come over it, whatever waits.
    pub(in crate::http2) is_over: bool,
    /// Whoever holds it did not say that this message is the last one.
    pub(in crate::http2) takes_another: bool,
    pub(in crate::http2) reader: Option<Waker>,
    pub(in crate::http2) writer: Option<Waker>,
    pub(in crate::http2) is_waiting: bool,
}

/// How far the peer's message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http2) enum Peer {
    /// Its head has not come.
    Head,
    Content,
    Ended,
    Reset,
}

/// How far this side's message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http2) enum Put {
    Head,
    Content(Content),
    Ended,
}

impl Slot {
    pub(in crate::http2) fn new() -> Self {
        Self {
            stream: 0,
            received: Vec::new(),
            read: 0,
            content: 0,
            chunk: None,
            feed: Feed::Nothing,
            credit: Credit::default(),
            peer: Peer::Head,
            put: Put::Head,
            partial: Vec::new(),
            send_window: 0,
            is_head: false,
            is_unseen: false,
            is_held: true,
            is_over: false,
            takes_another: true,
            reader: None,
            writer: None,
            is_waiting: false,
        }
    }

    /// The slot serves this stream from now on.
    pub(in crate::http2) fn begin(&mut self, stream: u32, send_window: i64) {
        self.stream = stream;
        self.chunk = None;
        self.feed = Feed::Nothing;
        self.peer = Peer::Head;
        self.put = Put::Head;
        self.send_window = send_window;
        self.is_head = false;
        self.is_unseen = true;
    }

    /// Where what comes from the peer is written to.
    pub(in crate::http2) fn text(&mut self) -> &mut Vec<u8> {
        if self.received.capacity() == 0 {
            self.received = buffers::take();
        }
        &mut self.received
    }

    /// Writes content as a chunk, or behind that of a small one that nobody has read: however small the peer's frames are, what they
    /// become is not much more than the content that their window lets in.
    pub(in crate::http2) fn chunk(&mut self, content: &[u8]) {
        let read = self.read;
        let last = self.chunk.filter(|at| *at >= read);
        let text = self.text();
        let small = last.and_then(|at| {
            let length = text.len().checked_sub(at + CHUNK_FRAMING)?;
            (length < SMALL_CHUNK).then_some((at, length))
        });
        let (at, length) = match small {
            Some((at, length)) => {
                text.truncate(text.len() - b"\r\n".len());
                (at, length)
            }
            None => {
                let at = text.len();
                text.extend_from_slice(b"0000\r\n");
                (at, 0)
            }
        };
        if let Some(mut digits) = text.get_mut(at..at + CHUNK_DIGITS) {
            // Two payloads have no more digits.
            let _ = write!(digits, "{:04x}", length + content.len());
        }
        text.extend_from_slice(content);
        text.extend_from_slice(b"\r\n");
        self.chunk = Some(at);
    }

    /// So many bytes of content were written there.
    pub(in crate::http2) fn holds_content(&mut self, count: usize) {
        self.content += count;
    }

    pub(in crate::http2) fn waiting(&self) -> usize {
        self.received.len() - self.read
    }

    /// Moves what waits; gives how much of it was content.
    pub(in crate::http2) fn move_to(&mut self, into: &mut Vec<u8>, most: usize) -> usize {
        let waiting = self.waiting();
        self.is_unseen = false;
        if self.read == 0 && into.is_empty() && waiting <= most {
            buffers::give_back(std::mem::replace(into, std::mem::take(&mut self.received)));
            self.chunk = None;
            return std::mem::take(&mut self.content);
        }
        let count = waiting.min(most);
        let part = self.received.get(self.read..self.read + count);
        into.extend_from_slice(part.unwrap_or_default());
        self.read += count;
        if self.read == self.received.len() {
            let content = self.content;
            self.throw_away();
            return content;
        }
        // Frames of chunks count as content here, never the other way round: all of it is given back at the latest with the last byte.
        let content = self.content.min(count);
        self.content -= content;
        content
    }

    /// Forgets what waits.
    pub(in crate::http2) fn throw_away(&mut self) {
        buffers::give_back(std::mem::take(&mut self.received));
        (self.read, self.content, self.chunk) = (0, 0, None);
    }

    /// Both messages are whole, or one of the sides ended the stream.
    pub(in crate::http2) fn is_done(&self) -> bool {
        self.put == Put::Ended && self.peer == Peer::Ended
    }
}

pub(in crate::http2) fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

pub(in crate::http2) fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}

/// The size of a chunk is written with so many digits, so that it can grow where it stands.
const CHUNK_DIGITS: usize = 4;
/// Those, and two ends of lines.
const CHUNK_FRAMING: usize = CHUNK_DIGITS + 4;
/// A chunk that is shorter takes more.
const SMALL_CHUNK: usize = 1024;
