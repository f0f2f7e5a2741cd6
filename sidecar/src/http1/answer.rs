//! What this sidecar itself answers, as bytes.

use std::io::Write as _;

use crate::buffers;
use crate::http::refusal::Answer;

/// Writes an answer. One to HEAD only tells how long the content would be.
pub fn bytes(answer: &Answer, is_head: bool, closes: bool) -> Vec<u8> {
    let mut out = buffers::take();
    let reason = reason(answer.status);
    // A vector takes every write.
    let _ = write!(
        out,
        "HTTP/1.1 {} {reason}\r\n{}",
        answer.status, answer.lines
    );
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    let _ = write!(out, "content-length: {}\r\n\r\n", answer.content.len());
    if !is_head {
        out.extend_from_slice(answer.content.as_bytes());
    }
    out
}

/// RFC 9110 §15, of what a sidecar answers.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        421 => "Misdirected Request",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}
