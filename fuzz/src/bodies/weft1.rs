//! The frames of `weft/1`, as a server and as a client receive them.

use std::task::{Context, Poll, Waker};

use weft_sidecar::mux::Role;
use weft_sidecar::mux::state::{MOST_SLOTS, State};

/// The first byte says how the rest is cut into pieces and whose end it is; what is made of the bytes must not depend on the pieces.
pub(super) fn weft1(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    let role = if cut.is_multiple_of(2) {
        Role::Server
    } else {
        Role::Client
    };
    let whole = receive(role, stream, stream.len().max(1));
    let in_pieces = receive(role, stream, usize::from(*cut) / 8 + 1);
    assert_eq!(whole, in_pieces, "in pieces and at once");
}

/// What every slot got, how many were opened, and whether the peer was at fault.
fn receive(role: Role, stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, usize, bool) {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut state = State::new(role);
    if role == Role::Client {
        for _ in 0..3 {
            state.open(weft_sidecar::mux::Carried::Http1, "a");
        }
    }
    let fault = stream
        .chunks(piece)
        .any(|piece| state.receive(piece).is_err());
    let mut opened = 0;
    while let Poll::Ready(Some(_)) = state.poll_opened(cx) {
        opened += 1;
    }
    assert!(state.slots_in_use() <= MOST_SLOTS);
    let mut got = Vec::new();
    for slot in 1..=8 {
        let mut bytes = Vec::new();
        while let Poll::Ready(Ok(true)) = state.poll_read(slot, cx, &mut bytes, 7) {}
        let _ = state.poll_write(slot, cx, &[b"answer"]);
        state.end(slot);
        state.detach(slot);
        got.push(bytes);
    }
    state.close();
    assert!(fault || state.slots_in_use() <= opened + 3);
    (got, opened, fault)
}
