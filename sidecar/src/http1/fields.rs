//! The header lines of a head, where each stands, and which of them may pass.

use std::ops::Range;

use weft_policy::{HeaderLookup, HeaderValue};

use super::upgrade::Upgrade;
use crate::http::strict::{self, BodyLength, MAX_HEADERS, Malformed};

#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) lines: Vec<Field>,
    pub(super) takes_trailers: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
    /// The whole line with its end.
    pub(super) line: Range<usize>,
    pub(super) is: Known,
    pub(super) passes: bool,
}

/// Names that matter to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Connection,
    /// Belongs to one hop, whatever it says.
    Hop,
    Te,
    Upgrade,
    TransferEncoding,
    ContentLength,
    /// What gateways take for one of the two.
    DisguisedFraming,
    Host,
    ContentType,
    Trailer,
    ClientCert,
    Other,
}

impl Known {
    pub(super) fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("trailer") => Self::Trailer,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::Hop,
            12 if is("content-type") => Self::ContentType,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::Hop,
            14 | 17 if strict::disguises_framing(name) => Self::DisguisedFraming,
            16 if is("proxy-connection") => Self::Hop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            23 if names_client_cert(name) => Self::ClientCert,
            _ => Self::Other,
        }
    }

    pub(super) fn passes(self) -> bool {
        match self {
            Self::Connection | Self::Hop | Self::Te | Self::Upgrade | Self::ClientCert => false,
            Self::TransferEncoding
            | Self::ContentLength
            | Self::DisguisedFraming
            | Self::Host
            | Self::ContentType
            | Self::Trailer
            | Self::Other => true,
        }
    }
}

/// `x-forwarded-client-cert` in any spelling: many servers read `_` as `-`.
fn names_client_cert(name: &[u8]) -> bool {
    let folded = name.iter().map(|byte| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    });
    folded.eq(CLIENT_CERT.bytes())
}

/// Whether a trailer of this name must not pass: it would frame or route the message, or belongs to one hop (RFC 9110 §6.5.1).
pub fn is_refused_trailer(name: &[u8]) -> bool {
    match Known::of(name) {
        Known::ContentType | Known::Trailer | Known::Other => false,
        Known::Connection
        | Known::Hop
        | Known::Te
        | Known::Upgrade
        | Known::TransferEncoding
        | Known::ContentLength
        | Known::DisguisedFraming
        | Known::Host
        | Known::ClientCert => true,
    }
}

/// What the headers say about where the message ends.
#[derive(Default)]
pub(super) struct FramingFields {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) is_disguised: bool,
    pub(super) has_host: bool,
}

impl FramingFields {
    pub(super) fn of_request(&self, is_1_1: bool) -> Result<BodyLength, Malformed> {
        match (self.length, self.chunked) {
            _ if self.is_disguised => Err(Malformed::DisguisedFraming),
            (Some(_), true) => Err(Malformed::LengthAndEncoding),
            (None, true) if !is_1_1 => Err(Malformed::TransferEncoding),
            (None, true) => Ok(BodyLength::Chunked),
            (length, false) => Ok(BodyLength::Fixed(length.unwrap_or(0))),
        }
    }
}

