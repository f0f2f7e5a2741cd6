//! Both ends of a connection over an in-memory transport.

use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::credit::FLOOR;
use super::frame::Fault;
use super::state::{MOST_SLOTS, State};
use super::{Accepted, Carried, Ended, Mux, MuxStream, Role, run};
use crate::buffers;
use crate::decisions::DecisionId;
use crate::http::IDLE_TIMEOUT;

struct Pair {
    client: Mux,
    server: Mux,
    client_runs: JoinHandle<Ended>,
    server_runs: JoinHandle<Ended>,
}

impl Pair {
    fn start() -> Self {
        Self::over(256 * 1024)
    }

    fn over(transport: usize) -> Self {
        let (near, far) = duplex(transport);
        let (client, client_runs) = end(Role::Client, near);
        let (server, server_runs) = end(Role::Server, far);
        Self {
            client,
            server,
            client_runs,
            server_runs,
        }
    }

    fn open(&self) -> MuxStream {
        self.client
            .open(Carried::Http1, "http.api.shop.weft.local")
            .expect("a free slot")
    }

    async fn opened(&self) -> (MuxStream, MuxStream) {
        let near = self.open();
        (near, self.server.accept().await.expect("a stream").stream)
    }
}

fn end(role: Role, io: DuplexStream) -> (Mux, JoinHandle<Ended>) {
    let mux = Mux::new(role);
    let running = mux.clone();
    let runs = tokio::spawn(async move { run(&running, BufReader::new(io)).await });
    (mux, runs)
}

#[tokio::test]
async fn a_stream_carries_its_name_and_bytes_both_ways_and_ends_half_by_half() {
    let pair = Pair::over(7);
    let mut near = pair.open();
    let Accepted {
        stream: mut far,
        carried,
        server_name,
    } = pair.server.accept().await.expect("a stream");
    assert_eq!(
        (carried, server_name.as_str()),
        (Carried::Http1, "http.api.shop.weft.local")
    );
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut read = String::new();
    far.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    read.clear();
    near.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "answer");
    drop(near);
    until(|| pair.client.streams() == 0 && pair.server.streams() == 0).await;
}

#[tokio::test]
async fn a_reader_that_stops_holds_up_only_its_own_stream() {
    let pair = Pair::start();
    let (near, mut stopped) = pair.opened().await;
    let (mut other_near, mut other_far) = pair.opened().await;
    let sending = tokio::spawn(async move {
        // More than the window: it never ends by itself.
        let all = vec![7; 4 * usize::try_from(FLOOR).unwrap()];
        stopped.write_all(&all).await
    });
    for round in 0..200_u32 {
        other_near.write_all(&round.to_be_bytes()).await.unwrap();
        assert_eq!(other_far.read_u32().await.unwrap(), round);
        other_far.write_all(&[1; 1000]).await.unwrap();
        other_near.read_exact(&mut [0; 1000]).await.unwrap();
    }
    assert!(!sending.is_finished());
    drop(near);
    assert!(sending.await.unwrap().is_err(), "its reader is gone");
}

