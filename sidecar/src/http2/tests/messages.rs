//! Messages over one slot after the other, answers that come early, and what becomes of slots.

use super::*;
use crate::http2::hpack::Decoder;

/// A stream, its fields, and whether it ends with them.
type Head = (u32, Vec<(String, String)>, bool);

/// Every head that the peer gets.
fn heads(wire: &mut Wire) -> Vec<Head> {
    let mut decoder = Decoder::new(4096);
    let frames = wire.sent().into_iter();
    frames
        .filter(|(header, _)| header.kind == Kind::Headers)
        .map(|(header, payload)| {
            let mut fields = Vec::new();
            let text = |text: &[u8]| String::from_utf8(text.to_vec()).expect("text");
            let _ = decoder
                .decode(&payload, usize::MAX, &mut |name, value| {
                    fields.push((text(name), text(value)))
                })
                .expect("a block");
            (header.stream, fields, header.has(END_STREAM))
        })
        .collect()
}

#[test]
fn thousands_of_early_answers_over_one_connection_are_no_fault() {
    let mut wire = Wire::server();
    for count in 0..5_000 {
        let stream = 2 * count + 1;
        wire.takes(&post(stream, "/upload"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        let answer = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
        wire.writes(slot, answer);
        wire.state.end(slot);
        wire.state.detach(slot);
        assert_eq!(
            wire.kinds(),
            [
                Said::Frame(stream, Kind::Headers, false),
                Said::Frame(stream, Kind::Data, true),
                was_reset(stream, Code::NoError),
            ]
        );
        // What was on its way, and a client that cancels what it has the answer of.
        wire.takes(&data(stream, false, &[0; 1000]));
        wire.takes(&reset(stream));
        wire.sent();
        assert_eq!(wire.state.held(), 0, "after {stream}");
    }
}

#[test]
fn a_client_that_cancels_an_upload_whose_answer_is_whole_wastes_nothing() {
    let mut wire = Wire::server();
    for stream in (0..5_000).map(|count| 2 * count + 1) {
        wire.takes(&post(stream, "/upload"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        wire.writes(slot, OK);
        wire.takes(&reset(stream));
        wire.state.detach(slot);
        wire.sent();
    }
}

#[test]
fn a_slot_serves_one_request_after_the_other_and_never_two_at_a_time() {
    let mut wire = Wire::server();
    wire.takes(&get(1, "/1"));
    let slot = wire.accepted().expect("a stream");
    assert_eq!(wire.text(slot), "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    wire.writes(slot, OK);
    wire.takes(&get(3, "/3"));
    assert_eq!(wire.accepted(), None, "the same slot serves it");
    // Its answer is under way: the next one needs a slot of its own.
    wire.takes(&get(5, "/5"));
    let other = wire.accepted().expect("another slot");
    assert_ne!(slot, other);
    assert!(wire.text(slot).starts_with("GET /3 "));
    assert!(wire.text(other).starts_with("GET /5 "));
    wire.writes(other, OK);
    wire.writes(slot, OK);
    let streams: Vec<u32> = heads(&mut wire)
        .into_iter()
        .map(|(stream, ..)| stream)
        .collect();
    assert_eq!(streams, [1, 5, 3]);
}

#[test]
fn a_slot_whose_holder_turns_away_gets_no_further_stream() {
    for closes in [true, false] {
        let mut wire = Wire::server();
        wire.takes(&get(1, "/1"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        if closes {
            wire.writes(
                slot,
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            );
        } else {
            wire.writes(slot, EMPTY);
            wire.state.end(slot);
        }
        wire.takes(&get(3, "/3"));
        let other = wire.accepted().expect("a slot of its own");
        assert_ne!(slot, other);
        assert_eq!(wire.read(slot).0, "");
        wire.state.detach(slot);
        assert!(wire.text(other).starts_with("GET /3 "));
    }
}

#[test]
fn what_nobody_read_of_a_request_is_never_read_with_the_next_one() {
    let mut wire = Wire::server();
    wire.takes(&post(1, "/1"));
    let slot = wire.accepted().expect("a stream");
    wire.text(slot);
    wire.takes(&data(1, true, b"secret"));
    // The answer is whole before the request was read.
    wire.writes(slot, OK);
    wire.takes(&get(3, "/3"));
    let other = wire.accepted().expect("a slot of its own");
    assert_ne!(slot, other);
    assert!(!wire.text(other).contains("secret"));
    wire.state.detach(slot);
    wire.takes(&get(5, "/5"));
    let third = wire.accepted().expect("the slot that is free again");
    assert_eq!(third, slot);
    assert!(wire.text(third).starts_with("GET /5 "));
}

#[test]
fn answers_end_where_their_heads_say() {
    for (method, answer, ended) in [
        (
            "HEAD",
            &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"[..],
            true,
        ),
        (
            "HEAD",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            true,
        ),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", true),
        (
            "GET",
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
            true,
        ),
        ("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
            false,
        ),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            false,
        ),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\n", false),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", false),
    ] {
        let mut wire = Wire::server();
        wire.takes(&headers(1, true, &ask(method, "/")));
        let slot = wire.accepted().expect("a stream");
        wire.writes(slot, answer);
        let said = heads(&mut wire);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].2, ended, "{method} {}", answer.escape_ascii());
        assert!(
            said[0]
                .1
                .iter()
                .all(|(name, _)| name != "transfer-encoding")
        );
        assert!(!wire.state.is_quiet(slot));
        // Whoever ends before the message does makes it an error, never a whole message.
        wire.state.end(slot);
        let end = wire.kinds();
        match () {
            () if ended => assert_eq!(end, []),
            () if answer.ends_with(b"OK\r\n\r\n") => {
                assert_eq!(end, [Said::Frame(1, Kind::Data, true)])
            }
            () if answer.starts_with(b"HTTP/1.1 103") => {
                assert_eq!(end, [was_reset(1, Code::Refused)])
            }
            () => assert_eq!(end, [was_reset(1, Code::Internal)]),
        }
    }
}

#[test]
fn a_client_gets_interim_answers_content_and_trailers() {
    let mut wire = Wire::client();
    let slot = wire.state.open().expect("a slot");
    for stream in [1, 3, 5] {
        // In pieces as small as can be.
        for byte in ASK {
            wire.writes(slot, &[*byte]);
        }
        let said = heads(&mut wire);
        let fields: Vec<(&str, &str)> = said[0].1.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        let expected = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/a"),
        ];
        assert_eq!(
            (said[0].0, &fields[..], said[0].2),
            (stream, &expected[..], true)
        );
        wire.takes(&headers(stream, false, &[(":status", "103")]));
        wire.takes(&headers(
            stream,
            false,
            &[(":status", "200"), ("trailer", "x")],
        ));
        wire.takes(&data(stream, false, b"hi"));
        wire.takes(&headers(stream, true, &[("x", "y")]));
        let head = "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 \r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n";
        assert_eq!(
            wire.text(slot),
            format!("{head}0002\r\nhi\r\n0\r\nx: y\r\n\r\n")
        );
        assert!(wire.state.is_quiet(slot));
    }
}

#[test]
fn a_request_in_chunks_has_its_trailers() {
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nX-Upper: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n";
    for step in 1..request.len() {
        let mut wire = Wire::client();
        let slot = wire.state.open().expect("a slot");
        for part in request.chunks(step) {
            wire.writes(slot, part);
        }
        let sent = wire.sent();
        let content: Vec<u8> = sent
            .iter()
            .filter(|(h, _)| h.kind == Kind::Data)
            .flat_map(|(_, p)| p.clone())
            .collect();
        assert_eq!(content, b"abc");
        let ends: Vec<bool> = sent
            .iter()
            .map(|(header, _)| header.has(END_STREAM))
            .collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        let (last, trailers) = sent.last().expect("trailers");
        assert_eq!((last.kind, last.has(END_STREAM)), (Kind::Headers, true));
        let mut fields = Vec::new();
        let _ = Decoder::new(4096).decode(trailers, 99, &mut |n, v| {
            fields.push((n.to_vec(), v.to_vec()))
        });
        assert_eq!(fields, [(b"x".to_vec(), b"y".to_vec())]);
    }
}

#[test]
fn a_part_of_an_answer_is_never_taken_for_the_whole() {
    for chunked in [true, false] {
        let length: &[(&str, &str)] = if chunked {
            &[]
        } else {
            &[("content-length", "9")]
        };
        for cut in [true, false] {
            let mut wire = Wire::client();
            let slot = wire.state.open().expect("a slot");
            wire.writes(slot, ASK);
            wire.takes(&headers(
                1,
                false,
                &[&[(":status", "200")][..], length].concat(),
            ));
            wire.takes(&data(1, false, b"part"));
            match cut {
                true => wire.state.close(),
                false => wire.takes(&reset(1)),
            }
            let end = wire.read(slot).1;
            assert_eq!(end, Err(if cut { Gone::Closed } else { Gone::Reset }));
        }
    }
    // A whole one stands, also when the server then reads no more of the request (RFC 9113 §8.1).
    let mut wire = Wire::client();
    let slot = wire.state.open().expect("a slot");
    wire.writes(
        slot,
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc",
    );
    wire.takes(&headers(1, true, &[(":status", "403")]));
    wire.takes(&of(Kind::Reset, 0, 1, &0_u32.to_be_bytes()));
    let (text, end) = wire.read(slot);
    assert_eq!(
        (&text[..], end),
        ("HTTP/1.1 403 \r\ncontent-length: 0\r\n\r\n", Ok(false))
    );
    assert_eq!(wire.write(slot, b"def"), Poll::Ready(Err(Gone::Closed)));
}

#[test]
fn what_is_no_message_is_never_sent() {
    for text in [
        &b"GET /a HTTP/1.1\r\n\r\n"[..],
        b"GET /a HTTP/1.1\r\nhost: a\r\nupgrade: x\r\n\r\n",
        b"GET /a\r\nhost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: a\r\na b: c\r\n\r\n",
        b"GET /a HTTP/1.1\nhost: a\n\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
    ] {
        let mut wire = Wire::client();
        let slot = wire.state.open().expect("a slot");
        assert_eq!(
            wire.write(slot, text),
            Poll::Ready(Err(Gone::Closed)),
            "{}",
            text.escape_ascii()
        );
        assert!(!wire.sent().iter().any(|(header, _)| header.has(END_STREAM)));
    }
}
