//! HTTP/2 written by hand: what no library would send.

/// RFC 9113 §3.4, and empty SETTINGS.
pub fn opening() -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()
}

/// One frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length");
    let head = [&length.to_be_bytes()[1..], &[kind, flags]].concat();
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A header block without any compression (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            assert!(text.len() < 127, "longer lengths take more bytes");
            block.push(u8::try_from(text.len()).expect("it is short"));
            block.extend_from_slice(text);
        }
    }
    block
}

/// The header block of a `GET`.
pub fn get(path: &str, authority: &str) -> Vec<u8> {
    block(&[
        (":method", b"GET"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", authority.as_bytes()),
    ])
}

/// The kinds and payloads of the whole frames among the bytes.
pub fn read(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _flags, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if rest.len() < length {
            break;
        }
        frames.push((*kind, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    frames
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
