//! The reader of HTTP/1.1 request heads that forwards them.

use weft_sidecar::http::strict;
use weft_sidecar::http1::RequestHead;

/// What is forwarded is read again as the same request, by this reader and by another one, and is forwarded unchanged then.
pub(super) fn request_head(input: &[u8]) {
    let mut searched = 0;
    let Ok(Some(length)) = strict::section_end(input, &mut searched) else {
        return;
    };
    let head = &input[..length];
    let mut request = RequestHead::default();
    if request.read(head).is_err() {
        return;
    }
    let mut forwarded = Vec::new();
    request.write(head, b"", &mut forwarded);
    let mut again = RequestHead::default();
    again
        .read(&forwarded)
        .unwrap_or_else(|why| panic!("{why}: {}", forwarded.escape_ascii()));
    assert_eq!(again.method(&forwarded), request.method(head));
    assert_eq!(again.path(&forwarded), request.path(head));
    assert_eq!(again.authority(&forwarded), request.authority(head));
    assert_eq!(again.content, request.content);
    assert_eq!(again.upgrade, request.upgrade);
    let mut twice = Vec::new();
    again.write(&forwarded, b"", &mut twice);
    let folded = |bytes: &[u8]| bytes.to_ascii_lowercase();
    if request.upgrade.protocol().is_none() && !folded(head).windows(4).any(|part| part == b"\nte:")
    {
        assert_eq!(twice, forwarded, "{}", forwarded.escape_ascii());
    }
    another_reader_agrees(&forwarded, &request, head);
}

fn another_reader_agrees(forwarded: &[u8], request: &RequestHead, head: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut fields);
    let parsed = other.parse(forwarded);
    assert_eq!(
        parsed,
        Ok(httparse::Status::Complete(forwarded.len())),
        "{}",
        forwarded.escape_ascii()
    );
    assert_eq!(other.method, Some(request.method(head)));
    for field in other.headers.iter() {
        let name = field.name.to_ascii_lowercase().replace('_', "-");
        assert_ne!(name, "x-forwarded-client-cert");
    }
}