#[tokio::test]
async fn buffers_given_whole_arrive_like_bytes_written_and_keep_to_the_credit() {
    let pair = Pair::over(50_000);
    let (mut near, mut far) = pair.opened().await;
    let all: Vec<u8> = (0..3_000_000_usize)
        .map(|at| u8::try_from((at * 31) % 251).unwrap())
        .collect();
    let mut taken_whole = 0;
    let sending = async {
        let mut rest = all.as_slice();
        // From nearly nothing to more than a full buffer.
        for size in [1, 9_000, 32_768, 50_001, buffers::LARGE, buffers::LARGE + 7].repeat(8) {
            let (part, others) = rest.split_at(size.min(rest.len()));
            rest = others;
            let (mut buffer, mut from) = (part.to_vec(), 0);
            while from < part.len() {
                let sent = std::future::poll_fn(|cx| near.poll_give(cx, &mut buffer, from));
                from += sent.await.unwrap();
                taken_whole += usize::from(buffer.is_empty());
            }
        }
        near.write_all(rest).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(sending, far.read_to_end(&mut got));
    read.unwrap();
    assert!(got == all);
    assert!(taken_whole > 8, "{taken_whole}");
}

#[tokio::test]
async fn a_buffer_beyond_the_credit_is_not_given_whole() {
    let pair = Pair::start();
    let (mut near, _far) = pair.opened().await;
    let mut buffer = vec![7; usize::try_from(FLOOR).unwrap() + 1];
    let mut from = 0;
    let blocked = std::future::poll_fn(|cx| {
        while let Poll::Ready(sent) = near.poll_give(cx, &mut buffer, from) {
            from += sent.unwrap();
        }
        Poll::Ready(from)
    });
    assert_eq!(blocked.await, usize::try_from(FLOOR).unwrap());
    assert_eq!(buffer.len(), from + 1);
}

#[tokio::test]
async fn many_streams_at_once_get_every_byte_in_order() {
    let pair = Pair::over(10_000);
    let mut tasks = Vec::new();
    for seed in 0..40_u8 {
        let (near, far) = pair.opened().await;
        let (mut write, mut read) = halves(near, far, seed);
        tasks.push(tokio::spawn(async move {
            let length = 300_000 + usize::from(seed) * 1111;
            let bytes: Vec<u8> = (0..length)
                .map(|at| u8::try_from((at * 31 + usize::from(seed)) % 251).unwrap())
                .collect();
            let expected = bytes.clone();
            let (sent, got) = tokio::join!(
                async {
                    write.write_all(&bytes).await.unwrap();
                    write.shutdown().await.unwrap();
                },
                async {
                    let mut got = Vec::new();
                    read.read_to_end(&mut got).await.unwrap();
                    got
                }
            );
            let () = sent;
            assert!(got == expected, "stream {seed}");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

fn halves(near: MuxStream, far: MuxStream, seed: u8) -> (MuxStream, MuxStream) {
    if seed.is_multiple_of(2) {
        (near, far)
    } else {
        (far, near)
    }
}

#[tokio::test]
async fn slots_are_used_again_and_their_number_is_bounded() {
    let pair = Pair::start();
    for _ in 0..3 * MOST_SLOTS {
        let (near, far) = pair.opened().await;
        drop(near);
        drop(far);
        tokio::task::yield_now().await;
    }
    until(|| pair.client.streams() == 0).await;
    let held: Vec<MuxStream> = (0..MOST_SLOTS).map(|_| pair.open()).collect();
    assert!(
        pair.client
            .open(Carried::Tcp, "raw.api.shop.weft.local")
            .is_none()
    );
    drop(held);
}

/// What a client resets is in use at the server until its task is gone: a flood of resets opens no more than the limit at a time.
#[tokio::test]
async fn row_11_rapid_resets_open_no_more_than_the_limit() {
    let pair = Pair::start();
    let mut served = Vec::new();
    for _ in 0..MOST_SLOTS {
        drop(pair.open());
        served.push(pair.server.accept().await.expect("a stream"));
    }
    assert!(
        pair.client
            .open(Carried::Http1, "http.api.shop.weft.local")
            .is_none()
    );
    served.clear();
    until(|| pair.client.streams() == 0).await;
    drop(pair.open());
}

#[tokio::test]
async fn after_going_away_what_is_open_goes_on_and_the_connection_ends_with_it() {
    let pair = Pair::start();
    let (mut near, mut far) = pair.opened().await;
    pair.server.go_away();
    until(|| !pair.client.is_open()).await;
    assert!(pair.client.open(Carried::Http1, "a").is_none());
    near.write_all(b"late").await.unwrap();
    far.read_exact(&mut [0; 4]).await.unwrap();
    drop((near, far));
    assert!(matches!(pair.client_runs.await.unwrap(), Ended::Done));
    assert!(matches!(pair.server_runs.await.unwrap(), Ended::ByPeer));
    assert!(pair.server.accept().await.is_none());
}

#[tokio::test]
async fn a_parked_stream_is_used_again_by_its_own_target_alone() {
    let pair = Pair::start();
    let (mut near, mut far) = pair.opened().await;
    near.write_all(b"1").await.unwrap();
    near.park(&"http.api.shop.weft.local".into());
    assert_eq!((pair.client.streams(), pair.client.busy()), (1, 0));
    assert!(
        pair.client
            .reuse(&"http.orders.shop.weft.local".into())
            .is_none()
    );
    let mut again = pair
        .client
        .reuse(&"http.api.shop.weft.local".into())
        .unwrap();
    assert_eq!((pair.client.streams(), pair.client.busy()), (1, 1));
    again.write_all(b"2").await.unwrap();
    let mut read = [0; 2];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"12");
    // What the server ended is not used again, nor what it spoke on unasked.
    again.park(&"a".into());
    far.write_all(b"unasked").await.unwrap();
    until(|| pair.client.reuse(&"a".into()).is_none()).await;
    drop(far);
    until(|| pair.client.streams() == 0).await;
}

#[tokio::test]
async fn parked_streams_do_not_keep_a_connection_that_goes_away() {
    let pair = Pair::start();
    let (near, far) = pair.opened().await;
    near.park(&"a".into());
    pair.server.go_away();
    until(|| !pair.client.is_open()).await;
    drop(far);
    assert!(matches!(pair.client_runs.await.unwrap(), Ended::Done));
}

#[tokio::test]
async fn a_stream_that_was_reset_does_not_end_the_next_one_of_its_number() {
    let pair = Pair::start();
    let (old, far) = pair.opened().await;
    crate::tcp::Reset::reset(&old);
    drop(far);
    until(|| pair.client.streams() == 0).await;
    let (mut near, mut far) = pair.opened().await;
    drop(old);
    near.write_all(b"whole").await.unwrap();
    far.read_exact(&mut [0; 5]).await.unwrap();
    far.write_all(b"too").await.unwrap();
    near.read_exact(&mut [0; 3]).await.unwrap();
}

#[tokio::test]
async fn streams_hear_of_the_end_of_their_connection() {
    let pair = Pair::start();
    let (mut near, mut far) = pair.opened().await;
    pair.client.abort();
    assert!(near.read_u8().await.is_err());
    assert!(near.write_all(b"x").await.is_err());
    assert!(far.read_u8().await.is_err());
}

#[tokio::test]
async fn row_16_what_is_no_weft_1_ends_the_connection() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        // Data, an end and credit for slots that nobody opened.
        &[2, 0, 0, 1, 0, 0, 0, 1, 0],
        &[3, 0, 0, 9, 0, 0, 0, 0],
        &[6, 0, 0, 1, 0, 0, 0, 9],
        // An opening twice, one without a name, one beyond the last slot.
        &[
            1, 0, 0, 1, 0, 0, 0, 2, 1, b'a', 1, 0, 0, 1, 0, 0, 0, 2, 1, b'a',
        ],
        &[1, 0, 0, 1, 0, 0, 0, 0],
        &[1, 0, 4, 1, 0, 0, 0, 2, 1, b'a'],
        // A slot again that is reset and still served: resets in a flood would open more than the limit.
        &[
            1, 0, 0, 1, 0, 0, 0, 2, 1, b'a', 5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 2, 1,
            b'a',
        ],
        // A last word twice.
        &[
            1, 0, 0, 1, 0, 0, 0, 2, 1, b'a', 5, 0, 0, 1, 0, 0, 0, 0, 5, 0, 0, 1, 0, 0, 0, 0,
        ],
    ] {
        let (mut near, far) = duplex(1024);
        let (server, runs) = end(Role::Server, far);
        near.write_all(bytes).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), runs).await;
        let ended = ended.expect("it ends").unwrap();
        assert!(matches!(ended, Ended::Fault(_)), "{ended:?} {bytes:?}");
        while server.accept().await.is_some() {}
    }
}

#[tokio::test]
async fn row_16_who_sends_without_credit_ends_the_connection() {
    let (mut near, far) = duplex(1024 * 1024);
    let (server, runs) = end(Role::Server, far);
    near.write_all(&[1, 0, 0, 1, 0, 0, 0, 2, 1, b'a'])
        .await
        .unwrap();
    let _held = server.accept().await.expect("a stream");
    let block = [2, 0, 0, 1, 0, 0, 0x40, 0];
    for _ in 0..5 {
        near.write_all(&block).await.unwrap();
        near.write_all(&[0; 0x4000]).await.unwrap();
    }
    assert!(matches!(runs.await.unwrap(), Ended::Fault(_)));
}

#[tokio::test]
async fn row_11_who_asks_and_does_not_read_the_answers_ends_the_connection() {
    let (mut near, far) = duplex(1024);
    let (_server, runs) = end(Role::Server, far);
    let flood = [8, 0, 0, 0, 0, 0, 0, 0].repeat(128);
    let flooding = async {
        let mut sent = 0;
        while near.write_all(&flood).await.is_ok() {
            sent += flood.len();
            assert!(sent < 16 * 1024 * 1024, "it goes on");
        }
    };
    tokio::time::timeout(Duration::from_secs(10), flooding)
        .await
        .expect("it ends");
    assert!(matches!(
        runs.await.unwrap(),
        Ended::Fault(super::frame::Fault::Flood)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_is_noticed_while_a_stream_is_open() {
    let (near, _far) = duplex(1024);
    let (client, runs) = end(Role::Client, near);
    let mut stream = client.open(Carried::Http1, "a").unwrap();
    assert!(stream.read_u8().await.is_err());
    assert!(matches!(runs.await.unwrap(), Ended::Silent));
}

#[tokio::test(start_paused = true)]
async fn row_11_a_peer_that_opens_nothing_is_not_kept() {
    let (_peer, io) = duplex(1024);
    let (_server, mut runs) = end(Role::Server, io);
    let early = tokio::time::timeout(IDLE_TIMEOUT, &mut runs).await;
    assert!(early.is_err(), "it may be silent for a while");
    let ended = tokio::time::timeout(IDLE_TIMEOUT, runs).await;
    assert!(matches!(ended.unwrap().unwrap(), Ended::Idle));
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("it never came to be");
}

#[tokio::test]
async fn a_refused_stream_tells_the_client_which_decision_refused_it() {
    let pair = Pair::start();
    let (mut near, far) = pair.opened().await;
    let decision = DecisionId::read(*b"01ARYZ6S410000000000000000").unwrap();
    far.refuse(decision);
    let error = near.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(near.refused(), Some(decision));
    drop(near);
    // The slot is free again at both ends, and its next use has nothing of it.
    let (mut near, mut far) = pair.opened().await;
    assert_eq!(near.refused(), None);
    far.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    near.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[test]
fn row_16_a_refusal_without_an_id_or_a_slot_is_a_fault() {
    let receive = |bytes: &[u8]| {
        let mut state = State::new(Role::Client);
        state.open(Carried::Tcp, "a").unwrap();
        state.receive(bytes)
    };
    let frame = |slot: u8, id: &[u8]| [&[10, 0, 0, slot, 0, 0, 0, 26], id].concat();
    let id = b"01ARYZ6S410000000000000000";
    assert_eq!(receive(&frame(1, id)), Ok(()));
    assert_eq!(receive(&frame(1, &[b'\n'; 26])), Err(Fault::Refusal));
    assert_eq!(receive(&frame(2, id)), Err(Fault::Slot));
    let twice = [frame(1, id), frame(1, id)].concat();
    assert_eq!(receive(&twice), Err(Fault::Slot));
}
