//! Bytes: each direction ends by itself, and nothing is lost or changed.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rows_data_path::apps::App;
use crate::rows_data_path::shop::{LIMIT, Shop, read_rest, rule};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_its_direction_first_still_gets_the_other() {
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let app = App::each(move |mut stream| {
        let kept = Arc::clone(&kept);
        async move {
            let first = stream.read_u8().await.unwrap_or_default();
            if first == b's' {
                let _ = stream.write_all(b"the server is done").await;
                let _ = stream.shutdown().await;
            }
            let mut all = vec![first];
            read_rest(&mut stream, &mut all).await;
            let answer = format!("got {}", all.len());
            kept.lock().expect("nobody panicked").extend(all);
            if first == b'c' {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    let shop = shop(&app).await;

    let mut stream = shop.through("raw").await;
    stream.write_all(b"client first").await.expect("it is read");
    stream.shutdown().await.expect("a half-close");
    assert_eq!(rest(&mut stream).await, b"got 12");

    heard.lock().expect("nobody panicked").clear();
    let mut stream = shop.through("raw").await;
    stream.write_all(b"server").await.expect("it is read");
    assert_eq!(rest(&mut stream).await, b"the server is done");
    stream
        .write_all(b" first, and more")
        .await
        .expect("it is read");
    stream.shutdown().await.expect("a half-close");
    weft_tests::eventually("what comes after the server's end arrives", || {
        let heard = heard.lock().expect("nobody panicked").clone();
        async move {
            if heard == b"server first, and more" {
                Ok(())
            } else {
                Err(heard)
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_pass_both_ways_at_once_and_arrive_as_they_were() {
    let app = App::echo().await;
    let shop = shop(&app).await;
    let (mut read, mut write) = shop.through("raw").await.into_split();
    let passed = tokio::time::timeout(4 * LIMIT, async {
        tokio::join!(send_noise(&mut write, 64 << 20), receive(&mut read))
    });
    let (sent, received) = passed.await.expect("in time");
    assert_eq!(received.1, 64 << 20);
    assert_eq!(sent, received.0, "its digest");
}

/// Writes so many bytes that look random, and ends; their digest.
pub(super) async fn send_noise(write: &mut (impl AsyncWrite + Unpin), count: usize) -> Vec<u8> {
    let mut block = vec![0; 1 << 20];
    aws_lc_rs::rand::fill(&mut block).expect("random bytes");
    let mut digest = Context::new(&SHA256);
    for number in 0..count / block.len() {
        // No two blocks are alike, so that a lost or moved one shows.
        block[..8].copy_from_slice(&number.to_be_bytes());
        digest.update(&block);
        write.write_all(&block).await.expect("it is read");
    }
    write.shutdown().await.expect("a half-close");
    digest.finish().as_ref().to_vec()
}

/// Reads to the end; digest and count.
pub(super) async fn receive(read: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, usize) {
    let mut digest = Context::new(&SHA256);
    let (mut buffer, mut total) = (vec![0; 64 * 1024], 0);
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        digest.update(&buffer[..count]);
        total += count;
    }
    (digest.finish().as_ref().to_vec(), total)
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LIMIT, read_rest(stream, &mut rest));
    read.await.expect("its direction ends");
    rest
}

async fn shop(app: &App) -> Shop {
    Shop::start(&[("raw", "tcp", app.address)], &rule("raw", "raw", "")).await
}
