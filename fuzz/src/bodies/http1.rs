//! The strict reader of HTTP/1.1 framing.

use weft_sidecar::http::strict::{Framing, Malformed, Step};

/// The first byte says how the rest is cut into pieces; framing must not depend on it. A head that passes has one reading.
pub(super) fn http1(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    let whole = judge(stream, stream.len().max(1));
    let in_pieces = judge(stream, usize::from(*cut) % 32 + 1);
    assert_eq!(whole, in_pieces, "in pieces and at once");
}

/// How many bytes passed, and what stopped the rest. Every upgrade is declined.
fn judge(stream: &[u8], piece: usize) -> (usize, Option<Malformed>) {
    let mut framing = Framing::new(MAX_HEAD);
    let (mut passed, mut known) = (0, 0);
    loop {
        match framing.advance(&stream[passed..known]) {
            Ok(Step::Pass(count)) => {
                assert!(
                    count > 0 && passed + count <= known,
                    "nothing unseen passes"
                );
                passed += count;
            }
            Ok(Step::PassHead(count)) => {
                assert!(
                    count > 0 && passed + count <= known,
                    "nothing unseen passes"
                );
                assert_has_one_reading(&stream[passed..passed + count]);
                passed += count;
            }
            Ok(Step::Hold) => framing.resume(),
            Ok(Step::More) if known == stream.len() => return (passed, None),
            Ok(Step::More) => known = (known + piece).min(stream.len()),
            Err(why) => return (passed, Some(why)),
        }
    }
}

/// Another parser finds the same end and the same fields.
fn assert_has_one_reading(head: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head);
    assert_eq!(
        parsed,
        Ok(httparse::Status::Complete(head.len())),
        "{:?}",
        String::from_utf8_lossy(head)
    );
    let lines = head.split(|byte| *byte == b'\n').count();
    // The request line, the empty line and what follows the last line feed.
    assert_eq!(request.headers.len() + 3, lines);
}

/// Within the length of inputs, so that the limit is met too.
const MAX_HEAD: usize = 2048;
