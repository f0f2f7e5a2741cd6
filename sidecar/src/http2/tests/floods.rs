//! Peers that let this side work, or remember, for nothing.

use super::*;
use frame::Setting;

/// How many of these a server takes until it is enough.
fn until_fault(most: u32, next: impl Fn(u32) -> Vec<u8>) -> Option<(u32, Code)> {
    let mut wire = Wire::server();
    wire.takes(&post(1, "/first"));
    (1..most).find_map(|count| {
        let fault = wire.receive(&next(2 * count + 1)).err()?;
        Some((count, fault.code))
    })
}

#[test]
fn row_11_whoever_lets_this_side_work_for_nothing_is_told_to_calm_down() {
    let malformed = |stream| headers(stream, true, &[(":method", "GET")]);
    let too_large = "y".repeat(17_000);
    for (what, next) in [
        (
            "resets",
            &(|stream| [get(stream, "/"), reset(stream)].concat()) as &dyn Fn(u32) -> Vec<u8>,
        ),
        ("windows of nothing", &|stream| {
            [get(stream, "/"), update(stream, 0)].concat()
        }),
        ("windows too large", &|stream| {
            [get(stream, "/"), update(stream, u32::MAX >> 1)].concat()
        }),
        ("data behind the end", &|stream| {
            [get(stream, "/"), data(stream, false, b"x")].concat()
        }),
        ("heads behind the end", &|stream| {
            [get(stream, "/"), get(stream, "/")].concat()
        }),
        ("malformed requests", &malformed),
        ("more than were announced", &|stream| {
            let fields = [&ask("POST", "/")[..], &[("content-length", "1")]].concat();
            [headers(stream, false, &fields), data(stream, false, b"xx")].concat()
        }),
        ("heads too large", &|stream| {
            let whole = block(&[&ask("GET", "/")[..], &[("x", &too_large)]].concat());
            let (first, rest) = whole.split_at(9000);
            [
                of(Kind::Headers, END_STREAM, stream, first),
                of(Kind::Continuation, END_HEADERS, stream, rest),
            ]
            .concat()
        }),
        ("heads on closed streams", &|_| {
            [get(3, "/"), reset(3)].concat()
        }),
        ("data frames without content", &|_| data(1, false, b"")),
        ("settings", &|_| {
            settings(&[(Setting::InitialWindowSize, 70_000)])
        }),
    ] {
        let (count, code) = until_fault(2_000, next).unwrap_or_else(|| panic!("{what} never end"));
        assert_eq!(code, Code::Calm, "{what}");
        assert!((100..700).contains(&count), "{count} {what}");
    }
}

