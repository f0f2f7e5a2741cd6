//! What of a refused request may leave the sidecar: no query, nothing that looks like a secret, and some hundred bytes at most.

use weft_policy::{EncodedSlashes, FoldedPath};

/// Folded, without its query, and of bounded length. Of a path that is not in canonical form an operator must see why, so of
/// that only those segments go that could be secrets.
pub(super) fn folded(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let whole = FoldedPath::fold(path, EncodedSlashes::Keep, |_| false);
    if whole.is_not_canonical() {
        without_secrets(path)
    } else {
        whole.to_string()
    }
}

fn without_secrets(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let folded: Vec<&str> = path
        .split('/')
        .take(SEGMENT_LIMIT)
        .map(hide_secret)
        .collect();
    bounded(&folded.join("/")).to_owned()
}

fn hide_secret(segment: &str) -> &str {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_long = segment.len() > LONG_SEGMENT;
    let is_identifier = segment.len() >= IDENTIFIER_AT_LEAST && digits >= IDENTIFIER_DIGITS;
    if is_long || is_identifier {
        FOLDED
    } else {
        segment
    }
}

/// At most `FIELD_LIMIT` bytes, cut between characters.
pub(super) fn bounded(text: &str) -> &str {
    if text.len() <= FIELD_LIMIT {
        return text;
    }
    let end = (0..=FIELD_LIMIT)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Stands for a folded segment: unreserved, so that the path stays in canonical form.
const FOLDED: &str = "~";
const LONG_SEGMENT: usize = 32;
const IDENTIFIER_AT_LEAST: usize = 12;
const IDENTIFIER_DIGITS: usize = 4;
const SEGMENT_LIMIT: usize = 16;
const FIELD_LIMIT: usize = 256;
