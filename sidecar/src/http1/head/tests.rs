//! What passes, and what is refused.

use weft_policy::{HeaderLookup as _, HeaderValue};

use super::*;

fn request(head: &str) -> Result<RequestHead, Malformed> {
    let mut request = RequestHead::default();
    request.read(head.as_bytes()).map(|()| request)
}

fn forwarded(head: &str) -> String {
    let request = request(head).expect("a good head");
    let mut out = Vec::new();
    request.write(head.as_bytes(), b"", &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_head_is_forwarded_as_it_came_but_for_what_belongs_to_one_hop() {
    let head = "GET /a%2fb//c/../d?x=%41 HTTP/1.1\r\nHost: A.b:80\r\nX-CamelCase:  padded \r\nAccept: */*\r\n\r\n";
    assert_eq!(forwarded(head), head);
    for (head, expected) in [
        (
            "GET / HTTP/1.1\r\nConnection: close, X-Private, host\r\nHost: a\r\nx-private: 1\r\nKeep-Alive: 5\r\nB: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nB: 2\r\n\r\n",
        ),
        (
            "GET http://A.b:1?q HTTP/1.1\r\nHost: a.B:1\r\n\r\n",
            "GET /?q HTTP/1.1\r\nHost: a.B:1\r\n\r\n",
        ),
        (
            "GET HTTPS://a/x HTTP/1.0\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nte: trailers\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
        ),
    ] {
        assert_eq!(forwarded(head), expected, "{head}");
    }
}

#[test]
fn row_04_no_spelling_of_the_client_certificate_passes() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: 1\r\nx_forwarded_client_cert: 2\r\n\
        X-FORWARDED_client-Cert: 3\r\nx-forwarded-client-certs: other\r\n\r\n";
    assert_eq!(
        forwarded(head),
        "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-certs: other\r\n\r\n"
    );
}

#[test]
fn row_17_h2c_is_never_asked_for() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    assert_eq!(request(head).unwrap().upgrade, Upgrade::None);
    assert_eq!(forwarded(head), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, other\r\n\r\n";
    assert_eq!(request(head).unwrap().upgrade, Upgrade::Ambiguous);
}

#[test]
fn row_05_heads_with_two_readings_are_refused() {
    for (line, headers, why) in [
        (
            "GET / HTTP/1.1",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            Malformed::TwoContentLengths,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nContent-Length: +1\r\n",
            Malformed::ContentLength,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            Malformed::LengthAndEncoding,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nTransfer-Encoding: xchunked\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "GET / HTTP/1.0",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            Malformed::TransferEncoding,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nTransfer-Encoding : chunked\r\n",
            Malformed::HeaderName,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\n X: folded\r\n",
            Malformed::FoldedHeader,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nX: a\rb\r\n",
            Malformed::HeaderValue,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nHost: a\r\n",
            Malformed::TwoHosts,
        ),
        ("GET / HTTP/1.1", "X: 1\r\n", Malformed::NoHost),
        ("GET / HTTP/1.1", "Host: a/b\r\n", Malformed::Host),
        ("GET / HTTP/1.1", "Host: a:x\r\n", Malformed::Host),
        ("GET http://b/ HTTP/1.1", "Host: a\r\n", Malformed::TwoHosts),
        ("GET http://u@a/ HTTP/1.1", "Host: a\r\n", Malformed::Host),
        (
            "GET http:///x HTTP/1.1",
            "Host: a\r\n",
            Malformed::RequestLine,
        ),
        ("GET * HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
        ("GET / HTTP/1.0", "", Malformed::NoHost),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nContent_Length: 1\r\n",
            Malformed::DisguisedFraming,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nTransfer_encoding: chunked\r\n",
            Malformed::DisguisedFraming,
        ),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nContent-Length:\t1\r\n",
            Malformed::HeaderValue,
        ),
        ("GET / HTTP/1.1", "Host: a\t\r\n", Malformed::HeaderValue),
        (
            "GET ftp://a/ HTTP/1.1",
            "Host: a\r\n",
            Malformed::RequestLine,
        ),
        ("GET a HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
        ("GET /#x HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
        ("GET  / HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
        ("GET / HTTP/1.2", "Host: a\r\n", Malformed::Version),
        ("CONNECT /x HTTP/1.1", "Host: a\r\n", Malformed::RequestLine),
    ] {
        let head = format!("{line}\r\n{headers}\r\n");
        assert_eq!(request(&head).err(), Some(why), "{head}");
    }
}

#[test]
fn what_policy_reads_is_what_passes() {
    let head = "GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: x-role\r\nX-Role: admin\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Once: 3\r\n\r\n";
    let request = request(head).unwrap();
    let headers = request.headers(head.as_bytes());
    let asked = request.asked(head.as_bytes(), &headers);
    assert_eq!(
        (asked.method, asked.path, asked.authority),
        ("GET", "/a", Some("a"))
    );
    assert_eq!(headers.lookup("x-role"), HeaderValue::Absent);
    assert_eq!(headers.lookup("x-twice"), HeaderValue::Many);
    assert_eq!(headers.lookup("x-once"), HeaderValue::One(b"3"));
}

#[test]
fn responses_are_read_strictly_and_forwarded_as_they_came() {
    let read = |head: &str| {
        let mut response = ResponseHead::default();
        response.read(head.as_bytes()).map(|()| response)
    };
    let head = "HTTP/1.0 200 Very  Well\r\nContent-Length: 5\r\nConnection: keep-alive\r\nETag: \"a\"\r\n\r\n";
    let response = read(head).unwrap();
    assert_eq!(
        (response.status, response.content),
        (200, Declared::Length(5))
    );
    assert!(response.keeps_alive);
    let mut out = Vec::new();
    response.write(head.as_bytes(), b"connection: close\r\n", &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 Very  Well\r\nContent-Length: 5\r\nETag: \"a\"\r\nconnection: close\r\n\r\n"
    );
    assert!(read("HTTP/1.1 204\r\n\r\n").is_ok());
    for head in [
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
    ] {
        assert!(read(head).is_err(), "{head}");
    }
}
