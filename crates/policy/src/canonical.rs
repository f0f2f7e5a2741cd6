//! When a path is in canonical form: when no server could read it as another path than a rule does.
//!
//! Invariant: of two different texts that a lenient server maps to the same resource, at most one is canonical.

use std::ops::ControlFlow;

/// Whether a service's paths may hold an encoded slash (`Service`, `encodedSlashes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EncodedSlashes {
    #[default]
    Refuse,
    Keep,
}

/// Whether `path`, as on the wire and without its query, is in canonical form.
///
/// An encoded slash that the service keeps still separates segments here, so that `/a/..%2fb` stays refused.
pub fn is_canonical(path: &str, encoded_slashes: EncodedSlashes) -> bool {
    let bytes = path.as_bytes();
    let Some((b'/', mut rest)) = bytes.split_first() else {
        return false;
    };
    if is_plain(rest) {
        return true;
    }
    let mut segment = Segment::default();
    while let Some((unit, after)) = next_unit(rest) {
        let step = match unit {
            Unit::Plain(b'/') => segment.end(),
            Unit::Encoded(b'/') if encoded_slashes == EncodedSlashes::Keep => segment.end(),
            Unit::Plain(byte) if may_stand_plain(byte) => segment.push(byte),
            Unit::Encoded(byte) if may_stand_encoded(byte) => segment.push(byte),
            Unit::Plain(_) | Unit::Encoded(_) | Unit::BadEscape => ControlFlow::Break(()),
        };
        if step.is_break() {
            return false;
        }
        rest = after;
    }
    !segment.is_dots()
}

/// Whether it holds nothing that would have to be looked at more closely, as most paths do; `false` only means that it must be. `rest` comes after a slash.
fn is_plain(rest: &[u8]) -> bool {
    // All is looked at and nothing branched on, since nearly all paths are plain. SLASH is NOT_FIRST shifted by one: after a slash,
    // what may not come first is refused.
    let (found, _) = rest.iter().fold((0, SLASH), |(found, before), byte| {
        let kind = KINDS.get(usize::from(*byte)).copied().unwrap_or(OTHER);
        let refused = OTHER | ((before & SLASH) >> 1);
        (found | (kind & refused), kind)
    });
    found == 0
}

/// Wherever it stands, nothing needs a closer look.
const INSIDE: u8 = 0;
/// Not where a segment begins: a dot there may be a dot segment, a slash ends an empty one.
const NOT_FIRST: u8 = 1;
/// After it a segment begins.
const SLASH: u8 = NOT_FIRST << 1;
const OTHER: u8 = 1 << 2;

/// What each byte is to [`is_plain`].
#[expect(clippy::indexing_slicing, reason = "a byte is less than 256")]
static KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte = u8::MAX;
    loop {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => INSIDE,
            b'.' => NOT_FIRST,
            b'/' => NOT_FIRST | SLASH,
            _ => OTHER,
        };
        if byte == 0 {
            break kinds;
        }
        byte -= 1;
    }
};

enum Unit {
    Plain(u8),
    Encoded(u8),
    BadEscape,
}

fn next_unit(bytes: &[u8]) -> Option<(Unit, &[u8])> {
    match bytes {
        [] => None,
        [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => Some((Unit::Encoded(high << 4 | low), after)),
            _ => Some((Unit::BadEscape, after)),
        },
        [b'%', after @ ..] => Some((Unit::BadEscape, after)),
        [byte, after @ ..] => Some((Unit::Plain(*byte), after)),
    }
}

/// Bytes outside ASCII have the canonical form `%xx`; `?` and `#` end a path.
fn may_stand_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#')
}

/// RFC 3986 §2.3: an unreserved character is not encoded.
fn may_stand_encoded(byte: u8) -> bool {
    let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !unreserved && !byte.is_ascii_control() && !matches!(byte, b'/' | b'\\')
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// What has been read of one segment: enough to know an empty one and a dot segment.
#[derive(Default)]
struct Segment {
    length: usize,
    /// Dots that it consists of so far, before any `;`.
    dots: usize,
    /// After a `;`: some servers strip such parameters before they resolve dots.
    in_parameters: bool,
}

impl Segment {
    fn push(&mut self, byte: u8) -> ControlFlow<()> {
        self.in_parameters |= byte == b';';
        if !self.in_parameters {
            self.length += 1;
            self.dots += usize::from(byte == b'.');
        } else if self.length == 0 && self.dots == 0 {
            // `;x` alone: a server that strips it reads an empty segment
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn end(&mut self) -> ControlFlow<()> {
        if self.length == 0 || self.is_dots() {
            return ControlFlow::Break(());
        }
        *self = Self::default();
        ControlFlow::Continue(())
    }

    fn is_dots(&self) -> bool {
        self.dots == self.length && matches!(self.length, 1 | 2)
    }
}
