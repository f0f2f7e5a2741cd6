//! Where one HTTP/1.1 request ends and the next begins, judged byte for byte before any other parser sees it.
//!
//! Invariant: bytes are passed on only when they belong to a message whose framing has exactly one reading
//! (RFC 9112). A request that two parsers could read differently is refused, never repaired.
//! Pure: no socket and no clock; [`super::guard`] does the reading.

use thiserror::Error;

/// Most header lines of one head.
pub const MAX_HEADERS: usize = 100;
/// Longest line that carries a chunk's size and extensions.
pub const MAX_CHUNK_LINE: usize = 1024;
/// Longest trailer section.
pub const MAX_TRAILERS: usize = 16 * 1024;

/// Why a message was refused. Carries no bytes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("the request line is malformed")]
    RequestLine,
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    #[error("a line ends without CR LF")]
    BareLineFeed,
    #[error("a header name is malformed")]
    HeaderName,
    #[error("a header has a control character")]
    HeaderValue,
    #[error("a header is folded over lines")]
    FoldedHeader,
    #[error("the head is too long")]
    HeadTooLong,
    #[error("the head has more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    #[error("Host is missing")]
    NoHost,
    #[error("Host is given twice")]
    TwoHosts,
    #[error("Host is malformed")]
    Host,
    #[error("Content-Length is given twice")]
    TwoContentLengths,
    #[error("Content-Length is not a number")]
    ContentLength,
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    #[error("Content-Length and Transfer-Encoding are both given")]
    LengthAndEncoding,
    #[error("Content-Length or Transfer-Encoding is spelled with `_`")]
    DisguisedFraming,
    #[error("a chunk's size is malformed")]
    ChunkSize,
    #[error("a chunk does not end with CR LF")]
    ChunkEnd,
    #[error("the trailers are malformed")]
    Trailers,
}

/// Finds the empty line that ends a head or trailers; a line feed without its carriage return is an error. `searched` bytes were looked at
/// before.
pub fn section_end(input: &[u8], searched: &mut usize) -> Result<Option<usize>, Malformed> {
    let mut from = *searched;
    while let Some(at) = memchr::memchr(b'\n', input.get(from..).unwrap_or_default()) {
        let line = input.get(..from + at).unwrap_or_default();
        if !line.ends_with(b"\r") {
            return Err(Malformed::BareLineFeed);
        }
        from += at + 1;
        if line == b"\r" || line.ends_with(b"\r\n\r") {
            return Ok(Some(from));
        }
    }
    *searched = from;
    Ok(None)
}

/// A value of `Host`, as far as its bytes go.
pub fn check_host(value: &[u8]) -> Result<(), Malformed> {
    if value.is_empty() || !value.iter().all(|byte| is_host_byte(*byte)) {
        return Err(Malformed::Host);
    }
    Ok(())
}

/// Where a request's content ends, as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    Fixed(u64),
    Chunked,
}

pub struct RequestLine<'l> {
    pub method: &'l [u8],
    pub target: &'l [u8],
    pub is_1_1: bool,
}

impl RequestLine<'_> {
    /// HTTP/1.0 may leave `Host` out, but what goes on is HTTP/1.1 and must name one: then the target has to.
    pub fn needs_host(&self) -> bool {
        self.is_1_1 || self.target.starts_with(b"/") || self.target == b"*"
    }
}

/// `method SP request-target SP HTTP-version`, single spaces, nothing else (RFC 9112 §3).
pub fn read_request_line(line: &[u8]) -> Result<RequestLine<'_>, Malformed> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::RequestLine);
    };
    // `#` never stands in a request target (RFC 9112 §3.2); parsers cut it off silently.
    let target_is_clean = !target.is_empty()
        && target.iter().fold(true, |clean, byte| {
            clean & (*byte > b' ') & (*byte != 0x7f) & (*byte != b'#')
        });
    if !is_token(method) || !target_is_clean || !has_a_form(target, method) {
        return Err(Malformed::RequestLine);
    }
    let is_1_1 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Malformed::Version),
    };
    Ok(RequestLine {
        method,
        target,
        is_1_1,
    })
}

/// Whether the target has one of the four forms, and the one that goes with its method (RFC 9112 §3.2): of any other, the path is
/// what its reader makes of it.
fn has_a_form(target: &[u8], method: &[u8]) -> bool {
    if method == b"CONNECT" {
        return !target.contains(&b'/') && target != b"*";
    }
    if target == b"*" {
        return method == b"OPTIONS";
    }
    target.starts_with(b"/") || after_scheme(target).is_some_and(is_host_byte)
}

