//! Heads of messages, parsed once: where each part stands in the bytes, and which lines may pass.
//!
//! Invariants: what [`strict`](crate::http::strict) refuses is refused here by the same functions; a line that belongs to one hop
//! (RFC 9110 §7.6.1) or names a client's certificate is never among those that pass; what frames a message always is.

use std::ops::Range;

use weft_policy::{HeaderLookup, HeaderValue, HttpRequest};

use crate::http::headers::is_authority;
use crate::http::strict::{self, BodyLength, MAX_HEADERS, Malformed, RequestLine};
use crate::http::upgrade::Upgrade;

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

#[derive(Debug, Default)]
struct Fields {
    lines: Vec<Field>,
    takes_trailers: bool,
}

#[derive(Debug, Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
    /// The whole line with its end.
    line: Range<usize>,
    is: Known,
    passes: bool,
}

/// Names that matter to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
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
    fn of(name: &[u8]) -> Self {
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

    fn passes(self) -> bool {
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

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            length: 0,
            method: 0..0,
            target: 0..0,
            path: 0..0,
            authority: None,
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
        let start = target.start + scheme.ok_or(Malformed::RequestLine)?.len();
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
            Upgrade::None | Upgrade::Ambiguous | Upgrade::Connect | Upgrade::ExtendedConnect(_) => {
                None
            }
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

/// What the headers say about where the message ends.
#[derive(Default)]
struct FramingFields {
    length: Option<u64>,
    chunked: bool,
    is_disguised: bool,
    has_host: bool,
}

impl FramingFields {
    fn of_request(&self, is_1_1: bool) -> Result<BodyLength, Malformed> {
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
    fn read(&mut self, head: &[u8], lines: Lines<'_>) -> Result<FramingFields, Malformed> {
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

    fn of_kind(&self, is: Known) -> impl Iterator<Item = &Field> {
        self.lines.iter().filter(move |field| field.is == is)
    }

    fn first<'h>(&self, head: &'h [u8], is: Known) -> Option<&'h [u8]> {
        self.of_kind(is)
            .next()
            .map(|field| bytes(head, &field.value))
    }

    fn range_of(&self, is: Known) -> Option<Range<usize>> {
        self.of_kind(is).next().map(|field| field.value.clone())
    }

    /// What `Connection` says, over all its lines.
    fn options<'h>(&'h self, head: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
        self.of_kind(Known::Connection)
            .flat_map(move |field| members(bytes(head, &field.value)))
    }

    fn says(&self, head: &[u8], option: &str) -> bool {
        self.options(head)
            .any(|said| said.eq_ignore_ascii_case(option.as_bytes()))
    }

    fn keeps_alive(&self, head: &[u8], is_1_1: bool) -> bool {
        !self.says(head, "close") && (is_1_1 || self.says(head, "keep-alive"))
    }

    /// RFC 9110 §7.8. `h2c` is no wish that is ever granted.
    fn upgrade(&self, head: &[u8], is_1_1: bool) -> Upgrade {
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
    fn drop_nominated(&mut self, head: &[u8]) {
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
    fn write(&self, head: &[u8], out: &mut Vec<u8>) {
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
    head: &'h [u8],
    fields: &'h Fields,
}

impl HeaderLookup for Headers<'_> {
    fn lookup(&self, name: &str) -> HeaderValue<'_> {
        let mut found = self.fields.lines.iter().filter(|field| {
            field.passes && bytes(self.head, &field.name).eq_ignore_ascii_case(name.as_bytes())
        });
        match (found.next(), found.next()) {
            (None, _) => HeaderValue::Absent,
            (Some(field), None) => HeaderValue::One(bytes(self.head, &field.value)),
            (Some(_), Some(_)) => HeaderValue::Many,
        }
    }
}

/// The lines of a head, without their ends and without the empty one at the end.
struct Lines<'h> {
    head: &'h [u8],
    at: usize,
}

impl<'h> Lines<'h> {
    fn of(head: &'h [u8]) -> Self {
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

fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn bytes<'h>(head: &'h [u8], range: &Range<usize>) -> &'h [u8] {
    head.get(range.clone()).unwrap_or_default()
}

fn text<'h>(head: &'h [u8], range: &Range<usize>) -> &'h str {
    std::str::from_utf8(bytes(head, range)).unwrap_or_default()
}

