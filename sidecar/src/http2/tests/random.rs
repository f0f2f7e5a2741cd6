//! Many streams at a time, in pieces of any size, some of them reset: no slot ever shows one stream's bytes to another one's.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::http1::Content;
use crate::http1::content::Piece;
use crate::http1::head::RequestHead;

/// Numbers that look random, the same for each seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % most
    }
}

/// A client with some streams open; the content of each is its number over and over.
#[derive(Default)]
struct Client {
    next: u32,
    open: Vec<u32>,
    sent: HashMap<u32, usize>,
    whole: Vec<u32>,
}

impl Client {
    fn step(&mut self, dice: &mut Dice) -> Vec<u8> {
        if self.open.is_empty() || dice.below(4) == 0 && self.open.len() < 20 {
            let stream = 2 * self.next + 1;
            self.next += 1;
            self.sent.insert(stream, 0);
            let path = format!("/{stream}");
            if dice.below(3) == 0 {
                self.whole.push(stream);
                return get(stream, &path);
            }
            self.open.push(stream);
            return post(stream, &path);
        }
        let at = dice.below(self.open.len());
        let stream = self.open[at];
        match dice.below(8) {
            0 => {
                self.open.swap_remove(at);
                reset(stream)
            }
            1 | 2 => {
                self.open.swap_remove(at);
                self.whole.push(stream);
                match dice.below(2) {
                    0 => data(stream, true, b""),
                    _ => headers(stream, true, &[("x", "y")]),
                }
            }
            _ => {
                let content = content_of(stream, dice.below(300));
                *self.sent.entry(stream).or_default() += content.len();
                data(stream, false, &content)
            }
        }
    }
}

fn content_of(stream: u32, length: usize) -> Vec<u8> {
    vec![mark_of(stream); length]
}

fn mark_of(stream: u32) -> u8 {
    u8::try_from(stream % 251).unwrap_or(0)
}

/// What one slot's holder has of the request it reads.
#[derive(Default)]
struct Reader {
    text: Vec<u8>,
    /// Its stream, how its content goes on, how much of it there was, and whether it is answered.
    request: Option<(u32, Content, usize)>,
    is_gone: bool,
}

impl Reader {
    /// Reads what there is; the stream of a request that is whole, and how long it was.
    fn advance(&mut self) -> Option<(u32, usize)> {
        if self.request.is_none() {
            let end = memchr::memmem::find(&self.text, b"\r\n\r\n")? + 4;
            let mut head = RequestHead::default();
            head.read(&self.text[..end]).expect("a head");
            let path = head.path(&self.text[..end])[1..].to_owned();
            self.request = Some((
                path.parse().expect("a number"),
                Content::from(head.content),
                0,
            ));
            self.text.drain(..end);
        }
        let (stream, content, length) = self.request.as_mut()?;
        while !content.is_done() {
            match content.next(&self.text).expect("content") {
                Piece::Data(count) => {
                    assert!(
                        self.text[..count]
                            .iter()
                            .all(|byte| *byte == mark_of(*stream))
                    );
                    *length += count;
                    self.text.drain(..count);
                }
                Piece::Framing(count) | Piece::Trailers(count) => {
                    self.text.drain(..count);
                }
                Piece::More => return None,
            }
        }
        assert!(self.text.is_empty(), "nothing follows before the answer");
        let whole = (*stream, *length);
        self.request = None;
        Some(whole)
    }
}

struct Server {
    wire: Wire,
    readers: HashMap<u32, Reader>,
    served: Vec<(u32, usize)>,
}

impl Server {
    fn turn(&mut self, dice: &mut Dice) {
        while let Some(slot) = self.wire.accepted() {
            let known = self.readers.insert(slot, Reader::default());
            assert!(known.is_none(), "a slot is given out while it is held");
        }
        let slots: Vec<u32> = self.readers.keys().copied().collect();
        for slot in slots {
            if dice.below(3) > 0 {
                self.serve(slot, dice);
            }
        }
    }

    fn serve(&mut self, slot: u32, dice: &mut Dice) {
        let reader = self.readers.get_mut(&slot).expect("a reader");
        let mut part = Vec::new();
        let most = 1 + dice.below(200);
        match self
            .wire
            .state
            .poll_read(slot, &mut nobody(), &mut part, most)
        {
            Poll::Ready(Ok(true)) => reader.text.extend(part),
            Poll::Ready(_) => reader.is_gone = true,
            Poll::Pending => {}
        }
        if let Some((stream, length)) = reader.advance() {
            self.served.push((stream, length));
            let body = format!("/{stream}");
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            self.wire.writes(slot, answer.as_bytes());
        }
        // Some of them go away when they like.
        if reader.is_gone || dice.below(40) == 0 {
            self.wire.state.detach(slot);
            self.readers.remove(&slot);
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed | 1);
    let mut client = Client::default();
    let mut server = Server {
        wire: Wire::server(),
        readers: HashMap::new(),
        served: Vec::new(),
    };
    let mut line = Vec::new();
    let mut answers: HashMap<u32, Vec<u8>> = HashMap::new();
    for _ in 0..400 {
        line.extend(client.step(&mut dice));
        let arrived = dice.below(line.len() + 1);
        let taken = server
            .wire
            .state
            .receive(&line[..arrived])
            .expect("no fault");
        line.drain(..taken);
        server.turn(&mut dice);
        for (header, payload) in server.wire.sent() {
            if header.kind == Kind::Data {
                answers.entry(header.stream).or_default().extend(payload);
            }
        }
    }
    for (stream, length) in &server.served {
        assert!(client.whole.contains(stream), "{stream} was not whole");
        assert_eq!(client.sent[stream], *length, "of {stream}");
    }
    let count = server.served.len();
    server.served.sort_unstable();
    server.served.dedup_by_key(|(stream, _)| *stream);
    assert_eq!(server.served.len(), count, "each is served once");
    for (stream, answer) in answers {
        assert_eq!(answer, format!("/{stream}").as_bytes());
    }
    let slots: Vec<u32> = server.readers.keys().copied().collect();
    for slot in slots {
        server.wire.state.detach(slot);
    }
    while let Some(slot) = server.wire.accepted() {
        server.wire.state.detach(slot);
    }
    assert_eq!(
        (server.wire.state.held(), server.wire.state.open_streams()),
        (0, 0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_request_ever_has_bytes_of_another_one(seed in any::<u64>()) {
        run(seed);
    }
}
