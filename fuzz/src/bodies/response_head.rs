//! The reader of HTTP/1.1 response heads that forwards them.

use weft_sidecar::http::strict;
use weft_sidecar::http1::ResponseHead;

/// What is forwarded is read again as the same response, by this reader and by another one.
pub(super) fn response_head(input: &[u8]) {
    let mut searched = 0;
    let Ok(Some(length)) = strict::section_end(input, &mut searched) else {
        return;
    };
    let head = &input[..length];
    let mut response = ResponseHead::default();
    if response.read(head).is_err() {
        return;
    }
    let mut forwarded = Vec::new();
    response.write(head, b"", &mut forwarded);
    let mut again = ResponseHead::default();
    again
        .read(&forwarded)
        .unwrap_or_else(|why| panic!("{why}: {}", forwarded.escape_ascii()));
    assert_eq!(again.status, response.status);
    assert_eq!(again.content, response.content);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Response::new(&mut fields);
    assert_eq!(
        other.parse(&forwarded),
        Ok(httparse::Status::Complete(forwarded.len())),
        "{}",
        forwarded.escape_ascii()
    );
    assert_eq!(other.code, Some(response.status));
}
