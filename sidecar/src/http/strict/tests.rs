//! Framing in pieces of any size, and what has two readings.

use super::*;
use crate::http1::RequestHead;
use crate::http1::content::{Content, Piece};

/// Reads all messages of the input; returns how many bytes they are, or why one is refused.
fn judge(input: &[u8]) -> Result<usize, Malformed> {
    feed(input, input.len())
}

/// The same in pieces, as they come from a socket.
fn feed(input: &[u8], piece: usize) -> Result<usize, Malformed> {
    let (mut passed, mut have, mut searched) = (0, 0, 0);
    let mut content = Content::Done;
    loop {
        let waiting = &input[passed..have];
        let count = if content.is_done() {
            let head = section_end(waiting, &mut searched)?;
            head.map_or(Ok(0), |length| {
                searched = 0;
                let mut request = RequestHead::default();
                request.read(&waiting[..length])?;
                content = Content::from(request.content);
                Ok(length)
            })?
        } else {
            match content.next(waiting)? {
                Piece::Data(count) | Piece::Framing(count) | Piece::Trailers(count) => count,
                Piece::More => 0,
            }
        };
        passed += count;
        if count == 0 {
            if have == input.len() {
                return Ok(passed);
            }
            have = (have + piece).min(input.len());
        }
    }
}

#[test]
fn well_framed_messages_pass_whole_in_pieces_of_any_size() {
    let cases: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET HTTPS://[::1]/a HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        b"CONNECT a:80 HTTP/1.0\r\n\r\n",
        b"GET http://a/ HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:a\r\n\r\nGET /b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA;x=\"y\\\"z;\"\r\n0123456789\r\n0\r\nTrail: er\r\nTwo: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX:\tpadded \t\r\nContent-Length: 0\r\n\r\n",
    ];
    for case in cases {
        for piece in [1, 2, 3, 7, case.len()] {
            let text = String::from_utf8_lossy(case);
            assert_eq!(
                feed(case, piece),
                Ok(case.len()),
                "in pieces of {piece}: {text}"
            );
        }
    }
}

#[test]
fn row_05_ambiguous_heads_are_refused() {
    let cases: [(&str, Malformed); 40] = [
        (
            "Content-Length: 5\r\nContent-Length: 5",
            Malformed::TwoContentLengths,
        ),
        (
            "Content-Length: 5\r\ncontent-length: 6",
            Malformed::TwoContentLengths,
        ),
        ("Content-Length: 5, 5", Malformed::ContentLength),
        ("Content-Length: +5", Malformed::ContentLength),
        ("Content-Length: -1", Malformed::ContentLength),
        ("Content-Length: 0x5", Malformed::ContentLength),
        ("Content-Length: ", Malformed::ContentLength),
        ("Content-Length: 5 5", Malformed::ContentLength),
        (
            "Content-Length: 99999999999999999999",
            Malformed::ContentLength,
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Malformed::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            Malformed::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: gzip, chunked",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked, chunked",
            Malformed::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Malformed::TransferEncoding,
        ),
        ("Transfer-Encoding: identity", Malformed::TransferEncoding),
        ("Transfer-Encoding: xchunked", Malformed::TransferEncoding),
        (
            "Transfer-Encoding: \"chunked\"",
            Malformed::TransferEncoding,
        ),
        ("Transfer-Encoding:\u{b}chunked", Malformed::HeaderValue),
        ("Transfer-Encoding : chunked", Malformed::HeaderName),
        ("Content-Length : 5", Malformed::HeaderName),
        ("Content-Length:\t5", Malformed::HeaderValue),
        ("Content-Length: 5 \t", Malformed::HeaderValue),
        ("Transfer-Encoding: \tchunked", Malformed::HeaderValue),
        ("Host: a ", Malformed::HeaderValue),
        ("Content_Length: 5", Malformed::DisguisedFraming),
        ("CONTENT_LENGTH: 5", Malformed::DisguisedFraming),
        ("Transfer_Encoding: chunked", Malformed::DisguisedFraming),
        (
            "Content-Length: 5\r\ntransfer_encoding: chunked",
            Malformed::DisguisedFraming,
        ),
        ("X: a\r\n b", Malformed::FoldedHeader),
        (
            "X: a\r\n\tTransfer-Encoding: chunked",
            Malformed::FoldedHeader,
        ),
        ("X: a\rTransfer-Encoding: chunked", Malformed::HeaderValue),
        ("X: a\nTransfer-Encoding: chunked", Malformed::BareLineFeed),
        ("X: a\0b", Malformed::HeaderValue),
        ("X: a\u{7f}b", Malformed::HeaderValue),
        ("X\0: a", Malformed::HeaderName),
        ("no colon", Malformed::HeaderName),
        (": empty", Malformed::HeaderName),
        ("Host: b", Malformed::TwoHosts),
        ("host: a", Malformed::TwoHosts),
        ("(x): a", Malformed::HeaderName),
    ];
    for (header, expected) in cases {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\nhello");
        assert_eq!(judge(input.as_bytes()), Err(expected), "{header:?}");
    }
}

