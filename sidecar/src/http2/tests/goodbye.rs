//! How connections end that both sides agree to end.

use super::*;
use frame::ACK;

fn go_away(last: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::go_away(last, Code::NoError, &mut out);
    out
}

fn last_of(said: &[(Header, Vec<u8>)]) -> Vec<u32> {
    let goodbyes = said
        .iter()
        .filter(|(header, _)| header.kind == Kind::GoAway);
    goodbyes
        .map(|(_, payload)| frame::number(payload).expect("a stream"))
        .collect()
}

#[test]
fn a_server_that_leaves_serves_what_was_on_its_way() {
    let mut wire = Wire::server();
    wire.takes(&get(1, "/1"));
    let slot = wire.accepted().expect("a stream");
    wire.text(slot);
    wire.writes(slot, OK);
    wire.sent();
    wire.state.go_away();
    wire.state.go_away();
    let said = wire.sent();
    assert_eq!(last_of(&said), [u32::MAX >> 1]);
    let (_, ping) = said
        .into_iter()
        .find(|(header, _)| header.kind == Kind::Ping)
        .expect("a ping");
    assert_eq!(
        wire.read(slot),
        (String::new(), Ok(false)),
        "who waits for the next request hears that none comes"
    );
    wire.takes(&get(3, "/3"));
    let other = wire.accepted().expect("a slot of its own");
    assert_ne!(slot, other, "who has turned away is given nothing");
    wire.state.detach(slot);
    wire.takes(&of(Kind::Ping, ACK, 0, &ping));
    assert_eq!(last_of(&wire.sent()), [3]);
    wire.takes(&get(5, "/5"));
    assert_eq!(wire.accepted(), None, "too late");
    wire.takes(&data(5, true, b"x"));
    assert!(!wire.state.is_done());
    wire.text(other);
    wire.writes(other, OK);
    assert!(wire.state.is_done());
}

#[test]
fn a_server_that_is_not_heard_leaves_all_the_same() {
    let mut wire = Wire::server();
    wire.state.go_away();
    wire.takes(&get(1, "/"));
    assert!(wire.state.is_unheard());
    wire.sent();
    wire.state.leave_for_good();
    assert!(!wire.state.is_unheard());
    assert_eq!(last_of(&wire.sent()), [1]);
    let slot = wire.accepted().expect("a stream");
    wire.takes(&get(3, "/"));
    assert_eq!(wire.accepted(), None);
    wire.text(slot);
    wire.writes(slot, OK);
    assert!(wire.state.is_done());
}

#[test]
fn a_client_that_is_left_loses_only_what_was_not_seen() {
    let mut wire = Wire::client();
    let slots: Vec<u32> = (0..3).map(|_| wire.state.open().expect("a slot")).collect();
    for slot in &slots[..2] {
        wire.writes(*slot, ASK);
    }
    wire.takes(&go_away(1));
    assert_eq!(wire.read(slots[1]).1, Err(Gone::Reset));
    assert_eq!(wire.read(slots[2]), (String::new(), Ok(false)));
    assert_eq!(wire.write(slots[2], ASK), Poll::Ready(Err(Gone::Closed)));
    assert_eq!(wire.state.open(), None);
    assert!(!wire.state.is_done());
    wire.takes(&headers(1, true, &[(":status", "200")]));
    assert!(wire.text_and_end(slots[0]).starts_with("HTTP/1.1 200 "));
    assert!(wire.state.is_done());
    for slot in slots {
        wire.state.detach(slot);
    }
    assert_eq!(wire.state.held(), 0);
}

#[test]
fn a_server_that_is_left_ends_with_its_last_answer() {
    let mut wire = Wire::server();
    wire.takes(&get(1, "/1"));
    let slot = wire.accepted().expect("a stream");
    wire.text(slot);
    wire.takes(&go_away(0));
    assert!(!wire.state.is_done());
    wire.writes(slot, OK);
    assert!(wire.state.is_done());
    // Whoever served it may have turned away already.
    wire.takes(&get(3, "/3"));
    assert_ne!(wire.accepted(), None);
    assert_eq!(wire.read(slot), (String::new(), Ok(false)));
}

#[test]
fn a_client_that_leaves_opens_nothing_more() {
    let mut wire = Wire::client();
    let (busy, idle) = (
        wire.state.open().expect("a slot"),
        wire.state.open().expect("a slot"),
    );
    wire.writes(busy, ASK);
    wire.state.go_away();
    assert_eq!(wire.state.open(), None);
    assert_eq!(wire.write(idle, ASK), Poll::Ready(Err(Gone::Closed)));
    wire.takes(&headers(1, true, &[(":status", "200")]));
    assert!(wire.state.is_done());
}

#[test]
fn numbers_of_streams_end_with_the_connection() {
    let mut wire = Wire::client();
    wire.state.begin_at(u32::MAX >> 1);
    let (last, next) = (
        wire.state.open().expect("a slot"),
        wire.state.open().expect("a slot"),
    );
    wire.writes(last, ASK);
    assert_eq!(wire.sent()[0].0.stream, u32::MAX >> 1);
    assert_eq!(wire.write(next, ASK), Poll::Ready(Err(Gone::Closed)));
    wire.takes(&headers(u32::MAX >> 1, true, &[(":status", "200")]));
    assert!(wire.state.is_done());
}

#[test]
fn a_connection_that_ends_tells_every_stream() {
    let mut wire = Wire::server();
    for stream in [1, 3] {
        wire.takes(&get(stream, "/"));
    }
    let first = wire.accepted().expect("a stream");
    wire.text(first);
    wire.state.close();
    assert!(matches!(
        wire.state.poll_opened(&mut nobody()),
        Poll::Ready(None)
    ));
    assert_eq!(wire.write(first, OK), Poll::Ready(Err(Gone::Closed)));
    assert!(wire.state.take_out().is_empty());
}
