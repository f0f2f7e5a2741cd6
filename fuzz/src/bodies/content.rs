//! Where the content of an HTTP/1.1 message ends.

use weft_sidecar::http::strict::Malformed;
use weft_sidecar::http1::content::{Content, Piece, clean_trailers};

/// The first byte says how the rest is cut into pieces; where content ends must not depend on it.
pub(super) fn content(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    let start = if cut.is_multiple_of(2) {
        Content::ChunkSize
    } else {
        Content::Fixed(u64::from(*cut) * 3)
    };
    let whole = read(start, stream, stream.len().max(1));
    let in_pieces = read(start, stream, usize::from(*cut) / 8 + 1);
    assert_eq!(whole, in_pieces, "in pieces and at once");
}

/// The data, how far it was read, and what stopped it.
fn read(mut content: Content, stream: &[u8], step: usize) -> (Vec<u8>, usize, Option<Malformed>) {
    let (mut data, mut at, mut known) = (Vec::new(), 0, 0);
    while !content.is_done() {
        let piece = match content.next(&stream[at..known]) {
            Ok(piece) => piece,
            Err(why) => return (data, at, Some(why)),
        };
        match piece {
            Piece::Data(count) => {
                assert!(count > 0, "it goes on");
                data.extend_from_slice(&stream[at..at + count]);
                at += count;
            }
            Piece::Framing(count) => at += count,
            Piece::Trailers(count) => {
                let section = &stream[at..at + count];
                let clean = clean_trailers(section).unwrap_or_else(|| section.to_vec());
                assert!(clean.ends_with(b"\r\n"));
                assert_eq!(clean_trailers(&clean), None, "clean once is clean");
                at += count;
            }
            Piece::More if known == stream.len() => break,
            Piece::More => known = (known + step).min(stream.len()),
        }
    }
    (data, at, None)
}
