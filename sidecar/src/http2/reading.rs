//! What HTTP/2 says in fields, said in HTTP/1.1: the one form in which messages are judged.
//!
//! Invariants (RFC 9113 §8.2, §8.3): no byte of a field can end a line or begin another one; fields of one connection are refused; what
//! frames a message is written here and nowhere else; a message that says two things of its length or host is refused, here or by the judge.

use std::io::Write as _;

use crate::http::strict;

/// Collects the fields of one block. It is kept and filled again.
#[derive(Debug, Default)]
pub struct Reading {
    method: Vec<u8>,
    path: Vec<u8>,
    authority: Vec<u8>,
    status: Option<u16>,
    has: Pseudo,
    host: Option<Vec<u8>>,
    cookie: Vec<u8>,
    /// Every other line, as HTTP/1.1 has it.
    lines: Vec<u8>,
    length: Option<u64>,
    /// It may have trailers, so that its content is sent in chunks.
    may_have_trailers: bool,
    has_regular: bool,
    fault: Option<&'static str>,
}

/// Which pseudo-fields came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Pseudo {
    method: bool,
    scheme: bool,
    path: bool,
    authority: bool,
}

/// How the content of a message that was begun goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// So many bytes are missing.
    Fixed(u64),
    /// In chunks, whatever was announced: then so many bytes are missing.
    Chunks(Option<u64>),
    /// All of it came.
    Whole,
    /// What comes is thrown away: it belongs to no message.
    Nothing,
}

/// A head that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub feed: Feed,
    /// A request that is answered without content.
    pub is_head: bool,
    /// An interim answer (RFC 9110 §15.2): another head follows.
    pub is_interim: bool,
}

impl Reading {
    /// For the next block. `has_trailers`: its message may have some, also where nothing says so.
    pub fn clear(&mut self, has_trailers: bool) {
        for part in [
            &mut self.method,
            &mut self.path,
            &mut self.authority,
            &mut self.cookie,
            &mut self.lines,
        ] {
            part.clear();
            if part.capacity() > KEPT {
                *part = Vec::new();
            }
        }
        self.status = None;
        self.has = Pseudo::default();
        self.host = None;
        self.length = None;
        self.may_have_trailers = has_trailers;
        self.has_regular = false;
        self.fault = None;
    }

