//! The frames of HTTP/2, as a server and as a client receive them, and what they become in HTTP/1.1.

use std::task::{Context, Poll, Waker};

use weft_sidecar::http::strict;
use weft_sidecar::http1::content::{Content, Piece};
use weft_sidecar::http1::head::Declared;
use weft_sidecar::http1::{RequestHead, ResponseHead};
use weft_sidecar::http2::frame::{Code, HEADER, Header, Kind, PADDED, PREFACE, PRIORITY};
use weft_sidecar::http2::hpack::Decoder;
use weft_sidecar::http2::state::{Limits, Role, State};

const LIMITS: Limits = Limits {
    streams: 16,
    head_bytes: 4096,
    has_trailers: false,
};
/// A head, a window of content in chunks, and trailers.
const MOST_TEXT: usize = 100 * 1024;
const MOST_OUT: usize = 600 * 1024;
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// What a client has asked before anything comes.
const ASKED: [&[u8]; 3] = [
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
];

/// The first byte says how the rest is cut into pieces and whose end it is. What is made of the bytes must not depend on the pieces; what a
/// slot yields is one message at most, which says what the fields said.
pub(super) fn http2(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    let role = match cut % 2 {
        0 => Role::Server,
        _ => Role::Client,
    };
    let whole = receive(role, stream, stream.len().max(1));
    let in_pieces = receive(role, stream, usize::from(*cut) / 8 + 1);
    // How much is too much depends on the time, too.
    if whole.fault != Some(Code::Calm) {
        assert_eq!(whole, in_pieces, "in pieces and at once");
    }
    match role {
        Role::Server => {
            let mut asked = asked(stream).into_iter();
            for text in &whole.texts {
                assert_is_a_request(text, &mut asked);
            }
            serve(stream, usize::from(*cut) / 8 + 1);
        }
        Role::Client => {
            for (text, asked) in whole.texts.iter().zip(ASKED) {
                assert_are_answers(text, asked.starts_with(b"HEAD"));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Received {
    texts: Vec<Vec<u8>>,
    ended: Vec<bool>,
    fault: Option<Code>,
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn begin(role: Role) -> State {
    let mut state = State::new(role, LIMITS);
    let opening = match role {
        Role::Server => [PREFACE, SETTINGS].concat(),
        Role::Client => SETTINGS.to_vec(),
    };
    let taken = state.receive(&opening);
    assert_eq!(taken, Ok(opening.len()));
    state
}

/// Nobody reads or answers until everything has come.
fn receive(role: Role, stream: &[u8], piece: usize) -> Received {
    let mut state = begin(role);
    let mut slots = Vec::new();
    if role == Role::Client {
        for asked in ASKED {
            let slot = state.open().expect("a slot");
            let written = state.poll_write(slot, &mut nobody(), &[asked]);
            assert_eq!(written, Poll::Ready(Ok(asked.len())));
            slots.push(slot);
        }
    }
    let fault = arrive(&mut state, stream, piece, &mut |_| {});
    assert!(state.take_out().len() <= MOST_OUT, "more and more waits");
    while let Poll::Ready(Some(slot)) = state.poll_opened(&mut nobody()) {
        slots.push(slot);
    }
    assert!(slots.len() <= 2 * 16 + 3);
    let (mut texts, mut ended) = (Vec::new(), Vec::new());
    for slot in slots {
        let mut text = Vec::new();
        let read = loop {
            let mut part = Vec::new();
            match state.poll_read(slot, &mut nobody(), &mut part, 1 << 20) {
                Poll::Ready(Ok(true)) => text.extend(part),
                read => break read,
            }
        };
        assert!(text.len() <= MOST_TEXT, "{} bytes wait", text.len());
        ended.push(read.is_ready());
        texts.push(text);
        state.detach(slot);
    }
    assert_eq!((state.held(), state.open_streams()), (0, 0));
    Received {
        texts,
        ended,
        fault,
    }
}

/// What is left of a piece waits for the next one.
fn arrive(
    state: &mut State,
    stream: &[u8],
    piece: usize,
    between: &mut dyn FnMut(&mut State),
) -> Option<Code> {
    let mut waiting = Vec::new();
    for piece in stream.chunks(piece) {
        waiting.extend_from_slice(piece);
        match state.receive(&waiting) {
            Ok(taken) => drop(waiting.drain(..taken)),
            Err(fault) => return Some(fault.code),
        }
        between(state);
    }
    None
}

/// Each request is answered as soon as it is whole, so that its slot serves the next one.
fn serve(stream: &[u8], piece: usize) {
    let mut state = begin(Role::Server);
    let mut readers: Vec<(u32, Vec<u8>)> = Vec::new();
    arrive(&mut state, stream, piece, &mut |state| {
        while let Poll::Ready(Some(slot)) = state.poll_opened(&mut nobody()) {
            assert!(readers.iter().all(|(known, _)| *known != slot));
            readers.push((slot, Vec::new()));
        }
        readers.retain_mut(|(slot, text)| {
            let stays = answer(state, *slot, text);
            if !stays {
                state.detach(*slot);
            }
            stays
        });
        state.take_out();
    });
    for (slot, _) in readers {
        state.detach(slot);
    }
    while let Poll::Ready(Some(slot)) = state.poll_opened(&mut nobody()) {
        state.detach(slot);
    }
    assert_eq!((state.held(), state.open_streams()), (0, 0));
}

/// Whether its holder goes on.
fn answer(state: &mut State, slot: u32, text: &mut Vec<u8>) -> bool {
    let mut part = Vec::new();
    match state.poll_read(slot, &mut nobody(), &mut part, 99) {
        Poll::Ready(Ok(true)) => text.extend(part),
        Poll::Ready(_) => return false,
        Poll::Pending => {}
    }
    match request(text) {
        Request::Part => true,
        Request::Refused => false,
        Request::Whole(length) => {
            assert_eq!(length, text.len(), "something follows before the answer");
            text.clear();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            !matches!(
                state.poll_write(slot, &mut nobody(), &[answer]),
                Poll::Ready(Err(_))
            )
        }
    }
}

enum Request {
    /// It may become one.
    Part,
    /// The judge refuses it.
    Refused,
    /// With how long it is.
    Whole(usize),
}

fn request(text: &[u8]) -> Request {
    let end = strict::section_end(text, &mut 0).expect("lines end as they must");
    let Some(end) = end else { return Request::Part };
    let mut head = RequestHead::default();
    if head.read(&text[..end]).is_err() {
        return Request::Refused;
    }
    match length_of(Content::from(head.content), &text[end..]) {
        Some(length) => Request::Whole(end + length),
        None => Request::Part,
    }
}

/// How long the content is. None: its end is missing.
fn length_of(mut content: Content, text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while !content.is_done() {
        match content.next(&text[at..]).expect("content is well framed") {
            Piece::Data(count) | Piece::Framing(count) | Piece::Trailers(count) => at += count,
            Piece::More => return None,
        }
    }
    Some(at)
}

/// The text is one request, or a part of one, and says what the next fields that fit did.
fn assert_is_a_request(text: &[u8], asked: &mut impl Iterator<Item = Asked>) {
    if text.is_empty() {
        return;
    }
    let end = strict::section_end(text, &mut 0).expect("lines end as they must");
    let end = end.expect("a head is written whole");
    if let Request::Whole(length) = request(text) {
        assert_eq!(length, text.len(), "{}", text.escape_ascii());
    }
    let bytes = &text[..end];
    let mut head = RequestHead::default();
    if head.read(bytes).is_err() {
        return;
    }
    let found = asked.any(|asked| {
        let path = asked.path.split(|byte| *byte == b'?').next();
        asked.method == head.method(bytes).as_bytes()
            && (head.is_connect(bytes) || path == Some(head.path(bytes).as_bytes()))
            && head.authority(bytes).map(str::as_bytes) == Some(&asked.authority)
    });
    assert!(found, "nobody asked {}", bytes.escape_ascii());
}

fn assert_are_answers(mut text: &[u8], is_head: bool) {
    while !text.is_empty() {
        let end = strict::section_end(text, &mut 0).expect("lines end as they must");
        let end = end.expect("a head is written whole");
        let mut head = ResponseHead::default();
        let (bytes, rest) = text.split_at(end);
        if head.read(bytes).is_err() {
            return;
        }
        text = rest;
        if (100..200).contains(&head.status) {
            continue;
        }
        let content = match head.content {
            _ if is_head || matches!(head.status, 204 | 304) => Content::Done,
            Declared::Length(0) => Content::Done,
            Declared::Length(length) => Content::Fixed(length),
            Declared::Chunked => Content::ChunkSize,
            Declared::Nothing => panic!("it ends with its connection"),
        };
        if let Some(length) = length_of(content, text) {
            assert_eq!(length, text.len(), "something follows");
        }
        return;
    }
}

/// What a header block says, as another reader reads it.
struct Asked {
    method: Vec<u8>,
    path: Vec<u8>,
    authority: Vec<u8>,
}

fn asked(mut stream: &[u8]) -> Vec<Asked> {
    let (mut decoder, mut block, mut all) = (Decoder::new(4096), Vec::new(), Vec::new());
    while let Some(header) = Header::read(stream) {
        let Some(frame) = stream.get(HEADER..HEADER + header.length) else {
            break;
        };
        stream = &stream[HEADER + header.length..];
        match header.kind {
            Kind::Headers => block = unpadded(header, frame).to_vec(),
            Kind::Continuation => block.extend_from_slice(frame),
            _ => continue,
        }
        if header.has(weft_sidecar::http2::frame::END_HEADERS) {
            let mut asked = Asked {
                method: Vec::new(),
                path: Vec::new(),
                authority: Vec::new(),
            };
            let mut host = Vec::new();
            let decoded = decoder.decode(&block, 4096, &mut |name, value| match name {
                b":method" => asked.method = value.to_vec(),
                b":path" => asked.path = value.to_vec(),
                b":authority" => asked.authority = value.to_vec(),
                b"host" => host = value.to_vec(),
                _ => {}
            });
            if decoded.is_err() {
                break;
            }
            if !host.is_empty() {
                asked.authority = host;
            }
            all.push(asked);
        }
    }
    all
}

fn unpadded(header: Header, mut payload: &[u8]) -> &[u8] {
    if header.has(PADDED) {
        let Some((padding, rest)) = payload.split_first() else {
            return &[];
        };
        let length = rest.len().saturating_sub(usize::from(*padding));
        payload = &rest[..length];
    }
    if header.has(PRIORITY) {
        payload = payload.get(5..).unwrap_or_default();
    }
    payload
}
