//! Frames of HTTP/2 on the wire (RFC 9113 §4, §6), as far as both ends write and check them alone.

/// What a client's connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes in front of every payload.
pub const HEADER: usize = 9;
/// The longest payload: nobody announces more, and every peer takes as much.
pub const MOST_PAYLOAD: usize = 16 * 1024;
/// The largest window (RFC 9113 §6.9.1).
pub const MOST_WINDOW: i64 = (1 << 31) - 1;
/// What every window begins with (RFC 9113 §6.9.2).
pub const FIRST_WINDOW: i64 = 65_535;

/// RFC 9113 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// Of an extension: thrown away (RFC 9113 §5.5).
    Unknown,
}

impl Kind {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::Reset => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown => u8::MAX,
        }
    }
}

pub const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

/// What stands in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    pub kind: Kind,
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Header {
    /// None: more bytes are needed.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEADER>()?;
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        Some(Self {
            length: usize::try_from(length).ok()?,
            kind: Kind::of(*kind),
            flags: *flags,
            stream: u32::from_be_bytes(*stream) & RESERVED,
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame's header; its payload of `length` bytes follows.
pub fn begin(kind: Kind, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    let [_, length @ ..] = length;
    out.extend_from_slice(&length);
    out.push(kind.number());
    out.push(flags);
    out.extend_from_slice(&stream.to_be_bytes());
}

pub fn write(kind: Kind, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    begin(kind, flags, stream, payload.len(), out);
    out.extend_from_slice(payload);
}

pub fn window_update(stream: u32, more: u32, out: &mut Vec<u8>) {
    write(Kind::WindowUpdate, 0, stream, &more.to_be_bytes(), out);
}

pub fn reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    write(Kind::Reset, 0, stream, &code.number().to_be_bytes(), out);
}

pub fn go_away(last: u32, code: Code, out: &mut Vec<u8>) {
    begin(Kind::GoAway, 0, 0, 8, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.number().to_be_bytes());
}

pub fn settings(settings: &[(Setting, u32)], out: &mut Vec<u8>) {
    begin(Kind::Settings, 0, 0, settings.len() * SETTING, out);
    for (setting, value) in settings {
        out.extend_from_slice(&setting.number().to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The first four bytes of a payload as a number.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}

/// RFC 9113 §6.5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    HeaderTableSize,
    EnablePush,
    MaxConcurrentStreams,
    InitialWindowSize,
    MaxFrameSize,
    MaxHeaderListSize,
    /// Of an extension.
    Other,
}

impl Setting {
    fn of(number: u16) -> Self {
        match number {
            1 => Self::HeaderTableSize,
            2 => Self::EnablePush,
            3 => Self::MaxConcurrentStreams,
            4 => Self::InitialWindowSize,
            5 => Self::MaxFrameSize,
            6 => Self::MaxHeaderListSize,
            _ => Self::Other,
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::HeaderTableSize => 1,
            Self::EnablePush => 2,
            Self::MaxConcurrentStreams => 3,
            Self::InitialWindowSize => 4,
            Self::MaxFrameSize => 5,
            Self::MaxHeaderListSize => 6,
            Self::Other => u16::MAX,
        }
    }
}

/// The settings of a payload. None: it has no whole number of them.
pub fn read_settings(payload: &[u8]) -> Option<impl Iterator<Item = (Setting, u32)>> {
    let whole = payload.len().is_multiple_of(SETTING);
    whole.then(|| {
        payload.chunks_exact(SETTING).filter_map(|setting| {
            let (id, value) = setting.split_first_chunk::<2>()?;
            Some((Setting::of(u16::from_be_bytes(*id)), number(value)?))
        })
    })
}

/// RFC 9113 §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError,
    Protocol,
    Internal,
    FlowControl,
    StreamClosed,
    FrameSize,
    Refused,
    Cancel,
    Compression,
    Calm,
}

impl Code {
    pub fn number(self) -> u32 {
        match self {
            Self::NoError => 0,
            Self::Protocol => 1,
            Self::Internal => 2,
            Self::FlowControl => 3,
            Self::StreamClosed => 5,
            Self::FrameSize => 6,
            Self::Refused => 7,
            Self::Cancel => 8,
            Self::Compression => 9,
            Self::Calm => 11,
        }
    }
}

/// What a peer did that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why} ({code:?})")]
pub struct Fault {
    pub code: Code,
    pub why: &'static str,
}

impl Fault {
    pub fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }

    pub fn protocol(why: &'static str) -> Self {
        Self::new(Code::Protocol, why)
    }
}

/// Bytes of one setting.
const SETTING: usize = 6;
/// The first bit of a stream's number says nothing.
const RESERVED: u32 = u32::MAX >> 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        for kind in [Kind::Data, Kind::Headers, Kind::Continuation] {
            let mut out = Vec::new();
            write(kind, END_STREAM, 5, b"abc", &mut out);
            let header = Header::read(&out).unwrap();
            assert_eq!((header.length, header.kind, header.stream), (3, kind, 5));
            assert!(header.has(END_STREAM) && !header.has(PADDED));
            assert_eq!(&out[HEADER..], b"abc");
        }
        assert_eq!(Header::read(&[0; HEADER - 1]), None);
        let reserved = [0, 0, 0, 0x77, 0, 0xff, 0xff, 0xff, 0xff];
        let header = Header::read(&reserved).unwrap();
        assert_eq!((header.kind, header.stream), (Kind::Unknown, u32::MAX >> 1));
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let sent = [
            (Setting::MaxConcurrentStreams, 7),
            (Setting::InitialWindowSize, 1 << 20),
        ];
        let mut out = Vec::new();
        settings(&sent, &mut out);
        let read: Vec<_> = read_settings(&out[HEADER..]).unwrap().collect();
        assert_eq!(read, sent);
        assert!(read_settings(&out[HEADER + 1..]).is_none());
    }
}
