//! Heads of messages, parsed once: where each part stands in the bytes, and which lines may pass.
//!
//! Invariants: what [`strict`](crate::http::strict) refuses is refused here by the same functions; a line that belongs to one hop
//! (RFC 9110 §7.6.1) or names a client's certificate is never among those that pass; what frames a message always is.

use std::ops::Range;

use weft_policy::HttpRequest;

use super::fields::{Fields, Headers, Known, Lines, bytes, text};
use super::upgrade::Upgrade;
use crate::http::authority::is_authority;
use crate::http::strict::{self, BodyLength, Malformed, RequestLine};

/// A request's head. It is kept and filled again, so that a connection's requests need no memory of their own.
#[derive(Debug)]
pub struct RequestHead {
    /// Bytes of the head, with the empty line.
    pub length: usize,
    method: Range<usize>,
    /// Path and query as an origin server gets them; of a CONNECT the authority.
    target: Range<usize>,
    path: Range<usize>,
    authority: Option<Range<usize>>,
    /// The target is an `https` URI: it asks for TLS, which nobody here begins.
    pub wants_tls: bool,
    /// The authority stands in the target alone.
    lacks_host: bool,
    pub is_1_1: bool,
    pub content: BodyLength,
    pub upgrade: Upgrade,
    /// The connection may be used again after the answer.
    pub keeps_alive: bool,
    pub is_grpc: bool,
    fields: Fields,
}

/// A response's head.
#[derive(Debug)]
pub struct ResponseHead {
    pub length: usize,
    pub status: u16,
    /// What follows the version in the status line.
    rest_of_line: Range<usize>,
    pub content: Declared,
    pub keeps_alive: bool,
    /// The protocol that a 101 switches to.
    pub switches_to: Option<String>,
    fields: Fields,
}

/// What a response says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    Length(u64),
    Chunked,
    /// Nothing: it ends with the connection.
    Nothing,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            length: 0,
            method: 0..0,
            target: 0..0,
            path: 0..0,
            authority: None,
            wants_tls: false,
            lacks_host: false,
            is_1_1: true,
            content: BodyLength::Fixed(0),
            upgrade: Upgrade::None,
            keeps_alive: false,
            is_grpc: false,
            fields: Fields::default(),
        }
    }
}

impl RequestHead {
    /// Reads a whole head, its empty line included.
    pub fn read(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let mut lines = Lines::of(head);
        let line = lines.next().unwrap_or(0..0);
        let request_line = strict::read_request_line(bytes(head, &line))?;
        let needs_host = request_line.needs_host();
        let RequestLine {
            method,
            target,
            is_1_1,
        } = request_line;
        self.length = head.len();
        self.method = line.start..line.start + method.len();
        let target = self.method.end + 1..self.method.end + 1 + target.len();
        self.is_1_1 = is_1_1;
        let framing = self.fields.read(head, lines)?;
        if needs_host && !framing.has_host {
            return Err(Malformed::NoHost);
        }
        self.content = framing.of_request(is_1_1)?;
        self.read_target(head, target)?;
        self.upgrade = self.fields.upgrade(head, is_1_1);
        if self.is_connect(head) {
            self.upgrade = Upgrade::Connect;
        }
        self.keeps_alive = self.fields.keeps_alive(head, is_1_1);
        self.is_grpc = self
            .fields
            .first(head, Known::ContentType)
            .is_some_and(|kind| kind.starts_with(b"application/grpc"));
        self.fields.drop_nominated(head);
        Ok(())
    }

    /// RFC 9112 §3.2: origin-form, absolute-form, authority-form for CONNECT alone, asterisk-form.
    fn read_target(&mut self, head: &[u8], target: Range<usize>) -> Result<(), Malformed> {
        let text = bytes(head, &target);
        std::str::from_utf8(text).map_err(|_| Malformed::RequestLine)?;
        let host = self.fields.range_of(Known::Host);
        self.wants_tls = false;
        let named = if self.is_connect(head) {
            self.target = target.clone();
            self.path = target.end..target.end;
            Some(target)
        } else if text == b"*" || text.starts_with(b"/") {
            self.target = target;
            None
        } else {
            Some(self.read_absolute(head, target)?)
        };
        if named.is_none() || !self.is_connect(head) {
            let text = bytes(head, &self.target);
            let length = memchr::memchr(b'?', text).unwrap_or(text.len());
            self.path = self.target.start..self.target.start + length;
        }
        for authority in [&named, &host].into_iter().flatten() {
            let text = std::str::from_utf8(bytes(head, authority)).map_err(|_| Malformed::Host)?;
            if !is_authority(text) {
                return Err(Malformed::Host);
            }
        }
        if let (Some(named), Some(host)) = (&named, &host)
            && !bytes(head, named).eq_ignore_ascii_case(bytes(head, host))
        {
            return Err(Malformed::TwoHosts);
        }
        self.lacks_host = host.is_none() && named.is_some();
        self.authority = host.or(named);
        Ok(())
    }

    /// Splits `http://authority/path?query`; gives the authority.
    fn read_absolute(
        &mut self,
        head: &[u8],
        target: Range<usize>,
    ) -> Result<Range<usize>, Malformed> {
        let text = bytes(head, &target);
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let scheme = scheme.ok_or(Malformed::RequestLine)?;
        self.wants_tls = scheme == b"https://";
        let start = target.start + scheme.len();
        let rest = bytes(head, &(start..target.end));
        let length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        self.target = start + length..target.end;
        Ok(start..start + length)
    }

