//! Frames that end the connection, frames that end their stream, and frames that are let pass.

use super::*;
use frame::{ACK, PADDED, PRIORITY, Setting};

#[test]
fn what_is_no_http_2_ends_the_connection() {
    let open = post(1, "/");
    let unfinished = of(Kind::Headers, 0, 1, &block(&ask("GET", "/")));
    for (what, bytes, code) in [
        (
            "too long",
            [&[0, 0x40, 1, 0, 0][..], &[0, 0, 0, 1]].concat(),
            Code::FrameSize,
        ),
        ("data on no stream", data(0, false, b"x"), Code::Protocol),
        ("headers on no stream", get(0, "/"), Code::Protocol),
        (
            "data on an idle stream",
            data(1, false, b"x"),
            Code::Protocol,
        ),
        ("a reset of an idle stream", reset(1), Code::Protocol),
        ("a window of an idle stream", update(1, 1), Code::Protocol),
        ("an even stream", get(2, "/"), Code::Protocol),
        (
            "an even stream below",
            [get(5, "/"), get(2, "/")].concat(),
            Code::Protocol,
        ),
        (
            "settings on a stream",
            of(Kind::Settings, 0, 1, b""),
            Code::Protocol,
        ),
        (
            "a ping on a stream",
            of(Kind::Ping, 0, 1, &[0; 8]),
            Code::Protocol,
        ),
        (
            "a goodbye on a stream",
            of(Kind::GoAway, 0, 1, &[0; 8]),
            Code::Protocol,
        ),
        (
            "a short ping",
            of(Kind::Ping, 0, 0, &[0; 7]),
            Code::FrameSize,
        ),
        (
            "a short goodbye",
            of(Kind::GoAway, 0, 0, &[0; 7]),
            Code::FrameSize,
        ),
        (
            "a short reset",
            [open.clone(), of(Kind::Reset, 0, 1, &[0; 3])].concat(),
            Code::FrameSize,
        ),
        (
            "a short priority",
            of(Kind::Priority, 0, 1, &[0; 4]),
            Code::FrameSize,
        ),
        (
            "a long window",
            of(Kind::WindowUpdate, 0, 0, &[0; 5]),
            Code::FrameSize,
        ),
        (
            "half a setting",
            of(Kind::Settings, 0, 0, &[0; 5]),
            Code::FrameSize,
        ),
        (
            "an acknowledgement with content",
            of(Kind::Settings, ACK, 0, &[0; 6]),
            Code::FrameSize,
        ),
        ("a window of nothing", update(0, 0), Code::Protocol),
        (
            "a window too large",
            [update(0, u32::MAX >> 1), update(0, u32::MAX >> 1)].concat(),
            Code::FlowControl,
        ),
        (
            "a first window too large",
            settings(&[(Setting::InitialWindowSize, 1 << 31)]),
            Code::FlowControl,
        ),
        (
            "a frame size too small",
            settings(&[(Setting::MaxFrameSize, 1)]),
            Code::Protocol,
        ),
        (
            "a push of two",
            settings(&[(Setting::EnablePush, 2)]),
            Code::Protocol,
        ),
        (
            "a push",
            of(Kind::PushPromise, END_HEADERS, 1, &[0; 4]),
            Code::Protocol,
        ),
        (
            "too much padding",
            [open.clone(), of(Kind::Data, PADDED, 1, &[2, 0])].concat(),
            Code::Protocol,
        ),
        (
            "padding without its length",
            [open, of(Kind::Data, PADDED, 1, b"")].concat(),
            Code::Protocol,
        ),
        (
            "half a priority",
            of(Kind::Headers, END_HEADERS | PRIORITY, 1, &[0; 4]),
            Code::FrameSize,
        ),
        (
            "no header block",
            of(Kind::Headers, END_HEADERS, 1, &[0xff]),
            Code::Compression,
        ),
        (
            "a continuation of nothing",
            of(Kind::Continuation, END_HEADERS, 1, b""),
            Code::Protocol,
        ),
        (
            "a frame within a block",
            [unfinished.clone(), of(Kind::Ping, 0, 0, &[0; 8])].concat(),
            Code::Protocol,
        ),
        (
            "another stream's continuation",
            [unfinished, of(Kind::Continuation, 0, 3, b"")].concat(),
            Code::Protocol,
        ),
    ] {
        let fault = Wire::server().state.receive(&bytes).expect_err(what);
        assert_eq!(fault.code, code, "{what}");
    }
    let mut early = State::new(Role::Server, LIMITS);
    assert!(early.receive(b"GET / HTTP/1.1\r\n").is_err());
    for first in [
        get(1, "/"),
        of(Kind::Settings, ACK, 0, b""),
        of(Kind::Ping, 0, 0, &[0; 8]),
    ] {
        let mut early = State::new(Role::Server, LIMITS);
        assert!(early.receive(&[PREFACE, &first].concat()).is_err());
    }
    for pushed in [
        headers(2, true, &[(":status", "200")]),
        settings(&[(Setting::EnablePush, 1)]),
    ] {
        assert!(Wire::client().receive(&pushed).is_err());
    }
}

