//! How long a connection waits for its peer, and what its end is taken for.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::cost::Memory;
use crate::http::IDLE_TIMEOUT;
use crate::http1::Side;
use crate::http2::{Ended, Http2, Http2Stream, run};
use crate::stream::Stream;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A side that is served, and its peer's end.
pub(super) fn start(role: Role) -> (Http2, Memory, JoinHandle<Ended>) {
    let (here, there) = Memory::pair(&Default::default(), &Default::default());
    let http2 = Http2::new(role, LIMITS);
    let served = http2.clone();
    let side = Side::new(Stream::Memory(here));
    let task = tokio::spawn(async move { run(&served, side, PATIENCE).await });
    (http2, there, task)
}

/// A server whose client has said hello.
async fn greeted() -> (Http2, Memory, JoinHandle<Ended>) {
    let (http2, mut peer, task) = start(Role::Server);
    peer.write_all(PREFACE).await.expect("a write");
    peer.write_all(&of(Kind::Settings, 0, 0, b""))
        .await
        .expect("a write");
    (http2, peer, task)
}

async fn served(stream: &mut Http2Stream) -> String {
    let mut text = vec![0; 1000];
    let count = stream.read(&mut text).await.expect("a request");
    String::from_utf8_lossy(&text[..count]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn row_11_what_a_peer_began_must_come_to_its_end_soon() {
    let hello = [PREFACE, &of(Kind::Settings, 0, 0, b"")].concat();
    let unfinished = of(Kind::Headers, 0, 1, &block(&ask("GET", "/")));
    for (what, bytes) in [
        ("nothing", vec![]),
        ("half a preface", PREFACE[..9].to_vec()),
        ("no settings", PREFACE.to_vec()),
        ("half a header block", [&hello[..], &unfinished].concat()),
        ("half a frame", [&hello[..], &get(1, "/")[..12]].concat()),
        (
            "half a frame's header",
            [&hello[..], &get(1, "/")[..5]].concat(),
        ),
    ] {
        let began = Instant::now();
        let (_http2, mut peer, task) = start(Role::Server);
        peer.write_all(&bytes).await.expect("a write");
        let ended = task.await.expect("no panic");
        assert!(matches!(ended, Ended::Late), "{what}: {ended}");
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn content_may_come_as_slowly_as_it_likes() {
    let (http2, mut peer, task) = greeted().await;
    peer.write_all(&post(1, "/")).await.expect("a write");
    let mut stream = http2.accept().await.expect("a stream");
    served(&mut stream).await;
    let frame = data(1, true, b"slow");
    let (header, content) = frame.split_at(HEADER);
    peer.write_all(header).await.expect("a write");
    for byte in content.iter().copied() {
        tokio::time::sleep(PATIENCE * 2).await;
        peer.write_all(&[byte]).await.expect("a write");
        tokio::task::yield_now().await;
    }
    assert!(served(&mut stream).await.contains("slow"));
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn row_11_a_connection_that_nobody_uses_ends_also_when_it_was_used_once() {
    for uses in [false, true] {
        let (http2, mut peer, task) = greeted().await;
        if uses {
            peer.write_all(&get(1, "/")).await.expect("a write");
            let mut stream = http2.accept().await.expect("a stream");
            served(&mut stream).await;
            stream.write_all(OK).await.expect("an answer");
            // Whoever serves it waits for the next request for a while, and then goes.
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        }
        let began = Instant::now();
        let ended = timeout(IDLE_TIMEOUT * 10, task).await.expect("it ends");
        assert!(matches!(ended, Ok(Ended::Late)), "used: {uses}");
        assert!(began.elapsed() <= IDLE_TIMEOUT + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn row_11_a_client_that_answers_no_goodbye_gets_no_streams_for_ever() {
    let (http2, mut peer, task) = greeted().await;
    let serving = http2.clone();
    tokio::spawn(async move {
        while let Some(mut stream) = serving.accept().await {
            served(&mut stream).await;
            stream.write_all(OK).await.expect("an answer");
        }
    });
    http2.go_away();
    let began = Instant::now();
    let mut stream = 1;
    while !task.is_finished() && began.elapsed() < 10 * PATIENCE {
        // One is always open.
        let _ = peer
            .write_all(&[post(stream + 2, "/"), data(stream, true, b"")].concat())
            .await;
        if stream == 1 {
            let _ = peer.write_all(&post(1, "/")).await;
        }
        stream += 2;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() <= 2 * PATIENCE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_in_the_midst_of_a_message_is_an_error_and_no_end() {
    let (http2, mut peer, task) = greeted().await;
    peer.write_all(&post(1, "/")).await.expect("a write");
    peer.write_all(&data(1, false, b"part"))
        .await
        .expect("a write");
    let mut stream = http2.accept().await.expect("a stream");
    served(&mut stream).await;
    drop(peer);
    assert!(matches!(task.await, Ok(Ended::ByPeer)));
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).await.is_err());
    assert!(http2.accept().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_peer_at_fault_is_told_why() {
    let (_http2, mut peer, task) = greeted().await;
    peer.write_all(&get(3, "/")).await.expect("a write");
    peer.write_all(&data(5, false, b"x"))
        .await
        .expect("a write");
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.expect("its goodbye");
    let mut goodbye = Vec::new();
    frame::go_away(3, Code::Protocol, &mut goodbye);
    assert!(said.ends_with(&goodbye));
    assert!(matches!(task.await, Ok(Ended::Fault(_))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_aborted_ends_everything_on_it() {
    let (http2, mut peer, task) = greeted().await;
    peer.write_all(&post(1, "/")).await.expect("a write");
    let mut stream = http2.accept().await.expect("a stream");
    served(&mut stream).await;
    http2.abort();
    assert!(matches!(
        timeout(PATIENCE, task).await,
        Ok(Ok(Ended::Aborted))
    ));
    assert!(stream.read_u8().await.is_err());
    assert!(stream.write_all(OK).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_in_the_midst_of_a_turn_is_heard() {
    for spins in 0..400 {
        let (http2, mut peer, task) = greeted().await;
        tokio::task::yield_now().await;
        // The bytes begin a turn on the other worker; the abort comes at some moment of it.
        peer.write_all(&of(Kind::Ping, 0, 0, &[0; 8]).repeat(50))
            .await
            .expect("a write");
        for _ in 0..spins * 20 {
            std::hint::spin_loop();
        }
        http2.abort();
        let ended = timeout(PATIENCE / 2, task).await;
        assert!(ended.is_ok(), "it goes on after {spins} spins");
        drop(peer);
    }
}