    pub fn method<'h>(&self, head: &'h [u8]) -> &'h str {
        text(head, &self.method)
    }

    /// As on the wire, without the query; empty for CONNECT.
    pub fn path<'h>(&self, head: &'h [u8]) -> &'h str {
        match text(head, &self.path) {
            "" if !self.is_connect(head) => "/",
            path => path,
        }
    }

    pub fn authority<'h>(&self, head: &'h [u8]) -> Option<&'h str> {
        self.authority.as_ref().map(|range| text(head, range))
    }

    pub fn is_connect(&self, head: &[u8]) -> bool {
        bytes(head, &self.method) == b"CONNECT"
    }

    /// Whether it may be sent once more when nobody answered it: without content, and idempotent (RFC 9110 §9.2.2).
    pub fn is_repeatable(&self, head: &[u8]) -> bool {
        self.content == BodyLength::Fixed(0)
            && self.upgrade == Upgrade::None
            && matches!(bytes(head, &self.method), b"GET" | b"HEAD" | b"OPTIONS")
    }

    /// The headers as policy looks at them: those that pass.
    pub fn headers<'h>(&'h self, head: &'h [u8]) -> Headers<'h> {
        Headers {
            head,
            fields: &self.fields,
        }
    }

    /// The request as policy reads it.
    pub fn asked<'h>(&'h self, head: &'h [u8], headers: &'h Headers<'h>) -> HttpRequest<'h> {
        HttpRequest {
            method: self.method(head),
            path: self.path(head),
            authority: self.authority(head),
            headers,
            upgrade: self.upgrade.protocol(),
            connect: self.upgrade.is_connect(),
        }
    }

    /// Writes the head as the next hop gets it: unchanged, but for what belongs to this hop. `added` are whole lines.
    pub fn write(&self, head: &[u8], added: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes(head, &self.method));
        out.push(b' ');
        let target = bytes(head, &self.target);
        if !target.starts_with(b"/") && !self.is_connect(head) && target != b"*" {
            out.push(b'/');
        }
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if self.lacks_host
            && let Some(authority) = self.authority(head)
        {
            write_line(out, "host", authority);
        }
        self.fields.write(head, out);
        if self.fields.takes_trailers {
            write_line(out, "te", "trailers");
        }
        if let Upgrade::To(protocol) = &self.upgrade {
            write_upgrade(out, protocol);
        }
        out.extend_from_slice(added);
        out.extend_from_slice(b"\r\n");
    }
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            length: 0,
            status: 0,
            rest_of_line: 0..0,
            content: Declared::Nothing,
            keeps_alive: false,
            switches_to: None,
            fields: Fields::default(),
        }
    }
}

impl ResponseHead {
    /// Reads a whole head, its empty line included.
    pub fn read(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let mut lines = Lines::of(head);
        let line = lines.next().unwrap_or(0..0);
        let (status, is_1_1) = read_status_line(bytes(head, &line))?;
        self.length = head.len();
        self.status = status;
        self.rest_of_line = line.start + VERSION.len()..line.end;
        let framing = self.fields.read(head, lines)?;
        self.content = match (framing.length, framing.chunked) {
            (Some(_), true) => return Err(Malformed::LengthAndEncoding),
            (None, true) if !is_1_1 => return Err(Malformed::TransferEncoding),
            (None, true) => Declared::Chunked,
            (Some(length), false) => Declared::Length(length),
            (None, false) => Declared::Nothing,
        };
        self.switches_to = match self.fields.upgrade(head, is_1_1) {
            Upgrade::To(protocol) => Some(protocol),
            Upgrade::None | Upgrade::Ambiguous | Upgrade::Connect => None,
        };
        self.keeps_alive = self.fields.keeps_alive(head, is_1_1);
        self.fields.drop_nominated(head);
        Ok(())
    }

    /// Writes the head as the client gets it. `added` are whole lines.
    pub fn write(&self, head: &[u8], added: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(VERSION);
        out.extend_from_slice(bytes(head, &self.rest_of_line));
        out.extend_from_slice(b"\r\n");
        self.fields.write(head, out);
        out.extend_from_slice(added);
        out.extend_from_slice(b"\r\n");
    }

    /// The content's framing is not what is passed on.
    pub fn drop_framing(&mut self) {
        for field in &mut self.fields.lines {
            if matches!(field.is, Known::TransferEncoding | Known::Trailer) {
                field.passes = false;
            }
        }
    }
}

pub fn write_upgrade(out: &mut Vec<u8>, protocol: &str) {
    write_line(out, "connection", "upgrade");
    write_line(out, "upgrade", protocol);
}

fn write_line(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// `HTTP-version SP 3DIGIT [SP reason]` (RFC 9112 §4); some servers leave out the last blank.
fn read_status_line(line: &[u8]) -> Result<(u16, bool), Malformed> {
    let (version, rest) = line
        .split_at_checked(VERSION.len())
        .ok_or(Malformed::Version)?;
    let is_1_1 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Malformed::Version),
    };
    let [
        b' ',
        a @ b'1'..=b'9',
        b @ b'0'..=b'9',
        c @ b'0'..=b'9',
        reason @ ..,
    ] = rest
    else {
        return Err(Malformed::RequestLine);
    };
    let is_clean = reason
        .iter()
        .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t');
    if !(reason.is_empty() || reason.starts_with(b" ")) || !is_clean {
        return Err(Malformed::RequestLine);
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok((digit(a) * 100 + digit(b) * 10 + digit(c), is_1_1))
}

const VERSION: &[u8] = b"HTTP/1.1";

#[cfg(test)]
mod tests;
