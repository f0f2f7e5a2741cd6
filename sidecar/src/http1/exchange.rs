//! One request and its answer, both directions at once: the request's content goes up while the answer comes down.

use std::task::{Context, Poll, ready};

use super::content::Content;
use super::flow::{Broken, Flow, Framed};
use super::head::{Declared, RequestHead, ResponseHead, write_upgrade};
use super::side::Side;
use super::upgrade::Upgrade;
use crate::buffers;
use crate::connections::Registered;
use crate::enforce::Permit;
use crate::http::strict::{self, Malformed};

/// The longest head of a response.
const MOST_HEAD: usize = 64 * 1024;

pub struct Exchange<'c> {
    pub down: &'c mut Side,
    pub up: &'c mut Side,
    pub request: &'c RequestHead,
    pub is_head: bool,
    pub response: &'c mut ResponseHead,
    pub registered: &'c Registered,
    pub sending: Flow,
    pub answer: Answer,
    /// The client's connection ends with this answer.
    pub closes: bool,
    searched: usize,
}

/// How far the answer is.
pub enum Answer {
    /// Its head has not come.
    Awaited,
    /// An interim answer (RFC 9110 §15.2) leaves; the final one is awaited then.
    Interim(Flow),
    Passing(Flow),
    /// The head of a 101, or of a CONNECT that succeeded, leaves.
    Switching(Flow),
}

/// How an exchange ended.
#[derive(Debug)]
pub enum Ended {
    /// The whole answer has left. Both connections may be used again, as far as `down` and `up` say.
    Done { down: bool, up: bool },
    /// From now on the connection carries another protocol.
    Tunnel,
    /// Policy no longer allows it.
    Cut,
    /// The upstream ended before anything of an answer came.
    Lost,
    /// The upstream's answer cannot be passed on, and nothing of it has left.
    BadAnswer(&'static str),
    /// The client's message turned out to be malformed before anything of an answer has left.
    BadRequest(Malformed),
    /// One of the sides is gone in the midst of a message.
    Broken,
}

impl<'c> Exchange<'c> {
    /// The permitted request, whose `head` was made for the next hop.
    pub fn new(parts: Parts<'c>, head: Vec<u8>, _permit: &Permit) -> Self {
        let Parts {
            down,
            up,
            request,
            is_head,
            response,
            registered,
            closes,
        } = parts;
        Self {
            sending: Flow::new(head, Content::from(request.content), Framed::AsItCame),
            down,
            up,
            request,
            is_head,
            response,
            registered,
            answer: Answer::Awaited,
            closes,
            searched: 0,
        }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.registered.watch(cx);
        if self.registered.is_cut() {
            return Poll::Ready(Ended::Cut);
        }
        if let Poll::Ready(Some(ended)) = self.poll_sending(cx) {
            return Poll::Ready(ended);
        }
        loop {
            match &mut self.answer {
                Answer::Awaited => match ready!(self.poll_head(cx)) {
                    Ok(answer) => self.answer = answer,
                    Err(ended) => return Poll::Ready(ended),
                },
                Answer::Interim(flow) => {
                    match ready!(flow.poll(self.up, &mut self.down.stream, cx)) {
                        Ok(()) => self.answer = Answer::Awaited,
                        Err(_) => return Poll::Ready(Ended::Broken),
                    }
                }
                Answer::Passing(flow) => {
                    let passed = ready!(flow.poll(self.up, &mut self.down.stream, cx));
                    return Poll::Ready(match passed {
                        Ok(()) => self.done(),
                        Err(_) => Ended::Broken,
                    });
                }
                Answer::Switching(flow) => {
                    let passed = ready!(flow.poll(self.up, &mut self.down.stream, cx));
                    return Poll::Ready(passed.map_or(Ended::Broken, |()| Ended::Tunnel));
                }
            }
        }
    }

    /// Whether nothing of the final answer has left.
    fn is_unanswered(&self) -> bool {
        match &self.answer {
            Answer::Awaited | Answer::Interim(_) => true,
            Answer::Passing(flow) | Answer::Switching(flow) => !flow.has_begun(),
        }
    }

    /// Moves the request's content. `Ready(Some)`: the exchange is over.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let sent = self.sending.poll(self.down, &mut self.up.stream, cx);
        match ready!(sent) {
            Ok(()) => {}
            // It may have answered before it stopped reading.
            Err(Broken::Sink) => return Poll::Ready(None),
            Err(Broken::Malformed(why)) => {
                return Poll::Ready(Some(if self.is_unanswered() {
                    Ended::BadRequest(why)
                } else {
                    Ended::Broken
                }));
            }
            Err(Broken::Source) => return Poll::Ready(Some(Ended::Broken)),
        }
        // What comes now is the next request, or the client's end: nobody waits for the answer then.
        if self.down.unused().is_empty()
            && matches!(self.answer, Answer::Awaited | Answer::Passing(_))
        {
            return match ready!(self.down.poll_more(cx)) {
                Ok(true) => Poll::Ready(None),
                Ok(false) | Err(_) => Poll::Ready(Some(Ended::Broken)),
            };
        }
        Poll::Ready(None)
    }