    /// Takes one field of a request or response.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.fault.is_none()
            && let Err(why) = self.take(name, value)
        {
            self.fault = Some(why);
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if !is_value(value) {
            return Err("a field's value has a control character or blanks around it");
        }
        if name.first() == Some(&b':') {
            return self.pseudo(name, value);
        }
        self.has_regular = true;
        if !is_name(name) {
            return Err("a field's name is malformed");
        }
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => return Err("a field belongs to one connection of HTTP/1.1"),
            b"te" if value != b"trailers" => return Err("TE says more than trailers"),
            b"te" => self.lines.extend_from_slice(b"te: trailers\r\n"),
            b"host" => {
                if self.host.replace(value.to_vec()).is_some() {
                    return Err("Host is given twice");
                }
            }
            b"content-length" => {
                let length =
                    strict::read_length(value).map_err(|_| "Content-Length is no number")?;
                if self.length.replace(length).is_some() {
                    return Err("Content-Length is given twice");
                }
            }
            // RFC 9113 §8.2.3.
            b"cookie" => {
                if !self.cookie.is_empty() {
                    self.cookie.extend_from_slice(b"; ");
                }
                self.cookie.extend_from_slice(value);
            }
            _ => {
                self.may_have_trailers |= name == b"trailer"
                    || name == b"content-type" && value.starts_with(b"application/grpc");
                write_line(&mut self.lines, name, value);
            }
        }
        Ok(())
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if self.has_regular {
            return Err("a pseudo-field comes after others");
        }
        let (has, place) = match name {
            b":method" => (&mut self.has.method, &mut self.method),
            b":path" => (&mut self.has.path, &mut self.path),
            b":authority" => (&mut self.has.authority, &mut self.authority),
            b":scheme" => {
                let is_known =
                    value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"https");
                return match is_known && !std::mem::replace(&mut self.has.scheme, true) {
                    true => Ok(()),
                    false => Err("the scheme is malformed"),
                };
            }
            b":status" => {
                let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else {
                    return Err("the status is malformed");
                };
                let digit = |byte: &u8| u16::from(byte - b'0');
                let status = digit(a) * 100 + digit(b) * 10 + digit(c);
                return match self.status.replace(status) {
                    None => Ok(()),
                    Some(_) => Err("the status is given twice"),
                };
            }
            _ => return Err("a pseudo-field is not known"),
        };
        if std::mem::replace(has, true) {
            return Err("a pseudo-field is given twice");
        }
        place.extend_from_slice(value);
        Ok(())
    }

    /// Writes the head of a request.
    pub fn request(&mut self, ends: bool, out: &mut Vec<u8>) -> Result<Written, &'static str> {
        if let Some(why) = self.fault {
            return Err(why);
        }
        let is_connect = self.method == b"CONNECT";
        let needed = Pseudo {
            method: true,
            scheme: !is_connect,
            path: !is_connect,
            authority: is_connect || self.has.authority,
        };
        if self.has != needed || self.status.is_some() {
            return Err("pseudo-fields are missing or do not fit");
        }
        if !strict::is_token(&self.method) {
            return Err("the method is malformed");
        }
        let is_target = match self.path.first() {
            Some(b'/') => self.path.iter().all(|byte| *byte > b' ' && *byte != 0x7f),
            _ => self.path == b"*" && self.method == b"OPTIONS",
        };
        if !is_target && !is_connect {
            return Err("the path is malformed");
        }
        let differs = self.has.authority
            && self
                .host
                .as_ref()
                .is_some_and(|host| !host.eq_ignore_ascii_case(&self.authority));
        if self
            .authority
            .iter()
            .any(|byte| *byte <= b' ' || matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\'))
        {
            return Err("the authority is malformed");
        }
        // RFC 9113 §8.3.1: neither may be empty.
        let has_empty = self.has.authority && self.authority.is_empty()
            || self.host.as_ref().is_some_and(Vec::is_empty);
        // Behind an authority, `*` would be a part of it.
        if has_empty || differs && !is_connect && self.path == b"*" {
            return Err("the authority is empty or unclear");
        }
        out.extend_from_slice(&self.method);
        out.push(b' ');
        if differs {
            // Both stand in the head: the judge refuses that as it does in HTTP/1.1.
            out.extend_from_slice(b"http://");
        }
        if differs || is_connect {
            out.extend_from_slice(&self.authority);
        }
        out.extend_from_slice(&self.path);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        match &self.host {
            Some(host) => write_line(out, b"host", host),
            None if self.has.authority => write_line(out, b"host", &self.authority),
            None => {}
        }
        if !self.cookie.is_empty() {
            write_line(out, b"cookie", &self.cookie);
        }
        let feed = match is_connect {
            true => Feed::Nothing,
            false => self.frame(ends, false, out)?,
        };
        self.finish(out);
        Ok(Written {
            feed,
            is_head: self.method == b"HEAD",
            is_interim: false,
        })
    }

    /// Writes the head of a response. `is_head`: it answers a HEAD.
    pub fn response(
        &mut self,
        ends: bool,
        is_head: bool,
        out: &mut Vec<u8>,
    ) -> Result<Written, &'static str> {
        if let Some(why) = self.fault {
            return Err(why);
        }
        let status = self.status.filter(|_| self.has == Pseudo::default());
        let status = status.ok_or("pseudo-fields are missing or do not fit")?;
        let is_interim = (100..200).contains(&status);
        if status == 101 || is_interim && ends {
            return Err("an interim response ends the stream or switches protocols");
        }
        // A vector takes every write.
        let _ = write!(out, "HTTP/1.1 {status} \r\n");
        if !self.cookie.is_empty() {
            write_line(out, b"cookie", &self.cookie);
        }
        let has_no_content = is_head || matches!(status, 204 | 304);
        let feed = if is_interim {
            Feed::Nothing
        } else if has_no_content {
            if let Some(length) = self.length {
                write_length(out, length);
            }
            match ends {
                true => Feed::Whole,
                false => Feed::Fixed(0),
            }
        } else {
            self.frame(ends, true, out)?
        };
        self.finish(out);
        Ok(Written {
            feed,
            is_head: false,
            is_interim,
        })
    }

    /// Writes the trailers after the last chunk.
    pub fn trailers(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if let Some(why) = self.fault {
            return Err(why);
        }
        if self.status.is_some() || self.has != Pseudo::default() {
            return Err("trailers have pseudo-fields");
        }
        out.extend_from_slice(b"0\r\n");
        self.finish(out);
        Ok(())
    }

    /// Writes how long the content is.
    fn frame(
        &self,
        ends: bool,
        is_response: bool,
        out: &mut Vec<u8>,
    ) -> Result<Feed, &'static str> {
        match (ends, self.length) {
            (true, Some(1..)) => Err("content was announced and does not come"),
            (true, None) if !is_response => Ok(Feed::Whole),
            (true, length) => {
                write_length(out, length.unwrap_or(0));
                Ok(Feed::Whole)
            }
            (false, Some(length)) if !self.may_have_trailers => {
                write_length(out, length);
                Ok(Feed::Fixed(length))
            }
            (false, length) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Ok(Feed::Chunks(length))
            }
        }
    }

    fn finish(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
        out.extend_from_slice(b"\r\n");
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    // A vector takes every write.
    let _ = write!(out, "content-length: {length}\r\n");
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// RFC 9113 §8.2: a token in lower case.
fn is_name(name: &[u8]) -> bool {
    strict::is_token(name) && !name.iter().any(u8::is_ascii_uppercase)
}

/// RFC 9113 §8.2.1, and no control character but the tabulator.
fn is_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !is_blank(value.first())
        && !is_blank(value.last())
        && value
            .iter()
            .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t')
}

/// What is longer is not kept for the next message's.
const KEPT: usize = 4 * 1024;
