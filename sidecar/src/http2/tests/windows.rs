//! Windows, room, and who waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use frame::Setting;

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn write(wire: &mut Wire, slot: u32, woken: &Arc<Woken>, text: &[u8]) -> Poll<Result<usize, Gone>> {
    let waker = Waker::from(Arc::clone(woken));
    wire.state
        .poll_write(slot, &mut Context::from_waker(&waker), &[text])
}

fn content(wire: &mut Wire) -> usize {
    let frames = wire.sent().into_iter();
    frames
        .filter(|(header, _)| header.kind == Kind::Data)
        .map(|(_, content)| content.len())
        .sum()
}

fn answering(wire: &mut Wire, stream: u32, length: usize) -> u32 {
    wire.takes(&get(stream, "/"));
    let slot = wire.accepted().expect("a stream");
    wire.text(slot);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    wire.writes(slot, head.as_bytes());
    slot
}

#[test]
fn content_stays_within_both_windows_also_below_nothing() {
    let mut wire = Wire::server();
    wire.takes(&settings(&[(Setting::InitialWindowSize, 1000)]));
    let slot = answering(&mut wire, 1, 100_000);
    let (woken, all) = (Arc::new(Woken::default()), vec![0; 100_000]);
    assert_eq!(write(&mut wire, slot, &woken, &all), Poll::Ready(Ok(1000)));
    assert_eq!(content(&mut wire), 1000);
    assert_eq!(write(&mut wire, slot, &woken, &all), Poll::Pending);
    // 1000 were sent: the window is 300 below nothing now.
    wire.takes(&settings(&[(Setting::InitialWindowSize, 700)]));
    wire.takes(&update(1, 300));
    assert_eq!(write(&mut wire, slot, &woken, &all), Poll::Pending);
    wire.takes(&update(1, 1));
    assert_eq!(write(&mut wire, slot, &woken, &all), Poll::Ready(Ok(1)));
    assert_eq!(write(&mut wire, slot, &woken, &all), Poll::Pending);
    let before = woken.times();
    wire.takes(&settings(&[(Setting::InitialWindowSize, 80_000)]));
    assert_eq!(woken.times(), before + 1);
    // From here on the connection's window is the smaller one.
    let mut sent = 0;
    while let Poll::Ready(count) = write(&mut wire, slot, &woken, &all) {
        sent += count.expect("it goes on");
    }
    assert_eq!(sent, 65_535 - 1001);
    assert_eq!(content(&mut wire), 1 + sent);
    let before = woken.times();
    wire.takes(&update(0, 10));
    assert_eq!(woken.times(), before + 1);
    assert_eq!(write(&mut wire, slot, &woken, &all), Poll::Ready(Ok(10)));
    // A window may be as large as can be, and not larger.
    wire.takes(&settings(&[(Setting::InitialWindowSize, u32::MAX >> 1)]));
    wire.takes(&get(3, "/"));
    assert!(
        wire.receive(&settings(&[
            (Setting::InitialWindowSize, 0),
            (Setting::InitialWindowSize, u32::MAX >> 1)
        ]))
        .is_ok()
    );
    wire.takes(&settings(&[(Setting::InitialWindowSize, 10)]));
    wire.takes(&update(3, u32::MAX >> 2));
    let fault = wire
        .receive(&settings(&[(Setting::InitialWindowSize, u32::MAX >> 1)]))
        .unwrap_err();
    assert_eq!(fault.code, Code::FlowControl);
}

#[test]
fn whoever_sends_beyond_a_window_loses_the_stream() {
    let mut wire = Wire::server();
    wire.takes(&post(1, "/"));
    let slot = wire.accepted().expect("a stream");
    wire.text(slot);
    for _ in 0..4 {
        wire.takes(&data(1, false, &[b'x'; 16 * 1024]));
    }
    // Nobody reads, so that nothing is given back.
    assert!(wire.kinds().is_empty());
    wire.takes(&data(1, false, b"x"));
    assert_eq!(wire.kinds(), [was_reset(1, Code::FlowControl)]);
}