    /// Reads the head of an answer and makes of it what the client gets.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Ended>> {
        let length = loop {
            let waiting = self.up.unused();
            match strict::section_end(waiting, &mut self.searched) {
                Ok(Some(length)) if length <= MOST_HEAD => break length,
                Ok(None) if waiting.len() < MOST_HEAD => {}
                Ok(_) | Err(_) => return Poll::Ready(Err(Ended::BadAnswer(UNREADABLE))),
            }
            match ready!(self.up.poll_more(cx)) {
                Ok(true) => {}
                Ok(false) | Err(_) if self.up.unused().is_empty() => {
                    return Poll::Ready(Err(Ended::Lost));
                }
                Ok(false) | Err(_) => return Poll::Ready(Err(Ended::BadAnswer(NO_RESPONSE))),
            }
        };
        self.searched = 0;
        let head = self.up.unused().get(..length).unwrap_or_default();
        if self.response.read(head).is_err() {
            return Poll::Ready(Err(Ended::BadAnswer(UNREADABLE)));
        }
        let answer = self.pass_on(length);
        self.up.consume(length);
        Poll::Ready(answer)
    }

    fn pass_on(&mut self, length: usize) -> Result<Answer, Ended> {
        let is_interim = (100..200).contains(&self.response.status) && self.response.status != 101;
        let mut out = buffers::take();
        let head = self.up.unused().get(..length).unwrap_or_default();
        if is_interim {
            // HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
            if self.request.is_1_1 {
                self.response.drop_framing();
                self.response.write(head, b"", &mut out);
            }
            return Ok(Answer::Interim(Flow::new(
                out,
                Content::Done,
                Framed::AsItCame,
            )));
        }
        if let Some(added) = self.switches()? {
            self.response.drop_framing();
            self.response.write(head, &added, &mut out);
            return Ok(Answer::Switching(Flow::new(
                out,
                Content::Done,
                Framed::AsItCame,
            )));
        }
        let (content, framed) = self.content();
        if framed != Framed::AsItCame || self.response.status == 204 {
            self.response.drop_framing();
        }
        let ends_with_connection = content == Content::UntilClose && framed == Framed::AsItCame
            || framed == Framed::OutOfChunks;
        self.closes |= ends_with_connection
            || !self.request.keeps_alive
            || self.registered.ends()
            || !self.sending.is_read();
        let mut added = Vec::new();
        if framed == Framed::IntoChunks {
            added.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        if self.closes {
            added.extend_from_slice(b"connection: close\r\n");
        } else if !self.request.is_1_1 {
            added.extend_from_slice(b"connection: keep-alive\r\n");
        }
        self.response.write(head, &added, &mut out);
        Ok(Answer::Passing(Flow::new(out, content, framed)))
    }

    /// The lines that tell the client that the connection changes its protocol, if it does.
    fn switches(&self) -> Result<Option<Vec<u8>>, Ended> {
        let status = self.response.status;
        match &self.request.upgrade {
            Upgrade::Connect if (200..300).contains(&status) => Ok(Some(Vec::new())),
            Upgrade::To(protocol) if status == 101 => {
                let mut lines = Vec::new();
                write_upgrade(&mut lines, protocol);
                Ok(Some(lines))
            }
            // A response that switches without being asked leaves no way to go on.
            _ if status == 101 => Err(Ended::BadAnswer("the upstream switched protocols unasked")),
            _ => Ok(None),
        }
    }

    /// RFC 9112 §6.3.
    fn content(&self) -> (Content, Framed) {
        let is_empty = self.is_head || matches!(self.response.status, 204 | 304);
        match (self.response.content, self.request.is_1_1) {
            _ if is_empty => (Content::Done, Framed::AsItCame),
            (Declared::Length(0), _) => (Content::Done, Framed::AsItCame),
            (Declared::Length(length), _) => (Content::Fixed(length), Framed::AsItCame),
            (Declared::Chunked, true) => (Content::ChunkSize, Framed::AsItCame),
            (Declared::Chunked, false) => (Content::ChunkSize, Framed::OutOfChunks),
            (Declared::Nothing, true) => (Content::UntilClose, Framed::IntoChunks),
            (Declared::Nothing, false) => (Content::UntilClose, Framed::AsItCame),
        }
    }

    fn done(&self) -> Ended {
        let was_framed = self.is_head
            || matches!(self.response.status, 204 | 304)
            || self.response.content != Declared::Nothing;
        Ended::Done {
            down: !self.closes && self.sending.is_read(),
            up: was_framed
                && self.response.keeps_alive
                && self.sending.is_done()
                && self.up.unused().is_empty(),
        }
    }
}

/// What an exchange works with.
pub struct Parts<'c> {
    pub down: &'c mut Side,
    pub up: &'c mut Side,
    pub request: &'c RequestHead,
    pub is_head: bool,
    pub response: &'c mut ResponseHead,
    pub registered: &'c Registered,
    pub closes: bool,
}

pub const NO_RESPONSE: &str = "the upstream gave no response";
const UNREADABLE: &str = "the upstream's response cannot be read";
