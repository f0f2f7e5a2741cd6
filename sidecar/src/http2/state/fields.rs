//! Heads in HTTP/1.1 as blocks of fields.

use super::super::frame::{self, END_HEADERS, END_STREAM, Kind, MOST_PAYLOAD};
use super::super::hpack::encoder;
use super::writing::Unfit;
use crate::http::strict::{self, BodyLength};

/// What a head says of its message.
#[derive(Default)]
pub(super) struct Framing {
    pub(super) length: Option<BodyLength>,
    pub(super) is_head: bool,
    pub(super) is_interim: bool,
    pub(super) has_no_content: bool,
    pub(super) closes: bool,
}

pub(super) fn write_request(head: &[u8], block: &mut Vec<u8>) -> Result<Framing, Unfit> {
    let (line, fields) = split_line(head)?;
    let line = strict::read_request_line(line).map_err(|_| Unfit)?;
    let mut host = None;
    for field in lines(fields) {
        let (name, value) = strict::read_header(field).map_err(|_| Unfit)?;
        if name.eq_ignore_ascii_case(b"host") {
            host = Some(value);
        }
    }
    encoder::field(b":method", line.method, block);
    encoder::field(b":scheme", b"http", block);
    encoder::field(b":authority", host.ok_or(Unfit)?, block);
    encoder::field(b":path", line.target, block);
    let mut framing = Framing {
        is_head: line.method == b"HEAD",
        ..Framing::default()
    };
    write_fields(fields, &mut framing, block)?;
    Ok(framing)
}

pub(super) fn write_response(head: &[u8], block: &mut Vec<u8>) -> Result<Framing, Unfit> {
    let (line, fields) = split_line(head)?;
    let digits = line
        .get(STATUS)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let status: u16 = digits.and_then(|digits| digits.parse().ok()).ok_or(Unfit)?;
    if status == 101 {
        return Err(Unfit);
    }
    encoder::status(status, block);
    let mut framing = Framing {
        is_interim: (100..200).contains(&status),
        has_no_content: matches!(status, 204 | 304),
        ..Framing::default()
    };
    write_fields(fields, &mut framing, block)?;
    Ok(framing)
}

fn write_fields(fields: &[u8], framing: &mut Framing, block: &mut Vec<u8>) -> Result<(), Unfit> {
    for field in lines(fields) {
        let (name, value) = strict::read_header(field).map_err(|_| Unfit)?;
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => continue,
            7 if is(b"upgrade") => return Err(Unfit),
            10 if is(b"connection") => {
                framing.closes |= value.eq_ignore_ascii_case(b"close");
                continue;
            }
            10 if is(b"keep-alive") => continue,
            14 if is(b"content-length") => {
                let length = strict::read_length(value).map_err(|_| Unfit)?;
                framing.length = Some(BodyLength::Fixed(length));
            }
            17 if is(b"transfer-encoding") => {
                framing.length = Some(BodyLength::Chunked);
                continue;
            }
            _ => {}
        }
        lower_field(name, value, block);
    }
    Ok(())
}

/// Names of HTTP/2 are in lower case. In between nobody remembers which fields came marked as never to be indexed, and a mark must stay
/// (RFC 7541 §6.2.3): all are marked.
pub(super) fn lower_field(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    if !name.iter().any(u8::is_ascii_uppercase) {
        return encoder::never_indexed(name, value, block);
    }
    let mut short = [0; 64];
    match short.get_mut(..name.len()) {
        Some(lower) => {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            encoder::never_indexed(lower, value, block);
        }
        None => encoder::never_indexed(&name.to_ascii_lowercase(), value, block),
    }
}

fn split_line(head: &[u8]) -> Result<(&[u8], &[u8]), Unfit> {
    let end = memchr::memchr(b'\n', head).ok_or(Unfit)?;
    let (line, fields) = head.split_at(end + 1);
    Ok((line.strip_suffix(b"\r\n").unwrap_or(line), fields))
}

fn lines(fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
        .filter(|line| !line.is_empty())
}

/// A block in as many frames as it needs.
pub(super) fn write_block(stream: u32, ends: bool, block: &[u8], out: &mut Vec<u8>) {
    let (first, mut rest) = block.split_at(block.len().min(MOST_PAYLOAD));
    let flags = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    let end = if ends { END_STREAM } else { 0 };
    frame::write(Kind::Headers, flags(rest) | end, stream, first, out);
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(MOST_PAYLOAD));
        rest = after;
        frame::write(Kind::Continuation, flags(rest), stream, next, out);
    }
}

/// Where a status stands in a status line.
const STATUS: std::ops::Range<usize> = 9..12;