const VERSION: &[u8] = b"HTTP/1.1";
const CLIENT_CERT: &str = "x-forwarded-client-cert";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Result<RequestHead, Malformed> {
        let mut request = RequestHead::default();
        request.read(head.as_bytes()).map(|()| request)
    }

    fn forwarded(head: &str) -> String {
        let request = request(head).expect("a good head");
        let mut out = Vec::new();
        request.write(head.as_bytes(), b"", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_forwarded_as_it_came_but_for_what_belongs_to_one_hop() {
        let head = "GET /a%2fb//c/../d?x=%41 HTTP/1.1\r\nHost: A.b:80\r\nX-CamelCase:  padded \r\nAccept: */*\r\n\r\n";
        assert_eq!(forwarded(head), head);
        for (head, expected) in [
            (
                "GET / HTTP/1.1\r\nConnection: close, X-Private, host\r\nHost: a\r\nx-private: 1\r\nKeep-Alive: 5\r\nB: 2\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nB: 2\r\n\r\n",
            ),
            (
                "GET http://A.b:1?q HTTP/1.1\r\nHost: a.B:1\r\n\r\n",
                "GET /?q HTTP/1.1\r\nHost: a.B:1\r\n\r\n",
            ),
            (
                "GET HTTPS://a/x HTTP/1.0\r\n\r\n",
                "GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
            ),
            (
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nte: trailers\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(forwarded(head), expected, "{head}");
        }
    }

    #[test]
    fn row_04_no_spelling_of_the_client_certificate_passes() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: 1\r\nx_forwarded_client_cert: 2\r\n\
            X-FORWARDED_client-Cert: 3\r\nx-forwarded-client-certs: other\r\n\r\n";
        assert_eq!(
            forwarded(head),
            "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-certs: other\r\n\r\n"
        );
    }

    #[test]
    fn row_17_h2c_is_never_asked_for() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
        assert_eq!(request(head).unwrap().upgrade, Upgrade::None);
        assert_eq!(forwarded(head), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, other\r\n\r\n";
        assert_eq!(request(head).unwrap().upgrade, Upgrade::Ambiguous);
    }

    #[test]
    fn row_05_heads_with_two_readings_are_refused() {
        for (line, headers, why) in [
            (
                "GET / HTTP/1.1",
                "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
                Malformed::TwoContentLengths,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nContent-Length: +1\r\n",
                Malformed::ContentLength,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                Malformed::LengthAndEncoding,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nTransfer-Encoding: xchunked\r\n",
                Malformed::TransferEncoding,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
                Malformed::TransferEncoding,
            ),
            (
                "GET / HTTP/1.0",
                "Host: a\r\nTransfer-Encoding: chunked\r\n",
                Malformed::TransferEncoding,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nTransfer-Encoding : chunked\r\n",
                Malformed::HeaderName,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\n X: folded\r\n",
                Malformed::FoldedHeader,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nX: a\rb\r\n",
                Malformed::HeaderValue,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nHost: a\r\n",
                Malformed::TwoHosts,
            ),
            ("GET / HTTP/1.1", "X: 1\r\n", Malformed::NoHost),
            ("GET / HTTP/1.1", "Host: a/b\r\n", Malformed::Host),
            ("GET / HTTP/1.1", "Host: a:x\r\n", Malformed::Host),
            ("GET http://b/ HTTP/1.1", "Host: a\r\n", Malformed::TwoHosts),
            ("GET http://u@a/ HTTP/1.1", "Host: a\r\n", Malformed::Host),
            (
                "GET http:///x HTTP/1.1",
                "Host: a\r\n",
                Malformed::RequestLine,
            ),
            ("GET * HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
            ("GET / HTTP/1.0", "", Malformed::NoHost),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nContent_Length: 1\r\n",
                Malformed::DisguisedFraming,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nTransfer_encoding: chunked\r\n",
                Malformed::DisguisedFraming,
            ),
            (
                "GET / HTTP/1.1",
                "Host: a\r\nContent-Length:\t1\r\n",
                Malformed::HeaderValue,
            ),
            ("GET / HTTP/1.1", "Host: a\t\r\n", Malformed::HeaderValue),
            (
                "GET ftp://a/ HTTP/1.1",
                "Host: a\r\n",
                Malformed::RequestLine,
            ),
            ("GET a HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
            ("GET /#x HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
            ("GET  / HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
            ("GET / HTTP/1.2", "Host: a\r\n", Malformed::Version),
            ("CONNECT /x HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
        ] {
            let head = format!("{line}\r\n{headers}\r\n");
            assert_eq!(request(&head).err(), Some(why), "{head}");
        }
    }

    #[test]
    fn what_policy_reads_is_what_passes() {
        let head = "GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: x-role\r\nX-Role: admin\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Once: 3\r\n\r\n";
        let request = request(head).unwrap();
        let headers = request.headers(head.as_bytes());
        let asked = request.asked(head.as_bytes(), &headers);
        assert_eq!(
            (asked.method, asked.path, asked.authority),
            ("GET", "/a", Some("a"))
        );
        assert_eq!(headers.lookup("x-role"), HeaderValue::Absent);
        assert_eq!(headers.lookup("x-twice"), HeaderValue::Many);
        assert_eq!(headers.lookup("x-once"), HeaderValue::One(b"3"));
    }

    #[test]
    fn responses_are_read_strictly_and_forwarded_as_they_came() {
        let read = |head: &str| {
            let mut response = ResponseHead::default();
            response.read(head.as_bytes()).map(|()| response)
        };
        let head = "HTTP/1.0 200 Very  Well\r\nContent-Length: 5\r\nConnection: keep-alive\r\nETag: \"a\"\r\n\r\n";
        let response = read(head).unwrap();
        assert_eq!(
            (response.status, response.content),
            (200, Declared::Length(5))
        );
        assert!(response.keeps_alive);
        let mut out = Vec::new();
        response.write(head.as_bytes(), b"connection: close\r\n", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 Very  Well\r\nContent-Length: 5\r\nETag: \"a\"\r\nconnection: close\r\n\r\n"
        );
        assert!(read("HTTP/1.1 204\r\n\r\n").is_ok());
        for head in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 O\x01K\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        ] {
            assert!(read(head).is_err(), "{head}");
        }
    }
}