#[test]
fn what_is_wrong_with_one_stream_resets_it_and_tells_who_holds_it() {
    for (what, bytes, code) in [
        (
            "more than announced",
            data(1, false, b"1234"),
            Code::Protocol,
        ),
        ("less than announced", data(1, true, b"12"), Code::Protocol),
        ("a window of nothing", update(1, 0), Code::Protocol),
        (
            "a window too large",
            update(1, u32::MAX >> 1),
            Code::FlowControl,
        ),
        ("a second head", post(1, "/"), Code::Protocol),
        (
            "trailers too early",
            headers(1, true, &[("x", "y")]),
            Code::Protocol,
        ),
        (
            "data behind the end",
            [data(1, true, b"123"), data(1, false, b"x")].concat(),
            Code::StreamClosed,
        ),
        (
            "trailers behind the end",
            [data(1, true, b"123"), headers(1, true, &[])].concat(),
            Code::Protocol,
        ),
        (
            "a head too large",
            headers(1, true, &[("x", ""); 600]),
            Code::Calm,
        ),
    ] {
        // In chunks the length is checked all the same.
        for trailer in [&[][..], &[("trailer", "x")]] {
            let mut wire = Wire::server();
            let fields = [&ask("POST", "/")[..], &[("content-length", "3")], trailer].concat();
            wire.takes(&headers(1, false, &fields));
            let slot = wire.accepted().expect("a stream");
            wire.takes(&bytes[..]);
            assert_eq!(wire.kinds(), [was_reset(1, code)], "{what}");
            assert_eq!(wire.read(slot), (String::new(), Err(Gone::Reset)), "{what}");
            assert_eq!(wire.write(slot, EMPTY), Poll::Ready(Err(Gone::Reset)));
            wire.state.detach(slot);
            assert_eq!((wire.state.held(), wire.state.open_streams()), (0, 0));
            assert!(wire.kinds().is_empty(), "it is reset once");
        }
    }
}

#[test]
fn a_malformed_request_is_reset_and_never_seen() {
    let mut wire = Wire::server();
    wire.takes(&headers(1, true, &[(":method", "GET")]));
    assert_eq!(wire.kinds(), [was_reset(1, Code::Protocol)]);
    assert_eq!((wire.accepted(), wire.state.held()), (None, 0));
    // Neither on a slot that served another one.
    wire.takes(&get(3, "/good"));
    let slot = wire.accepted().expect("a stream");
    wire.text(slot);
    wire.writes(slot, OK);
    wire.takes(&headers(5, true, &[(":method", "GET"), (":path", "/bad")]));
    wire.takes(&get(7, "/next"));
    assert_eq!(wire.text(slot), "GET /next HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn a_head_too_large_is_answered() {
    for ends in [true, false] {
        let mut wire = Wire::server();
        let large = "y".repeat(20_000);
        let fields = [&ask("POST", "/")[..], &[("x", &large)]].concat();
        let whole = block(&fields);
        let (first, rest) = whole.split_at(9000);
        let end = if ends { END_STREAM } else { 0 };
        wire.takes(&of(Kind::Headers, end, 1, first));
        wire.takes(&of(Kind::Continuation, END_HEADERS, 1, rest));
        let mut said = vec![Said::Frame(1, Kind::Headers, true)];
        // A stream that both sides have ended is not reset.
        said.extend((!ends).then(|| was_reset(1, Code::NoError)));
        assert_eq!(wire.kinds(), said);
        assert_eq!(wire.accepted(), None);
        // The decoder's table is what the client takes it to be.
        wire.takes(&get(3, "/"));
        assert!(wire.accepted().is_some());
    }
}

#[test]
fn what_comes_late_on_a_closed_stream_is_let_pass() {
    let mut wire = Wire::server();
    wire.takes(&post(1, "/"));
    let slot = wire.accepted().expect("a stream");
    wire.state.detach(slot);
    wire.sent();
    for late in [
        data(1, false, b"x"),
        reset(1),
        update(1, 5),
        of(Kind::Priority, 0, 1, &[0; 5]),
    ] {
        wire.takes(&late);
    }
    wire.takes(&of(Kind::Unknown, 0xff, 77, b"whatever"));
    assert!(wire.kinds().is_empty());
}

#[test]
fn padding_and_priority_are_taken_off() {
    let mut wire = Wire::server();
    let padded = [&[3][..], &[0; 5], &block(&ask("POST", "/")), &[0; 3]].concat();
    wire.takes(&of(
        Kind::Headers,
        END_HEADERS | PADDED | PRIORITY,
        1,
        &padded,
    ));
    let slot = wire.accepted().expect("a stream");
    wire.takes(&of(Kind::Data, PADDED | END_STREAM, 1, b"\x02hi\0\0"));
    let text = wire.text(slot);
    assert!(text.ends_with("\r\n\r\n0002\r\nhi\r\n0\r\n\r\n"), "{text}");
}