#[test]
fn row_05_request_lines_and_hosts_with_two_readings_are_refused() {
    let cases: [(&str, Malformed); 26] = [
        ("GET a HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET a:80 HTTP/1.1\r\nHost: a:80", Malformed::RequestLine),
        ("GET * HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET ?b HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET http:/a/ HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET http:///a HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET http:// HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET file://a/ HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("CONNECT /a HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("CONNECT * HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET  / HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a", Malformed::RequestLine),
        ("GET /\tHTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET /a b HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET /a#b HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("G(T / HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET / HTTP/1.1\rX: y\r\nHost: a", Malformed::RequestLine),
        ("GET / HTTP/2.0\r\nHost: a", Malformed::Version),
        ("GET / http/1.1\r\nHost: a", Malformed::Version),
        ("GET /", Malformed::RequestLine),
        ("\r\nGET / HTTP/1.1\r\nHost: a", Malformed::RequestLine),
        ("GET / HTTP/1.1\r\nX: y", Malformed::NoHost),
        ("GET / HTTP/1.0\r\nX: y", Malformed::NoHost),
        ("GET / HTTP/1.1\r\nHost:", Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: a/b", Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: u@a", Malformed::Host),
    ];
    for (head, expected) in cases {
        assert_eq!(
            judge(format!("{head}\r\n\r\n").as_bytes()),
            Err(expected),
            "{head:?}"
        );
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judge(old.as_bytes()), Err(Malformed::TransferEncoding));
}

#[test]
fn row_05_bad_chunks_are_refused() {
    let cases: [(&str, Malformed); 25] = [
        ("+5\r\nhello\r\n", Malformed::ChunkSize),
        ("-5\r\nhello\r\n", Malformed::ChunkSize),
        (" 5\r\nhello\r\n", Malformed::ChunkSize),
        ("5 \r\nhello\r\n", Malformed::ChunkSize),
        ("0x5\r\nhello\r\n", Malformed::ChunkSize),
        ("5\nhello\r\n", Malformed::ChunkSize),
        ("\r\nhello\r\n", Malformed::ChunkSize),
        (";x\r\nhello\r\n", Malformed::ChunkSize),
        ("5;\r\nhello\r\n", Malformed::ChunkSize),
        ("5; x\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x\ry\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x=\"\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x=\"y\\\"\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x \r\nhello\r\n", Malformed::ChunkSize),
        ("5;x =y\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x=\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x={y}\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x=\"y\"z\r\nhello\r\n", Malformed::ChunkSize),
        ("5;x\0\r\nhello\r\n", Malformed::ChunkSize),
        ("10000000000000000\r\nhello\r\n", Malformed::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Malformed::ChunkSize),
        ("5\r\nhelloX\r\n", Malformed::ChunkEnd),
        ("5\r\nhello\n0\r\n", Malformed::ChunkEnd),
        ("0\r\nbad trailer\r\n\r\n", Malformed::HeaderName),
        ("0\r\nX: y\n\r\n", Malformed::BareLineFeed),
    ];
    for (chunks, expected) in cases {
        let input =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(judge(input.as_bytes()), Err(expected), "{chunks:?}");
    }
}

#[test]
fn row_11_headers_and_lines_of_chunks_have_a_limit() {
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "a: b\r\n".repeat(MAX_HEADERS)
    );
    assert_eq!(judge(many.as_bytes()), Err(Malformed::TooManyHeaders));
    let chunk = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;{}",
        "x".repeat(2000)
    );
    assert_eq!(judge(chunk.as_bytes()), Err(Malformed::ChunkSize));
}
