//! Both ends of a connection: frames that a peer should not send, floods, and messages both ways, alone and against the `h2` crate.

mod faults;
mod fields;
mod floods;
mod goodbye;
mod messages;
mod peers;
mod random;
mod timers;
mod windows;

use std::task::{Context, Poll, Waker};

use super::frame::{self, Code, END_HEADERS, END_STREAM, HEADER, Header, Kind, PREFACE};
use super::hpack::encoder;
use super::state::{Gone, Limits, Role, State};

const LIMITS: Limits = Limits {
    streams: 100,
    head_bytes: 16 * 1024,
    has_trailers: false,
};

/// A side without a socket, as its peer sees it.
struct Wire {
    state: State,
}

impl Wire {
    fn server() -> Self {
        Self::with(Role::Server, LIMITS)
    }

    fn client() -> Self {
        Self::with(Role::Client, LIMITS)
    }

    /// The peer's settings have come.
    fn with(role: Role, limits: Limits) -> Self {
        let mut wire = Self {
            state: State::new(role, limits),
        };
        if role == Role::Server {
            wire.takes(PREFACE);
        }
        wire.takes(&of(Kind::Settings, 0, 0, b""));
        wire.sent();
        wire
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), frame::Fault> {
        let taken = self.state.receive(bytes)?;
        assert_eq!(taken, bytes.len(), "whole frames are taken");
        Ok(())
    }

    fn takes(&mut self, bytes: &[u8]) {
        self.receive(bytes).expect("no fault");
    }

    /// What the peer gets.
    fn sent(&mut self) -> Vec<(Header, Vec<u8>)> {
        let out = self.state.take_out();
        let mut rest = out.strip_prefix(PREFACE).unwrap_or(&out);
        let mut frames = Vec::new();
        while let Some(header) = Header::read(rest) {
            let (whole, after) = rest.split_at(HEADER + header.length);
            frames.push((header, whole[HEADER..].to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
        frames
    }

    /// The kinds of what the peer gets, and the codes of resets.
    fn kinds(&mut self) -> Vec<Said> {
        let said = |(header, payload): (Header, Vec<u8>)| match header.kind {
            Kind::Reset => Said::Reset(header.stream, frame::number(&payload).expect("a code")),
            kind => Said::Frame(header.stream, kind, header.has(END_STREAM)),
        };
        self.sent().into_iter().map(said).collect()
    }

    fn accepted(&mut self) -> Option<u32> {
        match self.state.poll_opened(&mut nobody()) {
            Poll::Ready(slot) => slot,
            Poll::Pending => None,
        }
    }

    /// What waits on a slot, and whether more may come.
    fn read(&mut self, slot: u32) -> (String, Result<bool, Gone>) {
        let mut text = Vec::new();
        loop {
            let mut part = Vec::new();
            match self
                .state
                .poll_read(slot, &mut nobody(), &mut part, 1 << 20)
            {
                Poll::Ready(Ok(true)) => text.extend(part),
                Poll::Ready(end) => return (String::from_utf8(text).expect("text"), end),
                Poll::Pending => return (String::from_utf8(text).expect("text"), Ok(true)),
            }
        }
    }

    fn text(&mut self, slot: u32) -> String {
        let (text, end) = self.read(slot);
        assert_eq!(end, Ok(true), "{text:?}");
        text
    }

    /// The same, of a slot over which nothing more comes.
    fn text_and_end(&mut self, slot: u32) -> String {
        let (text, end) = self.read(slot);
        assert_eq!(end, Ok(false), "{text:?}");
        text
    }

    /// How much of it is taken.
    fn write(&mut self, slot: u32, text: &[u8]) -> Poll<Result<usize, Gone>> {
        self.state.poll_write(slot, &mut nobody(), &[text])
    }

    #[track_caller]
    fn writes(&mut self, slot: u32, text: &[u8]) {
        assert_eq!(self.write(slot, text), Poll::Ready(Ok(text.len())));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Reset(u32, u32),
    Frame(u32, Kind, bool),
}

fn was_reset(stream: u32, code: Code) -> Said {
    Said::Reset(stream, code.number())
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn of(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, flags, stream, payload, &mut out);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        encoder::field(name.as_bytes(), value.as_bytes(), &mut out);
    }
    out
}

fn headers(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let end = if ends { END_STREAM } else { 0 };
    of(Kind::Headers, END_HEADERS | end, stream, &block(fields))
}

fn data(stream: u32, ends: bool, content: &[u8]) -> Vec<u8> {
    let end = if ends { END_STREAM } else { 0 };
    of(Kind::Data, end, stream, content)
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, true, &ask("GET", path))
}

fn post(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, false, &ask("POST", path))
}

fn ask<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
    ]
}

fn reset(stream: u32) -> Vec<u8> {
    of(Kind::Reset, 0, stream, &8_u32.to_be_bytes())
}

fn settings(settings: &[(frame::Setting, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(settings, &mut out);
    out
}

fn update(stream: u32, more: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::window_update(stream, more, &mut out);
    out
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const ASK: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