#[test]
fn reading_gives_windows_back_and_padding_is_given_back_at_once() {
    let mut wire = Wire::server();
    wire.takes(&post(1, "/"));
    let slot = wire.accepted().expect("a stream");
    let mut left = 65_536_u64;
    let mut given = 0;
    for round in 0..2_000 {
        let frame = match round % 2 {
            0 => data(1, false, &[b'x'; 4000]),
            _ => of(
                Kind::Data,
                frame::PADDED,
                1,
                &[&[255][..], &[b'x'; 3744], &[0; 255]].concat(),
            ),
        };
        wire.takes(&frame);
        left = left.checked_sub(4000).expect("the window never closes");
        wire.text(slot);
        for (header, payload) in wire.sent() {
            assert_eq!(header.kind, Kind::WindowUpdate);
            let more = u64::from(frame::number(&payload).expect("a number"));
            match header.stream {
                0 => given += more,
                _ => left += more,
            }
        }
        assert!(left <= u64::from(crate::mux::credit::CEILING));
    }
    assert!(given > 2_000 * 4000 - 2 * 1024 * 1024);
}

#[test]
fn heads_wait_for_room_and_a_peer_that_does_not_read_is_no_fault() {
    let mut wire = Wire::server();
    let woken = Arc::new(Woken::default());
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\nx: {}\r\n\r\n",
        "y".repeat(15_000)
    );
    let mut waiting = Vec::new();
    for stream in (0..100).map(|count| 2 * count + 1) {
        wire.takes(&get(stream, "/"));
        let slot = wire.accepted().expect("a stream");
        wire.text(slot);
        if write(&mut wire, slot, &woken, head.as_bytes()).is_pending() {
            waiting.push(slot);
        }
    }
    assert!(waiting.len() > 80);
    let out = wire.state.take_out().len();
    assert!(out < 200 * 1024, "{out}");
    assert_eq!(woken.times(), waiting.len());
}

#[test]
fn streams_wait_until_the_server_takes_another_one() {
    let woken: Vec<_> = (0..4).map(|_| Arc::new(Woken::default())).collect();
    // The server takes fewer than were opened before it said so.
    let mut wire = Wire::client();
    let slots: Vec<u32> = (0..4).map(|_| wire.state.open().expect("a slot")).collect();
    wire.takes(&settings(&[(Setting::MaxConcurrentStreams, 1)]));
    assert_eq!(wire.state.open(), None);
    assert_eq!(
        write(&mut wire, slots[0], &woken[0], ASK),
        Poll::Ready(Ok(ASK.len()))
    );
    for at in 1..4 {
        assert_eq!(write(&mut wire, slots[at], &woken[at], ASK), Poll::Pending);
    }
    wire.takes(&headers(1, true, &[(":status", "200")]));
    assert_eq!(woken[1].times(), 1);
    // Who is let in and goes away instead passes its turn on.
    wire.state.detach(slots[1]);
    assert_eq!(woken[2].times(), 1);
    assert_eq!(
        write(&mut wire, slots[2], &woken[2], ASK),
        Poll::Ready(Ok(ASK.len()))
    );
    assert_eq!(write(&mut wire, slots[3], &woken[3], ASK), Poll::Pending);
    let before = woken[3].times();
    wire.takes(&settings(&[(Setting::MaxConcurrentStreams, 2)]));
    assert_eq!(woken[3].times(), before + 1, "more are taken now");
    assert_eq!(
        write(&mut wire, slots[3], &woken[3], ASK),
        Poll::Ready(Ok(ASK.len()))
    );
}

#[test]
fn streams_that_wait_for_the_connection_and_go_leave_nothing_behind() {
    let mut wire = Wire::server();
    wire.takes(&settings(&[(Setting::InitialWindowSize, 100_000)]));
    let woken = Arc::new(Woken::default());
    let first = answering(&mut wire, 1, 70_000);
    while let Poll::Ready(sent) = write(&mut wire, first, &woken, &[0; 70_000]) {
        sent.expect("it goes on");
        wire.sent();
    }
    for stream in (1..400).map(|count| 2 * count + 1) {
        let slot = answering(&mut wire, stream, 10);
        assert_eq!(write(&mut wire, slot, &woken, &[0; 10]), Poll::Pending);
        wire.takes(&reset(stream));
        wire.state.detach(slot);
        wire.sent();
    }
    let before = woken.times();
    wire.takes(&update(0, 1));
    assert_eq!(woken.times(), before + 1, "only the first one waits");
}