impl Fields {
    pub(super) fn read(
        &mut self,
        head: &[u8],
        lines: Lines<'_>,
    ) -> Result<FramingFields, Malformed> {
        self.lines.clear();
        self.takes_trailers = false;
        let mut framing = FramingFields::default();
        for line in lines {
            if self.lines.len() >= MAX_HEADERS {
                return Err(Malformed::TooManyHeaders);
            }
            let (name, value) = strict::read_header(bytes(head, &line))?;
            let is = Known::of(name);
            match is {
                Known::ContentLength => {
                    if framing
                        .length
                        .replace(strict::read_length(value)?)
                        .is_some()
                    {
                        return Err(Malformed::TwoContentLengths);
                    }
                }
                Known::TransferEncoding => {
                    if framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed::TransferEncoding);
                    }
                    framing.chunked = true;
                }
                Known::DisguisedFraming => framing.is_disguised = true,
                Known::Host => {
                    if std::mem::replace(&mut framing.has_host, true) {
                        return Err(Malformed::TwoHosts);
                    }
                    strict::check_host(value)?;
                }
                Known::Te => {
                    self.takes_trailers |=
                        members(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                }
                Known::Connection
                | Known::Hop
                | Known::Upgrade
                | Known::ContentType
                | Known::Trailer
                | Known::ClientCert
                | Known::Other => {}
            }
            // Blanks may stand around a value: before it, after the colon.
            let before = bytes(head, &(line.start + name.len() + 1..line.end));
            let blanks = before.len() - before.trim_ascii_start().len();
            let value_start = line.start + name.len() + 1 + blanks;
            self.lines.push(Field {
                name: line.start..line.start + name.len(),
                value: value_start..value_start + value.len(),
                line: line.start..line.end + 2,
                is,
                passes: is.passes(),
            });
        }
        Ok(framing)
    }

    pub(super) fn of_kind(&self, is: Known) -> impl Iterator<Item = &Field> {
        self.lines.iter().filter(move |field| field.is == is)
    }

    pub(super) fn first<'h>(&self, head: &'h [u8], is: Known) -> Option<&'h [u8]> {
        self.of_kind(is)
            .next()
            .map(|field| bytes(head, &field.value))
    }

    pub(super) fn range_of(&self, is: Known) -> Option<Range<usize>> {
        self.of_kind(is).next().map(|field| field.value.clone())
    }

    /// What `Connection` says, over all its lines.
    pub(super) fn options<'h>(&'h self, head: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
        self.of_kind(Known::Connection)
            .flat_map(move |field| members(bytes(head, &field.value)))
    }

    pub(super) fn says(&self, head: &[u8], option: &str) -> bool {
        self.options(head)
            .any(|said| said.eq_ignore_ascii_case(option.as_bytes()))
    }

    pub(super) fn keeps_alive(&self, head: &[u8], is_1_1: bool) -> bool {
        !self.says(head, "close") && (is_1_1 || self.says(head, "keep-alive"))
    }

    /// RFC 9110 §7.8. `h2c` is no wish that is ever granted.
    pub(super) fn upgrade(&self, head: &[u8], is_1_1: bool) -> Upgrade {
        if self.of_kind(Known::Upgrade).next().is_none() || !is_1_1 || !self.says(head, "upgrade") {
            return Upgrade::None;
        }
        let mut protocols = self
            .of_kind(Known::Upgrade)
            .flat_map(|field| members(bytes(head, &field.value)))
            .filter(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"));
        match (protocols.next(), protocols.next()) {
            (None, _) => Upgrade::None,
            (Some(protocol), None) => match std::str::from_utf8(protocol) {
                Ok(protocol) => Upgrade::To(protocol.to_ascii_lowercase()),
                Err(_) => Upgrade::Ambiguous,
            },
            (Some(_), Some(_)) => Upgrade::Ambiguous,
        }
    }

    /// Takes out what `Connection` nominates; a message cannot lose what frames or routes it, whatever is said of that.
    pub(super) fn drop_nominated(&mut self, head: &[u8]) {
        let usual = [
            &b"close"[..],
            b"keep-alive",
            b"upgrade",
            b"te",
            b"http2-settings",
        ];
        let is_usual = |option: &[u8]| usual.iter().any(|usual| option.eq_ignore_ascii_case(usual));
        if self.options(head).all(is_usual) {
            return;
        }
        let nominated: Vec<&[u8]> = self
            .of_kind(Known::Connection)
            .flat_map(|field| members(bytes(head, &field.value)))
            .collect();
        for field in &mut self.lines {
            let can_go = !matches!(
                field.is,
                Known::Host | Known::ContentLength | Known::TransferEncoding
            );
            let name = bytes(head, &field.name);
            if can_go
                && nominated
                    .iter()
                    .any(|option| option.eq_ignore_ascii_case(name))
            {
                field.passes = false;
            }
        }
    }

    /// Writes the lines that pass, neighbours in one piece.
    pub(super) fn write(&self, head: &[u8], out: &mut Vec<u8>) {
        let mut piece = 0..0;
        for field in self.lines.iter().filter(|field| field.passes) {
            if piece.end != field.line.start {
                out.extend_from_slice(bytes(head, &piece));
                piece.start = field.line.start;
            }
            piece.end = field.line.end;
        }
        out.extend_from_slice(bytes(head, &piece));
    }
}

/// Looks up what passes.
pub struct Headers<'h> {
    pub(super) head: &'h [u8],
    pub(super) fields: &'h Fields,
}

impl HeaderLookup for Headers<'_> {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        let name = name.as_bytes();
        let mut found = self.fields.lines.iter().filter(|field| {
            let other = bytes(self.head, &field.name);
            // most often it is spelled as asked for, and to compare that takes less
            field.passes && (other == name || other.eq_ignore_ascii_case(name))
        });
        match (found.next(), found.next()) {
            (None, _) => HeaderValue::Absent,
            (Some(field), None) => HeaderValue::One(bytes(self.head, &field.value)),
            (Some(_), Some(_)) => HeaderValue::Many,
        }
    }
}

/// The lines of a head, without their ends and without the empty one at the end.
pub(super) struct Lines<'h> {
    head: &'h [u8],
    at: usize,
}

impl<'h> Lines<'h> {
    pub(super) fn of(head: &'h [u8]) -> Self {
        let head = head.strip_suffix(b"\r\n").unwrap_or(head);
        Self { head, at: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.head.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let line = self.at..self.at + end.saturating_sub(2);
        self.at += end;
        Some(line)
    }
}

pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

pub(super) fn bytes<'h>(head: &'h [u8], range: &Range<usize>) -> &'h [u8] {
    head.get(range.clone()).unwrap_or_default()
}

pub(super) fn text<'h>(head: &'h [u8], range: &Range<usize>) -> &'h str {
    std::str::from_utf8(bytes(head, range)).unwrap_or_default()
}

const CLIENT_CERT: &str = "x-forwarded-client-cert";