/// The first byte of an absolute target's authority.
fn after_scheme(target: &[u8]) -> Option<u8> {
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let after = |scheme: &[u8]| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    schemes.into_iter().find_map(after)?.first().copied()
}

/// `name ":" OWS value OWS`, without a space before the colon (RFC 9112 §5.1) and without folding (§5.2).
pub fn read_header(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if line
        .first()
        .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Err(Malformed::FoldedHeader);
    }
    let colon = memchr::memchr(b':', line).ok_or(Malformed::HeaderName)?;
    let (name, value) = line.split_at(colon);
    let value = value.strip_prefix(b":").unwrap_or_default();
    if !is_token(name) {
        return Err(Malformed::HeaderName);
    }
    if value
        .iter()
        .fold(false, |bad, byte| bad | is_control(*byte))
    {
        return Err(Malformed::HeaderValue);
    }
    let trimmed = trim(value);
    if trimmed.len() < value.len() && has_odd_blanks(name, value) {
        return Err(Malformed::HeaderValue);
    }
    Ok((name, trimmed))
}

/// Whether blanks stand around a value that says where a message ends, or where it goes, and not every reader takes them away: tabs, and
/// behind a host any.
fn has_odd_blanks(name: &[u8], value: &[u8]) -> bool {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match value.contains(&b'\t') {
        true => is(b"host") || FRAMING.into_iter().any(is),
        false => is(b"host") && value.ends_with(b" "),
    }
}

/// Whether a name is that of a framing header but for `_`, which gateways read as `-` (RFC 3875 §4.1.18).
pub fn disguises_framing(name: &[u8]) -> bool {
    let is_like = |framing: &[u8]| {
        let same = |(byte, other): (&u8, &u8)| {
            byte.eq_ignore_ascii_case(other) || (*byte, *other) == (b'_', b'-')
        };
        name.len() == framing.len() && name.iter().zip(framing).all(same)
    };
    name.contains(&b'_') && FRAMING.into_iter().any(is_like)
}

pub fn read_length(value: &[u8]) -> Result<u64, Malformed> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or(Malformed::ContentLength)
}

/// `1*HEXDIG [chunk-ext]`.
pub fn read_chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, extension) = line.split_at(digits);
    // Sixteen digits fit 64 bits; more could only overflow or hide behind zeros.
    if digits.is_empty() || digits.len() > 16 || !is_extension(extension) {
        return Err(Malformed::ChunkSize);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::ChunkSize)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed::ChunkSize)
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`: RFC 9112 §7.1.1 without the blanks, which are for bad senders only and not for
/// every reader. An open quote or a control character would let some read on over the line's end.
fn is_extension(mut rest: &[u8]) -> bool {
    while let Some(after) = rest.strip_prefix(b";") {
        let name = token_length(after);
        rest = after.get(name..).unwrap_or_default();
        let mut is_whole = name > 0;
        if let Some(value) = rest.strip_prefix(b"=") {
            let length = quoted_length(value).unwrap_or_else(|| token_length(value));
            rest = value.get(length..).unwrap_or_default();
            is_whole &= length > 0;
        }
        if !is_whole {
            return false;
        }
    }
    rest.is_empty()
}

fn token_length(text: &[u8]) -> usize {
    let token = text.iter().take_while(|byte| is_token_byte(**byte));
    token.count()
}

/// The length of a quoted string at the front, with its quotes (RFC 9110 §5.6.4).
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.strip_prefix(b"\"")?.iter().enumerate() {
        match byte {
            0..b' ' | 0x7f => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Without a branch, so that many bytes are asked at a time.
fn is_control(byte: u8) -> bool {
    (byte < b' ') & (byte != b'\t') | (byte == 0x7f)
}

pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

fn is_token_byte(byte: u8) -> bool {
    // One bit a byte: heads are full of names.
    byte < 128 && TOKEN >> byte & 1 == 1
}

/// RFC 9110 §5.6.2, `tchar`: the bit of each byte that is one.
const TOKEN: u128 = {
    let signs = b"!#$%&'*+-.^_`|~";
    let (mut bits, mut byte) = (0, 0_u8);
    while byte < 128 {
        let mut is_token = byte.is_ascii_alphanumeric();
        let mut rest: &[u8] = signs;
        while let [sign, others @ ..] = rest {
            is_token |= *sign == byte;
            rest = others;
        }
        if is_token {
            bits |= 1_u128 << byte;
        }
        byte += 1;
    }
    bits
};

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&byte)
}

const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];

#[cfg(test)]
mod tests;