#[test]
fn row_11_streams_beyond_the_limit_are_refused_and_their_slots_counted() {
    let mut wire = Wire::server();
    for stream in (1..=2 * LIMITS.streams).map(|count| 2 * count - 1) {
        wire.takes(&get(stream, "/"));
    }
    assert_eq!(wire.state.open_streams(), 100);
    let refused = wire.kinds();
    assert_eq!(refused.len(), 100);
    assert_eq!(refused[0], was_reset(201, Code::Refused));
    // Who resets streams gets others, but not while all those that served them are still busy.
    let mut busy = Vec::new();
    while let Some(slot) = wire.accepted() {
        wire.text(slot);
        busy.push(slot);
    }
    for stream in (1..=100).map(|count| 2 * count - 1) {
        wire.takes(&reset(stream));
    }
    for stream in (201..=300).map(|count| 2 * count - 1) {
        wire.takes(&get(stream, "/"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        busy.push(slot);
        wire.takes(&reset(stream));
    }
    wire.sent();
    wire.takes(&get(601, "/"));
    assert_eq!(wire.kinds(), [was_reset(601, Code::Refused)]);
    assert_eq!(wire.state.held(), 200);
    for slot in busy {
        wire.state.detach(slot);
    }
    assert_eq!(wire.state.held(), 0);
    wire.takes(&get(603, "/"));
    assert!(wire.accepted().is_some());
}

#[test]
fn row_11_a_stream_that_is_reset_before_anybody_took_it_is_nobodys_work() {
    let mut wire = Wire::server();
    for stream in (1..=50).map(|count| 2 * count - 1) {
        wire.takes(&[get(stream, "/"), reset(stream)].concat());
    }
    assert_eq!(wire.accepted(), None);
    assert_eq!(wire.state.held(), 0);
}

#[test]
fn whoever_cancels_what_was_begun_may_do_so_often_and_not_for_ever() {
    let mut wire = Wire::server();
    let cancelled = (1..10_000).map(|count| 2 * count - 1).position(|stream| {
        wire.takes(&get(stream, "/"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        let fault = wire.receive(&reset(stream));
        wire.state.detach(slot);
        wire.sent();
        fault.is_err()
    });
    assert!(
        cancelled.is_some_and(|count| count > 2_000),
        "{cancelled:?}"
    );
}

#[test]
fn row_11_a_header_block_that_does_not_end_is_not_collected() {
    let fragment = block(&[("x", &"y".repeat(12_000))]);
    for fragment in [&fragment[..], b""] {
        let mut wire = Wire::server();
        wire.takes(&of(Kind::Headers, 0, 1, &block(&ask("GET", "/"))));
        assert!(wire.state.is_owed(), "and its end must come soon");
        let next = of(Kind::Continuation, 0, 1, fragment);
        let fault = (0..20).find_map(|_| wire.receive(&next).err());
        assert_eq!(fault.map(|fault| fault.code), Some(Code::Calm));
    }
}

#[test]
fn row_11_whoever_asks_without_reading_the_answers_is_at_fault() {
    let mut wire = Wire::server();
    let ping = of(Kind::Ping, 0, 0, &[7; 8]);
    let fault = (0..100_000).find_map(|_| wire.receive(&ping).err());
    assert_eq!(fault.map(|fault| fault.code), Some(Code::Calm));
    assert!(wire.state.take_out().len() < 600 * 1024);
    // Who reads them may ask as often as it likes.
    let mut wire = Wire::server();
    for _ in 0..100_000 {
        wire.takes(&ping);
        wire.state.take_out();
    }
}

#[test]
fn row_11_interim_answers_that_nobody_reads_are_bounded() {
    let mut wire = Wire::client();
    let slot = wire.state.open().expect("a slot");
    wire.writes(slot, ASK);
    let fields = [(":status", "103"), ("link", &"y".repeat(1000))];
    let interim = headers(1, false, &fields);
    for _ in 0..100 {
        wire.takes(&interim);
    }
    assert!(wire.kinds().contains(&was_reset(1, Code::Calm)));
    assert_eq!(wire.read(slot).1, Err(Gone::Reset));
}

#[test]
fn row_11_small_frames_become_hardly_more_than_their_content() {
    let mut wire = Wire::server();
    wire.takes(&post(1, "/"));
    let slot = wire.accepted().expect("a stream");
    let head = wire.text(slot).len();
    assert!(head > 0);
    for _ in 0..60_000 {
        wire.takes(&data(1, false, b"x"));
    }
    wire.takes(&data(1, true, b""));
    let text = wire.text(slot);
    assert_eq!(text.bytes().filter(|byte| *byte == b'x').count(), 60_000);
    assert!(text.len() < 61_000, "{}", text.len());
    assert_eq!(content_of(&text), "x".repeat(60_000));
}

#[test]
fn chunks_grow_only_where_nobody_has_read() {
    for step in 1..30 {
        let mut wire = Wire::server();
        wire.takes(&post(1, "/"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        let (mut text, mut sent) = (Vec::new(), String::new());
        for count in 0..200_usize {
            let part = "abcdefgh".get(..count % 8 + 1).expect("letters");
            sent.push_str(part);
            wire.takes(&data(1, count == 199, part.as_bytes()));
            let mut some = Vec::new();
            let read = wire.state.poll_read(slot, &mut nobody(), &mut some, step);
            assert!(matches!(read, Poll::Ready(Ok(true))));
            text.extend(some);
        }
        text.extend(wire.text(slot).bytes());
        assert_eq!(content_of(std::str::from_utf8(&text).expect("text")), sent);
    }
}

/// What is in chunks.
fn content_of(mut rest: &str) -> String {
    let mut content = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a number");
        if size == 0 {
            assert_eq!(after, "\r\n");
            return content;
        }
        content.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("an end");
    }
}
