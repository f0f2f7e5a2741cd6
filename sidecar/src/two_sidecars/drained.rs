//! A client's sidecar that drains: whoever was taken is answered, and nothing that was opened for that outlasts it.

use super::*;

#[tokio::test]
async fn a_connection_that_is_dialled_while_draining_ends_with_what_it_was_dialled_for() {
    let mesh = Pair::start(Protocol::Http, RULE).await;
    let mut taken = TcpStream::connect(mesh.upstream).await.unwrap();
    let patience = tokio::time::timeout(LONG, async {
        while mesh.places_of_the_application() == 0 {
            tokio::task::yield_now().await;
        }
    });
    patience.await.expect("it is not taken");

    let tasks = mesh.client.tasks.clone();
    let draining = tokio::spawn(async move { tasks.drain(LONG).await });
    while TcpStream::connect(mesh.upstream).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Also the pool hears now that nothing new should begin.
    tokio::time::sleep(Duration::from_millis(10)).await;
    taken
        .write_all(b"GET /orders/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let answer = read_until(&mut taken, b"body=\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(taken);
    assert_eq!(draining.await.unwrap().connections_cut, 0);
}
