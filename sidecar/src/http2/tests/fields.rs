//! What fields become in HTTP/1.1, and which are refused.

use super::*;
use crate::http2::reading::{Feed, Reading};

fn request(ends: bool, fields: &[(&str, &str)]) -> Result<(String, Feed), &'static str> {
    let mut reading = Reading::default();
    reading.clear(false);
    for (name, value) in fields {
        reading.field(name.as_bytes(), value.as_bytes());
    }
    let mut out = Vec::new();
    let written = reading.request(ends, &mut out)?;
    Ok((String::from_utf8(out).expect("text"), written.feed))
}

fn response(
    ends: bool,
    is_head: bool,
    fields: &[(&str, &str)],
) -> Result<(String, Feed), &'static str> {
    let mut reading = Reading::default();
    reading.clear(false);
    for (name, value) in fields {
        reading.field(name.as_bytes(), value.as_bytes());
    }
    let mut out = Vec::new();
    let written = reading.response(ends, is_head, &mut out)?;
    Ok((String::from_utf8(out).expect("text"), written.feed))
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&ask("POST", "/p")[..], more].concat()
}

#[test]
fn requests_are_written_as_http_1_has_them() {
    let (text, feed) = request(true, &ask("GET", "/a?b")).unwrap();
    assert_eq!(text, "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(feed, Feed::Whole);
    let more = with(&[
        ("content-length", "3"),
        ("cookie", "a=1"),
        ("te", "trailers"),
        ("cookie", "b=2"),
    ]);
    let (text, feed) = request(false, &more).unwrap();
    assert_eq!(
        text,
        "POST /p HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2\r\ncontent-length: 3\r\nte: trailers\r\n\r\n"
    );
    assert_eq!(feed, Feed::Fixed(3));
    // Trailers may follow, for which a length leaves no place; it holds all the same.
    let (text, feed) = request(false, &with(&[("content-length", "3"), ("trailer", "x")])).unwrap();
    assert!(text.contains("transfer-encoding: chunked") && !text.contains("content-length"));
    assert_eq!(feed, Feed::Chunks(Some(3)));
    assert_eq!(request(false, &with(&[])).unwrap().1, Feed::Chunks(None));
    let connect = [(":method", "CONNECT"), (":authority", "a:1")];
    let (text, feed) = request(false, &connect).unwrap();
    assert_eq!(text, "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    assert_eq!(feed, Feed::Nothing);
}

#[test]
fn row_03_host_and_authority_that_differ_both_stand_in_the_head_for_the_judge() {
    let (text, _) = request(true, &[&ask("GET", "/x")[..], &[("host", "b")]].concat()).unwrap();
    assert_eq!(text, "GET http://a/x HTTP/1.1\r\nhost: b\r\n\r\n");
    let mut head = crate::http1::head::RequestHead::default();
    assert!(head.read(text.as_bytes()).is_err());
    // Behind an authority the asterisk would be a part of it, which `Host` could then name.
    let star = [&ask("OPTIONS", "*")[..], &[("host", "a*")]].concat();
    assert!(request(true, &star).is_err());
    assert!(request(true, &ask("OPTIONS", "*")).is_ok());
}

#[test]
fn row_05_requests_of_http_2_with_two_readings_are_refused() {
    let whole = ask("GET", "/");
    for without in 0..3 {
        let mut fields = whole.to_vec();
        fields.remove(without);
        assert!(request(true, &fields).is_err(), "{fields:?}");
    }
    for twice in 0..4 {
        let mut fields = whole.to_vec();
        fields.insert(0, whole[twice]);
        assert!(request(true, &fields).is_err(), "{fields:?}");
    }
    for (at, value) in [
        (0, "GET /x"),
        (0, ""),
        (0, "G\r\nT"),
        (1, "ftp"),
        (1, "http\r"),
        (2, ""),
        (2, "a"),
        (2, "/a b"),
        (2, "/\r\nx: y"),
        (2, "/\0"),
        (2, "*"),
        (2, "http://b/"),
        (3, ""),
        (3, "a b"),
        (3, "a/b"),
        (3, "u@a"),
        (3, "a\r\nx: y"),
        (3, "a?b"),
    ] {
        let mut fields = whole;
        fields[at].1 = value;
        assert!(request(true, &fields).is_err(), "{fields:?}");
    }
    for field in [
        ("X", "upper case"),
        ("", "no name"),
        ("a b", ""),
        ("a:", ""),
        ("a\r\nb", ""),
        ("a\0", ""),
        (":path", "late"),
        (":status", "200"),
        (":protocol", "x"),
        (":", "x"),
        ("a", "b\r\nc: d"),
        ("a", "b\nc"),
        ("a", "b\0"),
        ("a", " b"),
        ("a", "b "),
        ("a", "\tb"),
        ("a", "\x7f"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("te", "gzip"),
        ("content-length", "+1"),
        ("content-length", "1, 1"),
        ("content-length", ""),
        ("content-length", "99999999999999999999"),
        ("host", ""),
    ] {
        assert!(request(false, &with(&[field])).is_err(), "{field:?}");
    }
    for twice in [("content-length", "1"), ("host", "a")] {
        assert!(request(false, &with(&[twice])).is_ok());
        assert!(request(false, &with(&[twice, twice])).is_err(), "{twice:?}");
    }
    let late = [&whole[..1], &[("a", "b")], &whole[1..]].concat();
    assert!(request(true, &late).is_err(), "{late:?}");
    // Content that was announced has to come.
    assert!(request(true, &with(&[("content-length", "1")])).is_err());
    assert!(request(true, &with(&[("content-length", "0")])).is_ok());
    assert!(
        request(
            true,
            &[(":method", "CONNECT"), (":authority", "a"), (":path", "/")]
        )
        .is_err()
    );
}

#[test]
fn responses_are_written_as_http_1_has_them_or_refused() {
    let (text, feed) = response(true, false, &[(":status", "404"), ("a", "b")]).unwrap();
    assert_eq!(text, "HTTP/1.1 404 \r\ncontent-length: 0\r\na: b\r\n\r\n");
    assert_eq!(feed, Feed::Whole);
    // What a HEAD would have got is said, and does not come.
    let (text, feed) =
        response(false, true, &[(":status", "200"), ("content-length", "9")]).unwrap();
    assert!(text.contains("content-length: 9"));
    assert_eq!(feed, Feed::Fixed(0));
    assert_eq!(
        response(true, false, &[(":status", "204")]).unwrap().0,
        "HTTP/1.1 204 \r\n\r\n"
    );
    let (text, _) = response(false, false, &[(":status", "103"), ("link", "x")]).unwrap();
    assert_eq!(text, "HTTP/1.1 103 \r\nlink: x\r\n\r\n");
    for fields in [
        &[][..],
        &[("a", "b")],
        &[(":status", "20")],
        &[(":status", "2000")],
        &[(":status", "099")],
        &[(":status", "+20")],
        &[(":status", "101")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
        &[(":status", "200"), ("connection", "close")],
        &[("a", "b"), (":status", "200")],
    ] {
        assert!(response(false, false, fields).is_err(), "{fields:?}");
    }
    assert!(response(true, false, &[(":status", "100")]).is_err());
    assert!(response(true, false, &[(":status", "200"), ("content-length", "1")]).is_err());
}

#[test]
fn trailers_frame_and_route_nothing() {
    let mut reading = Reading::default();
    reading.clear(true);
    for (name, value) in [
        ("host", "b"),
        ("content-length", "5"),
        ("grpc-status", "0"),
        ("cookie", "x"),
    ] {
        reading.field(name.as_bytes(), value.as_bytes());
    }
    let mut out = Vec::new();
    reading.trailers(&mut out).unwrap();
    assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
    for (name, value) in [
        (":path", "/"),
        (":status", "200"),
        ("transfer-encoding", "chunked"),
        ("a", "b\r\n\r\nGET /"),
    ] {
        reading.clear(true);
        reading.field(name.as_bytes(), value.as_bytes());
        assert!(reading.trailers(&mut Vec::new()).is_err(), "{name}");
    }
}
