//! What this sidecar itself answers, as bytes.

use http::Response;
use http_body::Body as _;

use crate::buffers;
use crate::http::Body;

/// Writes an answer whose content is at hand. An answer to HEAD only tells how long the content would be.
pub fn bytes(response: Response<Body>, is_head: bool, closes: bool) -> Vec<u8> {
    let mut out = buffers::take();
    let (head, body) = response.into_parts();
    let reason = head.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).as_bytes());
    for (name, value) in &head.headers {
        write_line(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    if closes {
        write_line(&mut out, b"connection", b"close");
    }
    let length = body.size_hint().exact().unwrap_or(0);
    write_line(&mut out, b"content-length", length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(body.as_whole());
    }
    out
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
